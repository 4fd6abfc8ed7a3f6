//! A snapshot in another account.
//!
//! AWS lets nobody put a snapshot into another account: the owner shares it, and the other account copies it, with a
//! key of its own (RDS user guide, "Sharing a DB snapshot", "Sharing encrypted snapshots"; Aurora user guide, "Copying
//! a DB cluster snapshot across accounts").
//!
//! ```text
//! is it shared already? ─▶ share (own account) ─▶ copy ─▶ wait (other account) ─▶ take the share back
//! ```
//!
//! What AWS refuses is looked for before anything is shared ([`check`]): a key that cannot leave its account, one
//! that does not let the other account use it, no key there. A database whose key was changed has snapshots of both:
//! those that cannot go are told of, and keep no other.
//!
//! **The share is taken back**, whether the copy arrived, failed or could not be begun, unless it was there before.
//! Crash: whether it was is in the journal before it is made, and the share stays until the same command goes on, as
//! it does while the provider still copies. Was the vault taken out of the policy meanwhile, the share is taken back
//! and the copy given up.
//!
//! Account and region do not change in one copy. The guide's page for clusters says that copies across accounts stay
//! in a region; newer pages of it name both in a single step. Nobody has tried that here, so a second copy, within
//! the other account, takes it to the other region ([`super::tiers::targets`]).

use super::abroad::{Gate, Gates, account_of, shuts_out};
use super::copy::{State, Step};
use super::journal::Operation;
use super::remove::Undisturbed;
use super::wait::Answer;
use super::{Managed, awaited, operation};
use crate::error::{EngineError, Result};
use holdfast_core::managed::{Cloud, GRACE, KeyState, Region, Snapshot};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Instant;

/// Of a copy that another account makes: whose vault it is for, and the share that it needs.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Guest {
    pub vault: String,
    pub account: String,
    /// Whether this operation shared it, and takes that back. `None`: it has not looked yet.
    #[serde(default)]
    pub shared: Option<bool>,
}

/// What would be refused, before anything is shared: the keys of snapshots that cannot go, with the reason. `key` is
/// the policy's for the vault.
///
/// # Errors
/// What AWS would refuse of any snapshot, with what to do about it.
pub(super) async fn check(
    m: &Managed,
    gate: &Gate,
    there: &Arc<dyn Cloud>,
    from: &[&Snapshot],
    key: Option<&str>,
) -> Result<BTreeMap<String, EngineError>> {
    let home = &m.source.region;
    let mut refused = BTreeMap::new();
    let Some(first) = from.iter().find(|s| s.encrypted) else { return Ok(refused) };
    let Some(key) = key else {
        // API reference of RDS, CopyDBSnapshot: of an encrypted snapshot that is shared, KmsKeyId must be given.
        return Err(EngineError::usage(
            format!(
                "snapshot `{}` is encrypted: a copy in account {} needs a key of that account",
                first.at, gate.account
            ),
            format!("set kms-key of [vaults.{}]", gate.vault),
        ));
    };
    of_target(gate, there, key).await?;
    let keys: BTreeSet<&str> = from.iter().filter_map(|s| s.key.as_deref()).collect();
    for key in keys {
        if let Some(why) = of_source(m, home, gate, there, key).await? {
            refused.insert(key.to_string(), why);
        }
    }
    Ok(refused)
}

/// The key of the copies.
async fn of_target(gate: &Gate, there: &Arc<dyn Cloud>, key: &str) -> Result<()> {
    let found = there.key(&gate.region, key).await?;
    if found.state != KeyState::Enabled {
        return Err(EngineError::refused(
            format!("the key of vault `{}`, `{}`, is {:?}", gate.vault, found.arn, found.state)
                .to_lowercase(),
            "enable it, or cancel its deletion, in KMS",
        ));
    }
    if account_of(&found.arn) != Some(gate.account.as_str()) {
        return Err(EngineError::refused(
            format!("the key of vault `{}`, `{}`, is not of account {}", gate.vault, found.arn, gate.account),
            "name a key of that account: whoever takes over the account of the key has the copies",
        ));
    }
    Ok(())
}

/// A key of the snapshots. `Some`: what it encrypts cannot go, and why.
async fn of_source(
    m: &Managed,
    home: &Region,
    gate: &Gate,
    there: &Arc<dyn Cloud>,
    key: &str,
) -> Result<Option<EngineError>> {
    // "You can't share a snapshot that has been encrypted using the default KMS key" (RDS user guide, "Sharing
    // encrypted snapshots").
    if m.cloud.key(home, key).await?.aws_managed {
        return Ok(Some(EngineError::refused(
            format!(
                "its snapshots are encrypted with `{key}`, AWS's own key of the account, which nobody can share"
            ),
            "restore a snapshot that was copied under a key of your own, and protect that database; until then \
             nothing of it can leave the account",
        )));
    }
    match there.key(home, key).await {
        Ok(_) => Ok(None),
        Err(e) if shuts_out(&e.kind) => Ok(Some(EngineError::refused(
            format!("account {} may not use the key of the snapshots, `{key}`: {e}", gate.account),
            format!(
                "add what `holdfast iam --key-for {}` prints to the policy of that key; who works for vault `{}` \
                 needs the role backup with it",
                gate.account, gate.vault
            ),
        ))),
        Err(e) => Err(e.into()),
    }
}

