//! `wal status`: what the archive holds, where it has holes, who owns it.

use super::archive::{Span, WalArchive};
use super::owner::owner_of;
use crate::away::{Away, each_vault};
use crate::context::{Context, open_vault};
use crate::error::Result;
use holdfast_core::policy;
use serde::Serialize;

/// One cluster's archive in one vault.
#[derive(Debug, Clone, Serialize)]
pub struct ArchiveStatus {
    pub vault: String,
    pub cluster: String,
    pub segments: u64,
    pub stored_bytes: u64,
    pub newest_at: Option<jiff::Timestamp>,
    pub spans: Vec<Span>,
    pub gaps: Vec<Gap>,
    pub timelines: Vec<TimelineStatus>,
    pub conflicts: Vec<String>,
}

/// Missing segments between two that are there.
#[derive(Debug, Clone, Serialize)]
pub struct Gap {
    pub after: String,
    pub before: String,
    pub missing: u64,
}

#[derive(Debug, Clone, Serialize)]
pub struct TimelineStatus {
    pub timeline: u32,
    pub parent: Option<u32>,
    pub switched_at: Option<String>,
    pub owner_host: Option<String>,
}

/// Status of every archive of the database, and the vaults that are away.
pub async fn status(ctx: &Context) -> Result<(Vec<ArchiveStatus>, Vec<Away>)> {
    let (found, away) = each_vault(ctx, async |v| of_vault(ctx, &v).await).await?;
    Ok((found.into_iter().flatten().collect(), away))
}

async fn of_vault(ctx: &Context, v: &policy::Vault) -> Result<Vec<ArchiveStatus>> {
    let mut out = Vec::new();
    let vault = open_vault(v).await?;
    for cluster in ctx.clusters(&vault).await? {
        let a = WalArchive::read(&cluster).await?;
        let spans = a.spans();
        let size = a.segment_size();
        let gaps = spans
            .windows(2)
            .filter_map(|w| match w {
                [x, y] if x.timeline == y.timeline => Some(Gap {
                    after: x.last.to_string(),
                    before: y.first.to_string(),
                    missing: y.first.number(size) - x.last.number(size) - 1,
                }),
                _ => None,
            })
            .collect();
        let mut timelines = Vec::new();
        for t in a.timelines() {
            let h = a.history(t);
            let owner = owner_of(&cluster, t).await?;
            timelines.push(TimelineStatus {
                timeline: t.0,
                parent: h.parent().map(|p| p.timeline.0),
                switched_at: h.parent().map(|p| p.switch_lsn.to_string()),
                owner_host: owner.map(|o| o.host),
            });
        }
        out.push(ArchiveStatus {
            vault: v.name.clone(),
            cluster: cluster.path().cluster.to_string(),
            segments: a.segments.values().map(|s| s.len() as u64).sum(),
            stored_bytes: a.stored_bytes,
            newest_at: a.newest_at,
            spans,
            gaps,
            timelines,
            conflicts: a.conflicts.clone(),
        });
    }
    Ok(out)
}
