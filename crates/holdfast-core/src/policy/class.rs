//! What a byte costs by the month and by the read: [`StorageClass`] of a vault on S3.

use std::fmt;
use std::str::FromStr;

/// `storage-class` of a vault: the classes of S3, by their usual names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum StorageClass {
    Standard,
    StandardIa,
    OnezoneIa,
    IntelligentTiering,
    GlacierIr,
    Glacier,
    DeepArchive,
}

use StorageClass as C;

/// Class, as the policy writes it, as S3 does, and for how many days an object is paid at least.
const TABLE: [(StorageClass, &str, &str, u16); 7] = [
    (C::Standard, "standard", "STANDARD", 0),
    (C::StandardIa, "standard-ia", "STANDARD_IA", 30),
    (C::OnezoneIa, "onezone-ia", "ONEZONE_IA", 30),
    (C::IntelligentTiering, "intelligent-tiering", "INTELLIGENT_TIERING", 0),
    (C::GlacierIr, "glacier-ir", "GLACIER_IR", 90),
    (C::Glacier, "glacier", "GLACIER", 90),
    (C::DeepArchive, "deep-archive", "DEEP_ARCHIVE", 180),
];

impl StorageClass {
    fn row(self) -> (&'static str, &'static str, u16) {
        TABLE.iter().find(|(c, ..)| *c == self).map_or(("standard", "STANDARD", 0), |(_, a, b, d)| (a, b, *d))
    }

    /// As the policy writes it.
    pub fn as_str(self) -> &'static str {
        self.row().0
    }

    /// As S3 calls it.
    pub fn api_name(self) -> &'static str {
        self.row().1
    }

    /// Of the name that S3 gives it.
    pub fn of_api_name(name: &str) -> Option<Self> {
        TABLE.iter().find(|(_, _, api, _)| *api == name).map(|(c, ..)| *c)
    }

    /// An object that is deleted sooner is paid for as if it had stayed so many days.
    pub fn minimum_days(self) -> u16 {
        self.row().2
    }

    /// Nothing of this class can be read before it was retrieved, which takes hours: the vault is cold.
    pub fn is_archive(self) -> bool {
        matches!(self, C::Glacier | C::DeepArchive)
    }

    /// All names, for hints.
    pub(super) fn words() -> Vec<&'static str> {
        TABLE.iter().map(|(_, word, ..)| *word).collect()
    }
}

impl fmt::Display for StorageClass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl serde::Serialize for StorageClass {
    fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str(self.as_str())
    }
}

impl FromStr for StorageClass {
    type Err = String;
    fn from_str(s: &str) -> Result<Self, String> {
        let found = TABLE.iter().find(|(_, word, ..)| *word == s);
        found.map(|(c, ..)| *c).ok_or_else(|| format!("`{s}` is not a storage class"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_class_reads_back() {
        for (class, word, api, days) in TABLE {
            assert_eq!(word.parse(), Ok(class));
            assert_eq!((class.to_string().as_str(), class.api_name()), (word, api));
            assert_eq!((class.minimum_days(), StorageClass::of_api_name(api)), (days, Some(class)));
        }
        for bad in ["", "STANDARD_IA", "standard_ia", "reduced-redundancy", "cold"] {
            assert!(bad.parse::<StorageClass>().is_err(), "{bad}");
        }
        assert!(C::DeepArchive.is_archive() && C::Glacier.is_archive() && !C::GlacierIr.is_archive());
    }
}
