//! What is protected and where: [`Engine`], [`Region`], [`Source`].

use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// Which managed service. The word in a URL is `rds`, `aurora` or `docdb`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Engine {
    /// An RDS instance for PostgreSQL (a Multi-AZ DB *cluster* of RDS is not one).
    Rds,
    /// An Aurora cluster, PostgreSQL edition.
    Aurora,
    /// A DocumentDB cluster (instance based; elastic clusters have another API).
    #[serde(rename = "docdb")]
    DocumentDb,
}

impl Engine {
    pub const ALL: [Engine; 3] = [Engine::Rds, Engine::Aurora, Engine::DocumentDb];

    pub fn scheme(self) -> &'static str {
        match self {
            Engine::Rds => "rds",
            Engine::Aurora => "aurora",
            Engine::DocumentDb => "docdb",
        }
    }

    /// A cluster with instances, as opposed to an instance by itself.
    pub fn is_cluster(self) -> bool {
        self != Engine::Rds
    }

    /// The name that AWS Backup has for a resource of this kind.
    pub fn backup_resource_type(self) -> &'static str {
        match self {
            Engine::Rds => "RDS",
            Engine::Aurora => "Aurora",
            Engine::DocumentDb => "DocumentDB",
        }
    }

    /// Of AWS's engine name, such as `aurora-postgresql`. `None` for engines that Holdfast does not protect.
    pub fn of_name(name: &str, in_cluster: bool) -> Option<Engine> {
        match (name, in_cluster) {
            ("docdb", _) => Some(Engine::DocumentDb),
            ("aurora-postgresql", _) => Some(Engine::Aurora),
            ("postgres", false) => Some(Engine::Rds),
            _ => None,
        }
    }
}

impl fmt::Display for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Engine::Rds => "RDS",
            Engine::Aurora => "Aurora",
            Engine::DocumentDb => "DocumentDB",
        })
    }
}

/// Why a text is not a region or a source.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SourceError {
    #[error("`{0}` is not the name of a region")]
    Region(String),
    #[error("`{0}` is not the identifier of a database")]
    Id(String),
    #[error("`{0}` is not a managed source")]
    Url(String),
}

impl SourceError {
    pub fn hint(&self) -> &'static str {
        match self {
            SourceError::Region(_) => "Regions look like us-east-1, eu-central-1 or us-gov-west-1.",
            SourceError::Id(_) => {
                "Identifiers have up to 63 letters, digits and single hyphens, and begin with a letter."
            }
            SourceError::Url(_) => {
                "Write rds://us-east-1/shop, aurora://us-east-1/shop or docdb://us-east-1/shop."
            }
        }
    }
}

/// The name of a region, such as `us-east-1`. Not checked against a list: AWS opens new ones.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Region(String);

impl Region {
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Region {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl FromStr for Region {
    type Err = SourceError;
    fn from_str(s: &str) -> Result<Self, SourceError> {
        let parts: Vec<&str> = s.split('-').collect();
        let words = parts.len() >= 3
            && parts.iter().rev().skip(1).all(|p| !p.is_empty() && p.bytes().all(|b| b.is_ascii_lowercase()));
        let number = parts.last().is_some_and(|p| !p.is_empty() && p.bytes().all(|b| b.is_ascii_digit()));
        if words && number && s.len() <= 32 {
            Ok(Region(s.to_string()))
        } else {
            Err(SourceError::Region(s.to_string()))
        }
    }
}

impl From<Region> for String {
    fn from(v: Region) -> String {
        v.0
    }
}

impl TryFrom<String> for Region {
    type Error = SourceError;
    fn try_from(s: String) -> Result<Self, SourceError> {
        s.parse()
    }
}

/// A managed database: engine, region, identifier. Written `rds://REGION/ID`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Source {
    pub engine: Engine,
    pub region: Region,
    /// Instance or cluster identifier, lower case as AWS keeps it.
    pub id: String,
}

/// True for what RDS takes as an identifier of an instance or cluster.
fn is_identifier(s: &str) -> bool {
    (1..=63).contains(&s.len())
        && s.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
        && s.as_bytes().first().is_some_and(u8::is_ascii_alphabetic)
        && !s.ends_with('-')
        && !s.contains("--")
}

impl Source {
    pub fn new(engine: Engine, region: Region, id: &str) -> Result<Self, SourceError> {
        if !is_identifier(id) {
            return Err(SourceError::Id(id.to_string()));
        }
        Ok(Source { engine, region, id: id.to_ascii_lowercase() })
    }

    /// The same engine and region, another identifier.
    pub fn named(&self, id: &str) -> Result<Self, SourceError> {
        Source::new(self.engine, self.region.clone(), id)
    }

    /// The same engine and identifier, another region.
    pub fn in_region(&self, region: &Region) -> Self {
        Source { region: region.clone(), ..self.clone() }
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}/{}", self.engine.scheme(), self.region, self.id)
    }
}

impl FromStr for Source {
    type Err = SourceError;
    fn from_str(s: &str) -> Result<Self, SourceError> {
        let bad = || SourceError::Url(s.to_string());
        let (scheme, rest) = s.split_once("://").ok_or_else(bad)?;
        let engine = Engine::ALL.into_iter().find(|e| e.scheme() == scheme).ok_or_else(bad)?;
        let (region, id) = rest.trim_end_matches('/').split_once('/').ok_or_else(bad)?;
        Source::new(engine, region.parse()?, id)
    }
}

impl From<Source> for String {
    fn from(v: Source) -> String {
        v.to_string()
    }
}

impl TryFrom<String> for Source {
    type Error = SourceError;
    fn try_from(s: String) -> Result<Self, SourceError> {
        s.parse()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sources_are_their_own_parser() {
        for text in ["rds://us-east-1/shop", "aurora://eu-central-1/a-b", "docdb://us-gov-west-1/x"] {
            assert_eq!(text.parse::<Source>().unwrap().to_string(), text);
        }
        assert_eq!("rds://us-east-1/Shop".parse::<Source>().unwrap().id, "shop");
        for text in [
            "rds://us-east-1",
            "rds://useast1/x",
            "s3://us-east-1/x",
            "rds://us-east-1/a--b",
            "rds://us-east-1/1a",
            "rds://us-east-1/a/b",
            "rds://us-east-1/a-",
            "shop",
        ] {
            assert!(text.parse::<Source>().is_err(), "{text}");
        }
    }
}
