//! Vaults of AWS Backup, their locks and access policies: what differs. Pure.
//!
//! A vault that Holdfast did not make is used as it is: other people's points are in it. One thing is put on it
//! all the same, the lock that the policy writes for it, because nobody writes `lock` for a vault by mistake and
//! points would not be safe otherwise; a lock that is *not* in the policy is only ever taken from vaults of
//! Holdfast's own.

use super::change::{Action, Change, Difference, Left, days};
use super::desired::{WantedVault, whole_days};
use holdfast_core::managed::{BackupVault, LockMode, LockRequest, NewVault, Tags, VaultKind, VaultLock};
use holdfast_core::policy::LockMode as WrittenMode;
use holdfast_core::policy::managed::VaultLock as Written;
use holdfast_core::time::short;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

/// A vault as it was found.
#[derive(Debug, Clone)]
pub(super) enum SeenVault {
    /// Another account's, and there is no way in.
    Unreachable(String),
    Absent {
        /// ARN of the key of the policy.
        key: Option<String>,
    },
    There {
        vault: Box<BackupVault>,
        /// Holdfast made it.
        ours: bool,
        key: Option<String>,
        policy: Option<String>,
    },
}

/// What differs in one vault. `from_account` is the database's.
pub(super) fn vault(w: &WantedVault, seen: &SeenVault, from_account: &str, now: Timestamp) -> Difference {
    let mut out = Difference::default();
    let on = w.place();
    let (is, ours, key, policy) = match seen {
        SeenVault::Unreachable(why) => {
            out.left.push(Left::blocked(on, "vault", why.clone()));
            return out;
        }
        SeenVault::Absent { key } => {
            let new = NewVault {
                region: w.region.clone(),
                name: w.id.clone(),
                key: key.clone(),
                tags: Tags::default(),
            };
            let text = key.as_ref().map_or(
                "AWS Backup keeps points there, encrypted with its own key, which no other account can use.".into(),
                |k| format!("AWS Backup keeps points there, encrypted with {k}; a vault's key cannot be changed later."),
            );
            out.changes.push(
                Change::new(on, "vault", Action::CreateVault { vault: w.name.clone(), new })
                    .between("none", format!("`{}`", w.id))
                    .effect(text),
            );
            if w.foreign {
                out.changes.extend(allow_copies(w, None, from_account));
            }
            out.extend(lock(w, None, true, 0, now));
            return out;
        }
        SeenVault::There { vault, ours, key, policy } => (vault, *ours, key, policy),
    };
    if !ours {
        let why = format!(
            "holdfast did not make it ({} points are in it): it is used as it is{}",
            is.points,
            if w.lock.is_some() { ", but for the lock of the policy" } else { "" }
        );
        out.left.push(Left::note(&on, "vault", why));
    }
    if let (Some(wanted), Some(has)) = (key, &is.key)
        && wanted != has
    {
        let why =
            format!("it is encrypted with {has}, the policy names {wanted}: a vault's key cannot be changed");
        out.left.push(Left::blocked(&on, "key", why));
    }
    if w.foreign && !allows(policy.as_deref(), from_account) {
        match (ours, allow_copies(w, policy.as_deref(), from_account)) {
            (true, Some(change)) => out.changes.push(change),
            (true, None) => out.left.push(Left::blocked(
                &on,
                "access policy",
                format!("its policy is not understood, so nothing is added to it: let account {from_account} copy into it (backup:CopyIntoBackupVault)"),
            )),
            (false, _) => out.left.push(Left::blocked(
                &on,
                "access policy",
                format!("it does not let account {from_account} copy into it (backup:CopyIntoBackupVault): let its owner do that"),
            )),
        }
    }
    match is.kind {
        VaultKind::Standard => out.extend(lock(w, is.lock, ours, is.points, now)),
        _ if w.lock.is_some() => {
            out.left.push(Left::note(
                &on,
                "lock",
                "it is a logically air-gapped vault, locked by its nature",
            ));
        }
        _ => {}
    }
    out
}

