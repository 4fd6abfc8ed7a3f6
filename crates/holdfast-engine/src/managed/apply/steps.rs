//! Making a change, and waiting until it is in force: [`make`].
//!
//! Every step may be taken twice. What is made carries the operation, so that a call whose answer was lost finds
//! its own work; what was changed already is changed to the same.

use super::Request;
use super::change::{Action, Change};
use super::desired::{Desired, WantedVault, desired};
use super::look;
use super::plans::{same_selection, sorted};
use super::settings::{in_force, merged};
use super::vaults::SeenVault;
use crate::error::{EngineError, Result};
use crate::managed::wait::Answer;
use crate::managed::{Managed, operation};
use holdfast_core::managed::{
    BackupVault, Cloud, LockRequest, Modification, Operation, Replication, SelectionContent, Tags, VaultLock,
    tags as keys,
};
use jiff::Timestamp;
use std::hash::{Hash as _, Hasher as _};
use std::sync::Arc;

/// Makes one change, or several of the database's own settings in one call.
pub(super) async fn make(m: &Managed, r: &Request, id: &str, group: &[&Change]) -> Result<()> {
    let op = operation(id)?;
    let settings = group.iter().filter_map(|c| match &c.action {
        Action::Modify(change) => Some(change),
        _ => None,
    });
    let change = merged(settings);
    if !change.is_empty() {
        return modify(m, &change).await;
    }
    for c in group {
        one(m, r, &op, &c.action).await?;
    }
    Ok(())
}

async fn one(m: &Managed, r: &Request, op: &Operation, action: &Action) -> Result<()> {
    let region = &m.source.region;
    match action {
        Action::Modify(change) => modify(m, change).await,
        Action::Replicate(start) => replicate(m, op, start).await,
        Action::StopReplication { from, again } => {
            let arn = m.cloud.describe(&m.source).await?.arn;
            m.cloud.stop_replication(&arn, from).await?;
            match again {
                Some(start) => replicate(m, op, start).await,
                None => Ok(()),
            }
        }
        Action::CreateVault { vault, new } => {
            let (cloud, _) = reach(m, r, vault).await?;
            cloud.create_vault(new, &step(op, "vault", &new.name)?).await?;
            Ok(())
        }
        Action::VaultPolicy { vault, document } => {
            let (cloud, w) = reach(m, r, vault).await?;
            Ok(cloud.put_vault_policy(&w.region, &w.id, document).await?)
        }
        Action::Lock { vault, was, request } => lock(m, r, vault, *was, *request).await,
        Action::CreatePlan { content, tags, selection } => {
            let text = serde_json::to_string(content).unwrap_or_default();
            let made = m.cloud.create_plan(region, content, tags, &step(op, "plan", &text)?).await?;
            same(sorted(&made.content) == sorted(content), &content.name)?;
            select(m, op, &made.id, selection).await
        }
        Action::UpdatePlan { id, content } => {
            let made = m.cloud.update_plan(region, id, content).await?;
            same(sorted(&made.content) == sorted(content), &content.name)
        }
        Action::TagPlan { arn, tags } => Ok(m.cloud.add_backup_tags(region, arn, tags).await?),
        Action::Select { plan, content } => select(m, op, plan, content).await,
        Action::Unselect { plan, id } => Ok(m.cloud.delete_selection(region, plan, id).await?),
    }
}

/// Another content is another step: AWS answers a request id that it knows with what it made then.
fn step(op: &Operation, what: &str, content: &str) -> Result<Operation> {
    op.step(&format!("{what}-{:016x}", digest(content))).map_err(|e| EngineError::failed(e.to_string(), ""))
}

fn digest(text: &str) -> u64 {
    let mut hash = std::hash::DefaultHasher::new();
    text.hash(&mut hash);
    hash.finish()
}

fn same(is: bool, plan: &str) -> Result<()> {
    match is {
        true => Ok(()),
        false => Err(EngineError::failed(
            format!("AWS took the rules of plan `{plan}` and shows others"),
            "`holdfast plan` shows in what they differ",
        )),
    }
}

/// Sent once the database takes it; over when nothing of it is pending.
async fn modify(m: &Managed, change: &Modification) -> Result<()> {
    let what = format!("settings of `{}`", m.source);
    m.pace
        .until(&what, &*m.monitor, async || {
            m.cloud.modify(&m.source, change).await.map(|_| Answer::Ready(()))
        })
        .await?;
    m.pace
        .until(&what, &*m.monitor, async || {
            let d = m.cloud.describe(&m.source).await?;
            // Right after the call AWS may show `available` and the old value.
            if in_force(change, &d) && super::is_settled(&d) {
                return Ok(Answer::Ready(()));
            }
            Ok(match d.status.is_failed() {
                true => Answer::Failed(format!("it is `{}`", d.status)),
                false => Answer::Going(d.status.to_string()),
            })
        })
        .await
}

