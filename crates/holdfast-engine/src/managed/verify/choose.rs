//! What is verified: the newest snapshot, a named one, or a moment, which may be a random one.

use super::super::restore;
use crate::error::{EngineError, Result};
use crate::managed::Managed;
use crate::managed::observed;
use crate::managed::restore::At;
use holdfast_core::managed::{PointFilter, Region, RestorableWindow};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// What to restore and look at.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum What {
    /// The newest snapshot that is available in the region, whoever made it.
    #[default]
    Newest,
    /// By name or ARN.
    Snapshot(String),
    /// A moment of the source.
    Moment(At),
    /// Any second of the restorable window: over time all of it is tried, and not only its end.
    Random,
    /// A recovery point of AWS Backup.
    /// `None`: whichever vault of the region has it.
    RecoveryPoint { vault: Option<String>, arn: String },
}

/// As a restore understands it.
pub async fn resolve(m: &Managed, region: &Region, what: &What) -> Result<restore::What> {
    Ok(match what {
        What::Newest => restore::What::Newest,
        What::Snapshot(name) => restore::What::Snapshot(name.clone()),
        What::Moment(at) => restore::What::Moment { at: *at, backup: None },
        What::RecoveryPoint { vault, arn } => {
            let vault = match vault {
                Some(vault) => vault.clone(),
                None => vault_of(m, region, arn).await?,
            };
            restore::What::RecoveryPoint { vault, arn: arn.clone(), at: None }
        }
        What::Random => {
            let window = observed::look(m).await?.database.window;
            let moment = window.and_then(|w| random(&w));
            let Some(moment) = moment else {
                return Err(EngineError::refused(
                    format!("`{}` has no window of moments that can be restored", m.source),
                    "verify a snapshot instead, or wait for its first backup",
                ));
            };
            restore::What::Moment { at: At::Time(moment), backup: None }
        }
    })
}

/// The vault that holds a recovery point: no ARN says.
async fn vault_of(m: &Managed, region: &Region, arn: &str) -> Result<String> {
    for v in m.cloud.vaults(region).await? {
        let points = m.cloud.recovery_points(region, &v.name, &PointFilter::default()).await?;
        if points.iter().any(|p| p.arn == arn) {
            return Ok(v.name);
        }
    }
    Err(EngineError::not_found(
        format!("no vault of AWS Backup in {region} has a recovery point `{arn}`"),
        format!("`holdfast list {}` shows what every region has; --region says where to look", m.name),
    ))
}

fn random(w: &RestorableWindow) -> Option<Timestamp> {
    // A window may begin inside of a second.
    let first = w.earliest?.as_second() + i64::from(w.earliest?.subsec_nanosecond() > 0);
    let last = w.latest.as_second();
    (first <= last).then(|| rand::random_range(first..=last)).and_then(|s| Timestamp::from_second(s).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn random_moments_lie_in_the_window() {
        let t = |s: &str| Some(s.parse::<Timestamp>().unwrap());
        let w = |earliest, latest: &str| RestorableWindow { earliest, latest: latest.parse().unwrap() };
        let narrow = w(t("2026-11-21T00:00:00.5Z"), "2026-11-21T00:00:02.9Z");
        for _ in 0..100 {
            let at = random(&narrow).unwrap();
            assert!(narrow.contains(at) && at.subsec_nanosecond() == 0, "{at}");
        }
        assert_eq!(random(&w(None, "2026-11-21T00:00:00Z")), None);
        assert_eq!(random(&w(t("2026-11-21T00:00:01Z"), "2026-11-21T00:00:00Z")), None);
    }
}