fn text(l: &VaultLock, now: Timestamp) -> String {
    let bounds = bounds(l.min_days, l.max_days);
    match (l.mode(now), l.lock_date) {
        (LockMode::Governance, _) => format!("governance{bounds}"),
        (LockMode::CompliancePending, Some(date)) => {
            format!("compliance{bounds}, for ever from {}", short(date))
        }
        (_, date) => format!("compliance{bounds}, for ever since {}", date.map(short).unwrap_or_default()),
    }
}

fn bounds(min: Option<u32>, max: Option<u32>) -> String {
    match (min, max) {
        (None, None) => String::new(),
        (Some(a), None) => format!(", points kept {} at least", days(a)),
        (None, Some(b)) => format!(", points kept {} at most", days(b)),
        (Some(a), Some(b)) => format!(", points kept {a} to {}", days(b)),
    }
}

/// True if `to` lets go of something that `from` holds.
fn looser(from: &VaultLock, min: Option<u32>, max: Option<u32>) -> bool {
    // A higher maximum lets nobody delete anything sooner, but jobs that were refused.
    min.unwrap_or(0) < from.min_days.unwrap_or(0)
        || max.unwrap_or(u32::MAX) > from.max_days.unwrap_or(u32::MAX)
}

/// What differs in the lock.
pub(super) fn lock(
    w: &WantedVault,
    is: Option<VaultLock>,
    ours: bool,
    points: u64,
    now: Timestamp,
) -> Difference {
    let mut out = Difference::default();
    let on = w.place();
    let mode = is.map(|l| l.mode(now));
    let shown = is.map_or("none".to_string(), |l| text(&l, now));
    let make = |request: Option<LockRequest>| {
        let action = Action::Lock { vault: w.name.clone(), was: is, request };
        Change::new(&on, "lock", action)
    };
    let Some(written) = &w.lock else {
        match (is, mode) {
            (None, _) | (_, None) => {}
            (Some(l), Some(LockMode::Compliance)) => out.left.push(Left::note(
                &on,
                "lock",
                format!("it is {}: nobody can remove it, AWS included", text(&l, now)),
            )),
            _ if !ours => out.left.push(Left::note(
                &on,
                "lock",
                format!("it is {shown}; the policy says nothing of it, and holdfast did not make the vault"),
            )),
            (_, Some(m)) => out.changes.push(make(None).between(&shown, "none").loses(false).effect(match m {
                LockMode::CompliancePending => {
                    "The lock is taken back before its date: points of this vault can be deleted by whoever has the right."
                }
                _ => "Points of this vault can be deleted by whoever has the right.",
            })),
        }
        return out;
    };
    let request = requested(written);
    let (min, max) = (request.min_days, request.max_days);
    let same_bounds = is.is_some_and(|l| (l.min_days, l.max_days) == (min, max));
    if let (Some(l), Some(LockMode::Compliance)) = (is, mode) {
        if !same_bounds {
            let why = format!(
                "it is {}, the policy wants{}: nobody can change it any more, AWS included",
                text(&l, now),
                bounds(min, max).replacen(',', "", 1)
            );
            out.left.push(Left::blocked(&on, "lock", why));
        }
        return out;
    }
    let foreign = match ours || points == 0 {
        true => String::new(),
        false => {
            format!(" Holdfast did not make this vault: its {points} points of others are held by it too.")
        }
    };
    let jobs = match (min, max) {
        (None, None) => String::new(),
        _ => " Jobs that want to keep a point for less or more than it allows fail.".into(),
    };
    match (request.changeable_for_days, mode) {
        (None, Some(LockMode::Governance)) if same_bounds => {}
        (Some(_), Some(LockMode::CompliancePending)) if same_bounds => {}
        (None, _) => {
            let to = VaultLock { min_days: min, max_days: max, lock_date: None };
            let change = make(Some(request)).between(&shown, text(&to, now)).effect(format!(
                "While it is on, no point of this vault can be deleted before its time. Whoever has \
                 backup:DeleteBackupVaultLockConfiguration can remove it: it stops accidents, not attackers.{jobs}{foreign}"
            ));
            // Governance in the place of a pending compliance lock holds less.
            let less = mode == Some(LockMode::CompliancePending) || is.is_some_and(|l| looser(&l, min, max));
            out.changes.push(if less { change.loses(false) } else { change });
        }
        (Some(grace), _) => {
            let date = now.checked_add(SignedDuration::from_hours(24 * i64::from(grace))).unwrap_or(now);
            let to = VaultLock { min_days: min, max_days: max, lock_date: Some(date) };
            let change = make(Some(request)).between(&shown, text(&to, now)).effect(format!(
                "From {} on nobody, root and AWS included, can remove or change this lock, delete a point of this vault \
                 before its time, or shorten how long it is kept; all of it is paid for until then, and the vault cannot \
                 be deleted while points are in it. Until that date it can be taken back: take `lock` out of the policy \
                 and run `holdfast apply --yes --allow-loss`.{jobs}{foreign}",
                short(date)
            ));
            let change = Change { irreversible: true, confirm: Some(w.name.clone()), ..change };
            let less = is.is_some_and(|l| looser(&l, min, max));
            out.changes.push(Change { loses: less, ..change });
        }
    }
    out
}

