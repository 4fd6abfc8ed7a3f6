//! Names: of a vault, a database in a policy, a cluster, a run.
//!
//! A **run id** is `20261121T093512Z-k3f9q2`: the second it started (UTC) and six random
//! characters. It sorts by time for a person with `ls`; the program never orders points by it
//! (clocks go backwards), only by LSN and by what the store says.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// Why a name was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{value}` is not a valid {what}: {rule}")]
pub struct IdError {
    pub what: &'static str,
    pub value: String,
    pub rule: &'static str,
}

macro_rules! id {
    ($(#[$doc:meta])* $name:ident, $what:literal, $rule:literal, $ok:expr) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }
        impl From<$name> for String {
            fn from(v: $name) -> String {
                v.0
            }
        }
        impl TryFrom<String> for $name {
            type Error = IdError;
            fn try_from(s: String) -> Result<Self, IdError> {
                let ok: fn(&str) -> bool = $ok;
                if ok(&s) {
                    Ok($name(s))
                } else {
                    Err(IdError { what: $what, value: s, rule: $rule })
                }
            }
        }
        impl FromStr for $name {
            type Err = IdError;
            fn from_str(s: &str) -> Result<Self, IdError> {
                Self::try_from(s.to_string())
            }
        }
    };
}

fn plain(s: &str, max: usize) -> bool {
    !s.is_empty()
        && s.len() <= max
        && s.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_' || b == b'.')
        && s.as_bytes().first().is_some_and(u8::is_ascii_alphanumeric)
}

id!(
    /// What the policy calls a database (`[databases.NAME]`); also a folder in the vault.
    DatabaseName, "database name",
    "use up to 63 letters, digits, `-`, `_` and `.`, starting with a letter or digit",
    |s| plain(s, 63)
);
id!(
    /// One cluster in a vault: its system identifier in decimal. `pg_upgrade` and `initdb` make new ones.
    ClusterId, "cluster id", "it is the decimal system identifier of a PostgreSQL cluster",
    |s| !s.is_empty() && s.len() <= 20 && s.bytes().all(|b| b.is_ascii_digit())
);
id!(
    /// One execution of anything; the id of a recovery point is the id of the run that made it.
    RunId, "run id", "it looks like 20261121T093512Z-k3f9q2",
    |s| {
        let b = s.as_bytes();
        b.len() == 23
            && b.iter().enumerate().all(|(i, c)| match i {
                8 => *c == b'T',
                15 => *c == b'Z',
                16 => *c == b'-',
                0..=15 => c.is_ascii_digit(),
                _ => c.is_ascii_lowercase() || c.is_ascii_digit(),
            })
    }
);
id!(
    /// A vault's identity: 32 hexadecimal digits, drawn when it is made, part of every seal.
    VaultId, "vault id", "it has 32 hexadecimal digits",
    |s| s.len() == 32 && s.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
);

/// Without 0, 1, l, o: these ids are read aloud at three in the morning.
const ALPHABET: &[u8] = b"23456789abcdefghijkmnpqrstuvwxyz";

impl RunId {
    /// A new id for a run that starts at `now`.
    pub fn generate(now: jiff::Timestamp) -> Self {
        let at = now.strftime("%Y%m%dT%H%M%SZ");
        let tail: String =
            (0..6).map(|_| char::from(ALPHABET[rand::random_range(0..ALPHABET.len())])).collect();
        RunId(format!("{at}-{tail}"))
    }

    /// An id with the time of this one and a tail that `bytes` decide: whoever derives it from the same
    /// gets the same.
    pub fn derived(&self, bytes: [u8; 6]) -> Self {
        let at = self.0.get(..16).unwrap_or_default();
        let letter = |b: u8| ALPHABET.get(usize::from(b) % ALPHABET.len()).copied().map_or('2', char::from);
        RunId(format!("{at}-{}", bytes.map(letter).iter().collect::<String>()))
    }
}

impl ClusterId {
    pub fn from_system_identifier(id: u64) -> Self {
        ClusterId(id.to_string())
    }

    /// The number itself.
    pub fn system_identifier(&self) -> u64 {
        self.0.parse().unwrap_or(0)
    }
}

impl VaultId {
    pub fn generate() -> Self {
        VaultId(format!("{:032x}", rand::random::<u128>()))
    }

    /// The 16 bytes that the digits stand for.
    pub fn bytes(&self) -> [u8; 16] {
        u128::from_str_radix(&self.0, 16).unwrap_or(0).to_be_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn run_ids_are_their_own_parser() {
        let id = RunId::generate("2026-11-21T09:35:12Z".parse().unwrap());
        assert!(id.as_str().starts_with("20261121T093512Z-"));
        assert_eq!(id.as_str().parse::<RunId>().unwrap(), id);
        assert!("20261121T093512Z-k3f9q".parse::<RunId>().is_err());
        let derived = id.derived([0, 31, 32, 255, 7, 9]);
        assert_eq!(derived.as_str().parse::<RunId>().unwrap(), derived);
        assert_eq!(derived.as_str().get(..17), id.as_str().get(..17));
        assert!("../../../etc/passwd.....".parse::<RunId>().is_err());
    }

    #[test]
    fn names_cannot_leave_their_folder() {
        for bad in ["", "..", ".hidden", "a/b", "a b", "-x", &"x".repeat(64)] {
            assert!(bad.parse::<DatabaseName>().is_err(), "{bad}");
        }
        assert!("orders-eu_1.main".parse::<DatabaseName>().is_ok());
    }
}
