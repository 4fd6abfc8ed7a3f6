//! Do copies keep up with what the policy says: `vault.<name>.copies`, `vault.<name>.missed-wal`.

use super::schedule::longest_pause;
use super::vault::Stock;
use super::{Line, count};
use crate::context::Context;
use crate::wal::fanout;
use holdfast_core::policy::Keep;
use holdfast_core::time::short;
use jiff::Timestamp;
use std::time::Duration;

pub(super) fn check(ctx: &Context, stocks: &[Stock]) -> Vec<Line> {
    let mut lines = Vec::new();
    let pause = longest_pause(&ctx.plan);
    let newest = |s: &Stock| s.newest.as_ref().map(|p| p.stop_time);
    let source = stocks.first().filter(|s| s.known).and_then(newest);
    for c in ctx.plan.copies.values() {
        let Some(stock) = stocks.iter().find(|s| s.vault == c.to && s.known) else { continue };
        if let Some(source) = source {
            let every = period(&c.keep).max(pause);
            lines.push(lag(&c.to, ctx.db.name.as_str(), source, newest(stock), every));
        }
    }
    if stocks.len() > 1 {
        lines.extend(stocks.iter().filter_map(|s| missed(&s.vault, fanout::waiting(ctx, &s.vault).len())));
    }
    lines
}

/// How often the rules want a point at most; `None` where they say nothing of time.
fn period(keep: &Keep) -> Option<Duration> {
    const DAY: u64 = 86_400;
    let spans = [
        (keep.hourly, 3_600),
        (keep.daily, DAY),
        (keep.weekly, 7 * DAY),
        (keep.monthly, 31 * DAY),
        (keep.yearly, 366 * DAY),
    ];
    // `last` and `window` want each point as it comes.
    if keep.last > 0 || keep.window.is_some() {
        return None;
    }
    spans.into_iter().find(|(n, _)| *n > 0).map(|(_, s)| Duration::from_secs(s))
}

fn lag(vault: &str, db: &str, source: Timestamp, copy: Option<Timestamp>, every: Option<Duration>) -> Line {
    let name = format!("vault.{vault}.copies");
    let hint = format!("run `holdfast copy {db} --to {vault}`, and see that its timer or cron line works");
    let Some(copy) = copy else {
        return Line::warn(&name, format!("vault `{vault}` has no copy of any point yet"), hint);
    };
    let behind = source.as_second().saturating_sub(copy.as_second()).max(0) as u64;
    let every = every.unwrap_or(Duration::from_secs(86_400));
    let text = format!("the newest point in vault `{vault}` is of {}", short(copy));
    // One missed run may be a coincidence; two are not.
    if behind > 2 * every.as_secs() {
        return Line::warn(&name, format!("{text}, and the newest there is of {}", short(source)), hint);
    }
    Line::ok(&name, text)
}

fn missed(vault: &str, waiting: usize) -> Option<Line> {
    (waiting > 0).then(|| {
        Line::warn(
            &format!("vault.{vault}.missed-wal"),
            format!("{} of the archive wait for vault `{vault}`", count(waiting as u64, "file")),
            "see what `wal push` says of it in the server's log; it catches up by itself once it answers",
        )
    })
}

#[cfg(test)]
mod tests {
    use super::super::Status;
    use super::*;

    #[test]
    fn a_copy_lags_after_two_periods_of_its_rules() {
        let keep = |daily, monthly| Keep { daily, monthly, ..Keep::default() };
        assert_eq!(period(&keep(7, 12)), Some(Duration::from_secs(86_400)));
        assert_eq!(period(&keep(0, 12)), Some(Duration::from_secs(31 * 86_400)));
        assert_eq!(period(&Keep { last: 3, ..keep(0, 12) }), None);
        let at = |day: i64| Timestamp::from_second(1_800_000_000 + day * 86_400).unwrap();
        let of = |days, every: Option<u64>| {
            lag("dr", "app", at(days), Some(at(0)), every.map(|d| Duration::from_secs(d * 86_400))).status
        };
        assert_eq!((of(2, Some(1)), of(3, Some(1))), (Status::Ok, Status::Warn));
        assert_eq!((of(60, Some(31)), of(63, Some(31))), (Status::Ok, Status::Warn));
        assert_eq!((of(2, None), of(3, None)), (Status::Ok, Status::Warn));
        let none = lag("dr", "app", at(0), None, None);
        assert!(none.status == Status::Warn && none.hint.unwrap().contains("copy app --to dr"));
        assert_eq!(missed("dr", 0), None);
        assert_eq!(missed("dr", 2).unwrap().name, "vault.dr.missed-wal");
    }
}