/// As AWS is told. Grace decides the mode there: without it every lock is governance (provider rules X8).
fn requested(l: &Written) -> LockRequest {
    LockRequest {
        min_days: l.min.map(whole_days),
        max_days: l.max.map(whole_days),
        changeable_for_days: l.grace.map(whole_days).filter(|_| l.mode == WrittenMode::Compliance),
    }
}

const COPY_INTO: &str = "backup:CopyIntoBackupVault";

/// `None`: there is a policy that cannot be understood, and is not replaced.
fn allow_copies(w: &WantedVault, policy: Option<&str>, from_account: &str) -> Option<Change> {
    let mut document: Value = match policy {
        Some(p) => serde_json::from_str(p).ok()?,
        None => json!({ "Version": "2012-10-17" }),
    };
    let statement = json!({
        "Sid": format!("HoldfastCopies{from_account}"), "Effect": "Allow",
        "Principal": { "AWS": from_account }, "Action": COPY_INTO, "Resource": "*",
    });
    // One statement may stand without a list (IAM user guide, "Statement").
    let mut all = match document.as_object_mut()?.remove("Statement") {
        Some(Value::Array(all)) => all,
        Some(one @ Value::Object(_)) => vec![one],
        None => Vec::new(),
        Some(_) => return None,
    };
    all.push(statement);
    document.as_object_mut()?.insert("Statement".into(), Value::Array(all));
    let action = Action::VaultPolicy { vault: w.name.clone(), document: document.to_string() };
    let change = Change::new(w.place(), "access policy", action)
        .between("as it is", format!("account {from_account} may copy into it"))
        .effect(
            "Points of the other account can be copied into this vault; everything else of its policy stays.",
        );
    Some(change)
}

/// Whether an access policy lets an account copy into the vault.
fn allows(policy: Option<&str>, account: &str) -> bool {
    let Some(document) = policy.and_then(|p| serde_json::from_str::<Value>(p).ok()) else { return false };
    let list = |v: &Value| -> Vec<String> {
        match v {
            Value::Array(all) => all.iter().filter_map(|v| v.as_str().map(str::to_string)).collect(),
            Value::String(s) => vec![s.clone()],
            _ => Vec::new(),
        }
    };
    let all = match &document["Statement"] {
        Value::Array(all) => all.as_slice(),
        one => std::slice::from_ref(one),
    };
    all.iter().any(|s| {
        let principal = if s["Principal"].is_object() { &s["Principal"]["AWS"] } else { &s["Principal"] };
        let who = list(principal);
        let named = |p: &String| p == "*" || p == account || p.ends_with(&format!("::{account}:root"));
        let does = |a: &String| a == "*" || a == "backup:*" || a.eq_ignore_ascii_case(COPY_INTO);
        s["Effect"] == "Allow" && who.iter().any(named) && list(&s["Action"]).iter().any(does)
    })
}
