//! `holdfast doctor` of a managed database, and what `validate --live` sees.

use super::apply::request;
use super::{Base, Session, is_managed, open_any};
use crate::args::Cli;
use crate::commands::{Done, check};
use holdfast_core::policy::Policy;
use holdfast_core::rules::Observed;
use holdfast_engine::doctor::unwritable;
use holdfast_engine::managed::apply::{self, Consent};
use holdfast_engine::managed::doctor::{judge, settings};
use holdfast_engine::managed::identity;
use holdfast_engine::managed::look::{Seen, look, others};
use jiff::Timestamp;

pub async fn doctor(cli: &Cli, database: Option<&str>) -> Done {
    let s = open_any(cli, database, None, Base::Home).await?;
    let now = Timestamp::now();
    let seen = see(&s, now).await;
    let seen = seen?;
    let mut lines = judge(&seen, &s.ctx.policy, &s.database, &s.plan, now);
    lines.extend(unwritable(&s.ctx));
    if matches!(seen.live, Ok(Some(_))) {
        lines.push(settings(&apply::plan(&s.managed, &request(&s, &Consent::default()).await?).await));
    }
    s.progress.finish();
    Ok(check::show(cli, s.ctx.db.name.as_str(), &lines))
}

async fn see(s: &Session, now: Timestamp) -> anyhow::Result<Seen> {
    Ok(look(&s.managed, &s.ctx.policy, &s.plan, s.gates().await?, now).await?)
}

/// What rules can be told of the managed databases of a policy, and what could not be seen.
pub async fn observe(cli: &Cli, policy: &Policy, now: Timestamp) -> anyhow::Result<(Observed, Vec<String>)> {
    let mut out = Observed { looked: true, ..Observed::default() };
    let (mut all, mut unseen) = (Vec::new(), Vec::new());
    for name in policy.databases.keys().filter(|n| is_managed(policy, Some(n.as_str()))) {
        let s = open_any(cli, Some(name.as_str()), None, Base::Home).await?;
        if let Err(e) = identity::account(&s.managed, &s.database).await {
            s.progress.finish();
            unseen.push(format!("{name}: {e}"));
            continue;
        }
        let seen = see(&s, now).await;
        s.progress.finish();
        let seen = seen?;
        if let Err(e) = &seen.live {
            unseen.push(format!("{name}: {e}"));
            continue;
        }
        unseen.extend(seen.failures.iter().map(|(region, why)| format!("{name}: {region}: {why}")));
        unseen.extend(seen.unseen.iter().map(|u| format!("{name}: {u}")));
        out.databases.insert(name.clone(), seen.database(&s.plan));
        all.push(seen);
    }
    out.regions = others(&all);
    Ok((out, unseen))
}
