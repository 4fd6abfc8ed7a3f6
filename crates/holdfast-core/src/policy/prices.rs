//! `[prices]`: figures that replace the built-in ones of [`crate::prices`], one by one.

use super::StorageClass;
use super::file::{PricesSection, RetrievalSection, S3PricesSection, Text, list};
use super::locate::nearest;
use super::resolve::Resolver;
use crate::prices::s3::{S3Prices, Speed};
use crate::prices::{Prices, RdsPrices};
use std::fmt::Display;
use std::str::FromStr;
use toml::Spanned;

impl Resolver<'_> {
    pub(super) fn prices(&mut self, w: &PricesSection) -> Prices {
        let s3 = self.s3_prices(&w.s3);
        let managed = RdsPrices::read(&w.managed, &mut |at, message, hint| self.problem(at, message, hint));
        Prices { s3, managed }
    }

    fn s3_prices(&mut self, w: &S3PricesSection) -> S3Prices {
        let mut out = S3Prices::default();
        if let Some(date) = &w.date {
            if date.get_ref().parse::<jiff::civil::Date>().is_err() {
                let message = format!("`{}` is not a day", date.get_ref());
                self.problem(date.span(), message, "Write the day of the figures, such as `\"2026-11-21\"`.");
            }
            out.date.clone_from(date.get_ref());
        }
        if let Some(region) = &w.region {
            out.region.clone_from(region.get_ref());
        }
        for (name, price) in &w.storage {
            if let (Some(class), Some(price)) =
                (self.key::<StorageClass>(name, &StorageClass::words()), self.price(Some(price)))
            {
                out.storage.insert(class, price);
            }
        }
        for (name, speeds) in &w.retrieval {
            let Some(class) = self.key::<StorageClass>(name, &StorageClass::words()) else { continue };
            for (speed, section) in speeds {
                let words = Speed::ALL.map(Speed::as_str);
                let Some(known) = self.key::<Speed>(speed, &words) else { continue };
                let Some(r) = out.retrieval.get_mut(&(class, known)) else {
                    let message = format!("nothing is retrieved from `{class}` at the speed `{known}`");
                    self.problem(speed.span(), message, "Take it out.");
                    continue;
                };
                let mut changed = *r;
                self.retrieval(section, &mut changed);
                *r = changed;
            }
        }
        out
    }

    fn retrieval(&mut self, w: &RetrievalSection, r: &mut crate::prices::s3::Retrieval) {
        r.per_gb = self.price(w.per_gb.as_ref()).unwrap_or(r.per_gb);
        r.per_1000_requests = self.price(w.per_1000_requests.as_ref()).unwrap_or(r.per_1000_requests);
        r.from = self.duration(w.from.as_ref()).unwrap_or(r.from);
        r.to = self.duration(w.to.as_ref()).unwrap_or(r.to);
        if let (Some(at), true) = (w.from.as_ref().or(w.to.as_ref()), r.from > r.to) {
            self.problem(at.span(), "`from` is longer than `to`", "Write both, the shorter one as `from`.");
        }
    }

    /// A key that stands for one of a few things.
    fn key<T: FromStr<Err = String> + Display>(&mut self, name: &Text, known: &[&str]) -> Option<T> {
        match name.get_ref().parse() {
            Ok(v) => Some(v),
            Err(message) => {
                let hint = match nearest(name.get_ref(), known.iter().copied()) {
                    Some(k) => format!("Did you mean `{k}`?"),
                    None => format!("There is {}.", list(known)),
                };
                self.problem(name.span(), message, hint);
                None
            }
        }
    }

    /// US dollars, not less than nothing.
    fn price(&mut self, written: Option<&Spanned<f64>>) -> Option<f64> {
        let w = written?;
        let price = *w.get_ref();
        if price.is_finite() && (0.0..=1e6).contains(&price) {
            return Some(price);
        }
        self.problem(w.span(), format!("`{price}` is not a price"), "Write US dollars, such as 0.0036.");
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::Policy;
    use crate::time::Duration;
    use std::path::Path;

    const HEAD: &str = "version = 1\n[databases.a]\nsource = \"host=/run/postgresql\"\npolicy = \"p\"\n\
                        [vaults.v]\nurl = \"file:///v\"\nkey-file = \"k\"\n[policies.p]\n";

    fn prices(text: &str) -> Result<S3Prices, String> {
        let parsed = Policy::parse(&format!("{HEAD}{text}"), Path::new("/p.toml"));
        parsed.map(|p| p.prices.s3).map_err(|e| e.to_string())
    }

    #[test]
    fn what_is_not_written_stays() {
        assert_eq!(prices("").unwrap(), S3Prices::default());
        let p = prices(
            "[prices.s3]\ndate = \"2026-11-01\"\nregion = \"eu-central-1\"\n\
             storage = { standard = 1, deep-archive = 0.0018 }\n\
             [prices.s3.retrieval.glacier]\nstandard = { per-gb = 0.012, to = \"4h\" }\n",
        )
        .unwrap();
        assert_eq!((p.date.as_str(), p.region.as_str()), ("2026-11-01", "eu-central-1"));
        let of = |class| p.storage(class);
        assert_eq!((of(StorageClass::Standard), of(StorageClass::DeepArchive)), (1.0, 0.0018));
        assert_eq!(of(StorageClass::Glacier), S3Prices::default().storage(StorageClass::Glacier));
        let r = p.retrieval(StorageClass::Glacier, Speed::Standard).unwrap();
        assert_eq!((r.per_gb, r.per_1000_requests), (0.012, 0.05));
        assert_eq!((r.from, r.to), (Duration(3 * 3600), Duration(4 * 3600)));
    }

    #[test]
    fn mistakes_are_told() {
        for (text, says) in [
            ("[prices.s3.storage]\nglacer = 1.0\n", "10:1: `glacer` is not a storage class"),
            ("[prices.s3.storage]\nglacier = -1.0\n", "10:11: `-1` is not a price"),
            ("[prices.s3.storage]\nglacier = \"1\"\n", "takes a number, not text"),
            ("[prices.s3]\ndate = \"now\"\n", "10:8: `now` is not a day"),
            ("[prices.s3.retrieval.glacier.fast]\nper-gb = 1\n", "`fast` is not a speed"),
            ("[prices.s3.retrieval.deep-archive.expedited]\nper-gb = 1\n", "nothing is retrieved"),
            ("[prices.s3.retrieval.glacier.bulk]\nfrom = \"2d\"\n", "`from` is longer than `to`"),
            ("[prices.rds]\nx = 1\n", "unknown key `rds`"),
        ] {
            let e = prices(text).unwrap_err();
            assert!(e.contains(says), "{text}: {e}");
        }
    }
}
