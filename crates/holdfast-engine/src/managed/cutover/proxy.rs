//! An RDS Proxy leads to another database: its targets are exchanged, its name and endpoint stay.
//!
//! A target group has one database at a time, so the old one is taken out first; clients wait at the proxy
//! meanwhile. Renaming the target group, which one strategy tried, does nothing of the kind (provider rules X9).

use super::Pair;
use crate::error::{EngineError, Result};
use crate::managed::Managed;
use crate::managed::wait::{Answer, Pace};
use holdfast_core::managed::{Engine, Region, Source};
use std::time::Duration;

/// The databases behind the proxy now.
pub async fn targets(m: &Managed, region: &Region, proxy: &str) -> Result<Vec<Source>> {
    let found = m.cloud.proxy_targets(region, proxy).await?;
    let clusters = m.source.engine.is_cluster();
    let mut out = Vec::new();
    // Of a cluster its instances are listed as well; the cluster is what was registered.
    for t in found.iter().filter(|t| t.is_cluster == clusters) {
        let engine = if t.is_cluster { Engine::Aurora } else { Engine::Rds };
        if let Ok(s) = Source::new(engine, region.clone(), &t.id) {
            out.push(s);
        }
    }
    Ok(out)
}

/// A proxy of a step.
#[derive(Debug, Clone, Copy)]
pub struct Front<'a> {
    pub region: &'a Region,
    pub name: &'a str,
    /// Seconds that it may take until it reaches a new target: clients wait all the while.
    pub within: u64,
}

/// As the policy has it where nothing is written.
pub fn default_within() -> u64 {
    600
}

/// # Errors
/// The proxy does not reach the new target in time: the cutover goes back then, whatever its own time to wait is.
pub async fn switch(m: &Managed, proxy: Front<'_>, before: &[Source], new: &Source) -> Result<()> {
    for old in before.iter().filter(|t| *t != new) {
        m.cloud.deregister_target(proxy.name, old).await?;
    }
    m.cloud.register_target(proxy.name, new).await?;
    reachable(m, proxy, new).await
}

/// What can be registered again: not what is lost.
pub fn again<'a>(before: &'a [Source], pair: &Pair) -> impl Iterator<Item = &'a Source> {
    let lost = (!pair.presence.exists()).then(|| pair.old.source.clone());
    before.iter().filter(move |t| Some(*t) != lost.as_ref())
}

/// What could not be put back is told. So is a proxy that does not reach its old target yet: the other steps go back
/// all the same.
pub async fn restore(
    m: &Managed,
    proxy: Front<'_>,
    before: &[Source],
    pair: &Pair,
) -> Result<Option<String>> {
    let (new, name) = (&pair.new.source, proxy.name);
    if !before.contains(new) {
        m.cloud.deregister_target(name, new).await?;
    }
    let mut last = None;
    for old in again(before, pair) {
        m.cloud.register_target(name, old).await?;
        last = Some(old);
    }
    match last {
        Some(old) => match reachable(m, proxy, old).await {
            Err(e @ EngineError::Failed { .. }) => Ok(Some(format!("{e}; it is registered again"))),
            reached => reached.map(|()| None),
        },
        None if before.is_empty() => Ok(None),
        None => {
            Ok(Some(format!("proxy `{name}` leads nowhere: `{}`, to which it led, is lost", pair.old.source)))
        }
    }
}

/// Until the proxy can reach everything that it has: for a cluster its instances say so.
async fn reachable(m: &Managed, proxy: Front<'_>, target: &Source) -> Result<()> {
    let what = format!("proxy `{}` to `{}`", proxy.name, target.id);
    let pace = Pace { deadline: Duration::from_secs(proxy.within).min(m.pace.deadline), ..m.pace };
    let reached = pace
        .until(&what, &*m.monitor, async || {
            let found = m.cloud.proxy_targets(proxy.region, proxy.name).await?;
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
        .await;
    // It may get there yet, but the application cannot wait for that.
    reached.map_err(|e| match e {
        EngineError::NotYet { what, .. } => EngineError::failed(
            what,
            "look at its security groups, its secret and its log; `within` of the step sets how long it may take",
        ),
        e => e,
    })
}
