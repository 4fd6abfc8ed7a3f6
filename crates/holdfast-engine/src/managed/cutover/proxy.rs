//! An RDS Proxy leads to another database: its targets are exchanged, its name and endpoint stay.
//!
//! A target group has one database at a time, so the old one is taken out first; clients wait at the proxy
//! meanwhile. Renaming the target group, which one strategy tried, does nothing of the kind (provider rules X9).

use crate::error::Result;
use crate::managed::Managed;
use crate::managed::wait::Answer;
use holdfast_core::managed::{Engine, Source};

/// The databases behind the proxy now.
pub async fn targets(m: &Managed, proxy: &str) -> Result<Vec<Source>> {
    let found = m.cloud.proxy_targets(&m.source.region, proxy).await?;
    let clusters = m.source.engine.is_cluster();
    let mut out = Vec::new();
    // Of a cluster its instances are listed as well; the cluster is what was registered.
    for t in found.iter().filter(|t| t.is_cluster == clusters) {
        let engine = if t.is_cluster { Engine::Aurora } else { Engine::Rds };
        if let Ok(s) = Source::new(engine, m.source.region.clone(), &t.id) {
            out.push(s);
        }
    }
    Ok(out)
}

pub async fn switch(m: &Managed, proxy: &str, before: &[Source], new: &Source) -> Result<()> {
    for old in before.iter().filter(|t| *t != new) {
        m.cloud.deregister_target(proxy, old).await?;
    }
    m.cloud.register_target(proxy, new).await?;
    reachable(m, proxy, new).await
}

pub async fn restore(m: &Managed, proxy: &str, before: &[Source], new: &Source) -> Result<()> {
    if !before.contains(new) {
        m.cloud.deregister_target(proxy, new).await?;
    }
    for old in before {
        m.cloud.register_target(proxy, old).await?;
    }
    match before.first() {
        Some(old) => reachable(m, proxy, old).await,
        None => Ok(()),
    }
}

/// Until the proxy can reach everything that it has: for a cluster its instances say so.
async fn reachable(m: &Managed, proxy: &str, target: &Source) -> Result<()> {
    let what = format!("proxy `{proxy}` to `{}`", target.id);
    m.pace
        .until(&what, &*m.monitor, async || {
            let found = m.cloud.proxy_targets(&m.source.region, proxy).await?;
            let states: Vec<_> = found.iter().filter_map(|t| t.health.as_ref()).collect();
            let bad = states.iter().find(|h| h.state != "AVAILABLE");
            Ok(match bad {
                None if !states.is_empty() && found.iter().any(|t| t.id == target.id) => Answer::Ready(()),
                None => Answer::Going("registering".into()),
                Some(h) => Answer::Going(match &h.reason {
                    Some(why) => format!("{}, {why}", h.state),
                    None => h.state.clone(),
                }),
            })
        })
        .await
}