/// Takes the steps of a copy into another account.
pub(super) async fn steps(
    m: &Managed,
    gates: &Gates,
    op: &mut Operation<State>,
    guest: &Guest,
) -> Result<Snapshot> {
    if op.state().next == Step::Share
        && let Err(e) = share(m, op, guest).await
    {
        // It may have been shared, and only the answer been lost. What goes on shares again, or takes it back.
        if !e.goes_on() {
            take_back(m, op).await?;
        }
        return Err(e);
    }
    let made = copied(m, gates, op, guest).await;
    match &made {
        // The provider may be copying: the share stays until that has ended.
        Err(e) if e.goes_on() && op.state().next == Step::Wait => {}
        // Nobody gets in, or not now: nothing stays shared for a copy that has not begun.
        Err(e) if e.goes_on() => {
            take_back(m, op).await?;
            op.advance(Timestamp::now(), |s| {
                if let Some(g) = s.guest.as_mut().filter(|g| g.shared == Some(true)) {
                    (g.shared, s.next) = (None, Step::Share);
                }
            })?;
        }
        _ => take_back(m, op).await?,
    }
    made
}

async fn share(m: &Managed, op: &mut Operation<State>, guest: &Guest) -> Result<()> {
    let from = op.state().from.clone();
    if op.state().guest.as_ref().is_none_or(|g| g.shared.is_none()) {
        let before = m.cloud.shared_with(&from).await?.contains(&guest.account);
        op.advance(Timestamp::now(), |s| s.guest = Some(Guest { shared: Some(!before), ..guest.clone() }))?;
    }
    m.monitor.phase(&format!("sharing `{from}` with account {}", guest.account));
    m.pace
        .until(&format!("share of `{from}`"), &*m.monitor, async || {
            m.cloud.share_snapshot(&from, &guest.account, true).await.map(Answer::Ready)
        })
        .await?;
    op.advance(Timestamp::now(), |s| s.next = Step::Create)
}

async fn copied(m: &Managed, gates: &Gates, op: &mut Operation<State>, guest: &Guest) -> Result<Snapshot> {
    let gate = gates.of(&guest.vault).filter(|g| g.account == guest.account).ok_or_else(|| {
        EngineError::refused(
            format!("the policy has no vault `{}` in account {} any more", guest.vault, guest.account),
            "the copy was given up, and the share taken back",
        )
    })?;
    let there = m.through(gate.enter().await?);
    let name = operation(op.id())?;
    let copy = op.state().copy.clone();
    let what = format!("copy `{}` in account {}, {}", copy.to, guest.account, copy.to.region);
    if op.state().next == Step::Create {
        let begun = Instant::now();
        m.pace
            .until(&what, &*m.monitor, async || match there.cloud.copy_snapshot(&copy, &name).await {
                // What was shared a moment ago may not be seen there yet.
                Err(e) if e.is_not_found() && begun.elapsed() < GRACE => {
                    Ok(Answer::Going("not shared yet".into()))
                }
                other => other.map(Answer::Ready),
            })
            .await?;
        op.advance(Timestamp::now(), |s| s.next = Step::Wait)?;
    }
    awaited::snapshot(&there, &what, &copy.to).await
}

/// Nobody is left with access that this operation gave.
async fn take_back(m: &Managed, op: &Operation<State>) -> Result<()> {
    let Some(guest) = op.state().guest.as_ref().filter(|g| g.shared == Some(true)) else { return Ok(()) };
    let from = &op.state().from;
    let ended = m
        .pace
        .until(&format!("end of the share of `{from}`"), &Undisturbed(&*m.monitor), async || {
            match m.cloud.share_snapshot(from, &guest.account, false).await {
                Err(e) if e.is_not_found() => Ok(Answer::Ready(())),
                other => other.map(Answer::Ready),
            }
        })
        .await;
    match ended {
        // As long as it is shared the operation has not ended, whatever became of the copy.
        Err(e) if !e.goes_on() => Err(EngineError::NotYet {
            what: format!("`{from}` is still shared with account {}: {e}", guest.account),
            hint: format!("when that is mended, `holdfast copy {}` takes the share back", m.name),
        }),
        other => other,
    }
}
