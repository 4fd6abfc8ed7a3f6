//! `check`: is everything in the vaults what it was when it was written?

use crate::context::{Context, open_vault};
use crate::error::{EngineError, Result};
use holdfast_core::Monitor;
use holdfast_vault::check::{CheckReport, Finding, check_cluster, check_descriptor, is_original};
use holdfast_vault::names::DESCRIPTOR;
use holdfast_vault::store::versions::Hidden;
use holdfast_vault::{StoreErrorKind, Vault, VaultError};

/// The report of one cluster in one vault.
#[derive(Debug, Clone)]
pub struct ClusterCheck {
    pub vault: String,
    /// `-` for the descriptor, which belongs to all of them.
    pub cluster: String,
    pub report: CheckReport,
}

/// What lies over the objects of one vault.
#[derive(Debug)]
pub struct Covered {
    pub vault: String,
    opened: Vault,
    pub hidden: Vec<Hidden>,
}

/// Finds what somebody put over objects, in the vaults of the database: one listing of its folder, of the keys
/// and of the descriptor.
pub async fn covered(ctx: &Context) -> Result<Vec<Covered>> {
    let mut out = Vec::new();
    for v in ctx.vaults()? {
        let opened = open_vault(&v).await?;
        let store = opened.store();
        if store.keeps_versions().await? {
            let _ = store.head(DESCRIPTOR).await?;
            for folder in ["keys".to_string(), format!("db/{}", ctx.db.name)] {
                let _ = store.list(&folder).await?;
            }
        }
        if store.blind() {
            return Err(EngineError::refused(
                format!("vault `{}` keeps versions, and this role may not list them", v.name),
                "allow s3:ListBucketVersions on the bucket, or use the credentials of somebody who may",
            ));
        }
        let hidden = store.hidden("");
        out.push(Covered { vault: v.name.clone(), opened, hidden });
    }
    Ok(out)
}

impl Covered {
    /// Removes it, so that other programs see the originals as well; (how many objects are open again, what the
    /// store refused).
    pub async fn uncover(&self, monitor: &dyn Monitor) -> Result<(u64, Vec<String>)> {
        let (mut done, mut refused) = (0, Vec::new());
        for h in &self.hidden {
            if monitor.cancelled() {
                return Err(EngineError::Cancelled);
            }
            if !is_original(&self.opened, h).await? {
                refused.push(format!(
                    "{}: its oldest version is none of this vault's, so nothing was removed: compare its versions \
                     by hand",
                    h.name
                ));
                continue;
            }
            match self.opened.store().uncover(h).await {
                Ok(()) => done += 1,
                Err(e @ VaultError::Locked { .. }) => refused.push(e.to_string()),
                Err(e) if e.store_kind() == Some(StoreErrorKind::Denied) => refused.push(e.to_string()),
                Err(e) => return Err(e.into()),
            }
        }
        Ok((done, refused))
    }
}

pub async fn run(ctx: &Context, fast: bool) -> Result<Vec<ClusterCheck>> {
    let vaults = ctx.vaults()?;
    let mut out = Vec::new();
    for v in &vaults {
        let vault = match open_vault(v).await {
            // The others are looked at all the same.
            Err(e) if vaults.len() > 1 => {
                let what = format!("the vault cannot be opened: {e}");
                let finding = Finding { name: DESCRIPTOR.into(), what, damage: true, hidden: false };
                let report = CheckReport { findings: vec![finding], ..Default::default() };
                out.push(ClusterCheck { vault: v.name.clone(), cluster: "-".into(), report });
                continue;
            }
            other => other?,
        };
        let report = check_descriptor(&vault).await?;
        if !report.findings.is_empty() {
            out.push(ClusterCheck { vault: v.name.clone(), cluster: "-".into(), report });
        }
        for path in vault.clusters(&ctx.db.name).await? {
            ctx.monitor.phase(&format!("checking {} in {}", path.cluster, v.name));
            let report = match vault.cluster(path.clone()).await {
                Ok(cluster) => check_cluster(&cluster, fast, &*ctx.monitor).await?,
                Err(e) if e.is_not_found() => CheckReport::missing(&path.record()),
                Err(e) => CheckReport::of_error(&path.record(), e)?,
            };
            out.push(ClusterCheck { vault: v.name.clone(), cluster: path.cluster.to_string(), report });
        }
    }
    Ok(out)
}