/// Over when the first copy is there and what is new follows.
async fn replicate(m: &Managed, op: &Operation, start: &Replication) -> Result<()> {
    let what = format!("replication of `{}` to {}", m.source, start.to);
    let mut tags: Tags = start.tags.clone().with(keys::OPERATION, op.as_str());
    tags.set(keys::DATABASE, m.name.as_str());
    let start = Replication { tags, ..start.clone() };
    m.pace
        .until(&what, &*m.monitor, async || {
            m.cloud.start_replication(&start).await.map(|_| Answer::Ready(()))
        })
        .await?;
    m.pace
        .until(&what, &*m.monitor, async || {
            let all = m.cloud.automated_backups(m.source.engine, &start.to).await?;
            let own =
                all.iter().find(|b| b.source_arn == start.source_arn && b.status.as_str() != "retained");
            Ok(match own.map(|b| b.status.as_str()) {
                Some("replicating" | "active" | "available") => Answer::Ready(()),
                Some(s) if s.contains("fail") || s.contains("error") => {
                    Answer::Failed(format!("it is `{s}`"))
                }
                Some(s) => Answer::Going(s.to_string()),
                None => Answer::Going("not shown yet".into()),
            })
        })
        .await
}

/// Who works in the vault, and what the policy says of it.
async fn reach<'a>(m: &'a Managed, r: &'a Request, vault: &str) -> Result<(&'a Arc<dyn Cloud>, WantedVault)> {
    let d = m.cloud.describe(&m.source).await?;
    let Desired { vaults, .. } =
        desired(&r.policy, m.name.as_str(), &r.database, &r.plan, &m.source, &d.arn, &d.resource_id)?;
    let w = vaults.into_iter().find(|w| w.name == vault);
    let gone = || {
        EngineError::not_found(format!("there is no managed vault `{vault}`"), "see [vaults] in the policy")
    };
    let w = w.ok_or_else(gone)?;
    let cloud = look::cloud_of(m, r, &w).ok_or_else(gone)?;
    Ok((cloud, w))
}

/// Looks again first: between the plan and now somebody may have put a lock, and this one may be for ever.
async fn lock(
    m: &Managed,
    r: &Request,
    vault: &str,
    was: Option<VaultLock>,
    request: Option<LockRequest>,
) -> Result<()> {
    let (cloud, w) = reach(m, r, vault).await?;
    let is = match look::vault(m, r, &w).await? {
        SeenVault::There { vault, .. } => vault.lock,
        // Made a moment ago.
        _ => cloud.vault(&w.region, &w.id).await?.lock,
    };
    let now = Timestamp::now();
    if is != was {
        let wanted = super::vaults::lock(&w, is, true, 0, now);
        if wanted.changes.is_empty() {
            return Ok(());
        }
        return Err(EngineError::refused(
            format!("the lock of {} is not what the plan showed any more", w.place()),
            "`holdfast plan` shows what it is now; run `holdfast apply` again if that is meant",
        ));
    }
    let Some(request) = request else { return Ok(cloud.unlock_vault(&w.region, &w.id).await?) };
    if request.changeable_for_days.is_none() && is.is_some_and(|l| l.lock_date.is_some()) {
        // A lock with a date is taken back first: what a call without one makes of it, AWS does not say.
        cloud.unlock_vault(&w.region, &w.id).await?;
    }
    cloud.lock_vault(&w.region, &w.id, &request).await?;
    let fits = |v: &BackupVault| {
        v.lock.is_some_and(|l| {
            (l.min_days, l.max_days) == (request.min_days, request.max_days)
                && l.lock_date.is_some() == request.changeable_for_days.is_some()
        })
    };
    let v = m
        .pace
        .until(&format!("lock of {}", w.place()), &*m.monitor, async || {
            let v = cloud.vault(&w.region, &w.id).await?;
            Ok(if fits(&v) { Answer::Ready(v) } else { Answer::Going("not shown yet".into()) })
        })
        .await?;
    if let Some(date) = v.lock.and_then(|l| l.lock_date) {
        m.monitor.warning(format!(
            "the lock of {} can be taken back until {}, and by nobody after that",
            w.place(),
            holdfast_core::time::short(date)
        ));
    }
    Ok(())
}

async fn select(m: &Managed, op: &Operation, plan: &str, content: &SelectionContent) -> Result<()> {
    let op = step(op, "selection", &serde_json::to_string(content).unwrap_or_default())?;
    // Names are unique in a plan, and the old selection goes only after this one is there.
    let content =
        SelectionContent { name: format!("holdfast-{:016x}", digest(op.as_str())), ..content.clone() };
    m.cloud.create_selection(&m.source.region, plan, &content, &op).await?;
    m.pace
        .until(&format!("selection of `{}`", m.source), &*m.monitor, async || {
            let p = m.cloud.plan(&m.source.region, plan).await?;
            let there = p.selections.iter().any(|s| same_selection(&s.content, &content));
            Ok(if there { Answer::Ready(()) } else { Answer::Going("not shown yet".into()) })
        })
        .await
}
