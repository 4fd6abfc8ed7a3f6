//! `check`: is everything in the vaults what it was when it was written?

use crate::context::{Context, open_vault};
use crate::error::Result;
use holdfast_vault::check::{CheckReport, Finding, check_cluster, check_descriptor};
use holdfast_vault::names::DESCRIPTOR;

/// The report of one cluster in one vault.
#[derive(Debug, Clone)]
pub struct ClusterCheck {
    pub vault: String,
    /// `-` for the descriptor, which belongs to all of them.
    pub cluster: String,
    pub report: CheckReport,
}

pub async fn run(ctx: &Context, fast: bool) -> Result<Vec<ClusterCheck>> {
    let vaults = ctx.vaults()?;
    let mut out = Vec::new();
    for v in &vaults {
        let vault = match open_vault(v).await {
            // The others are looked at all the same.
            Err(e) if vaults.len() > 1 => {
                let what = format!("the vault cannot be opened: {e}");
                let finding = Finding { name: DESCRIPTOR.into(), what, damage: true };
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
