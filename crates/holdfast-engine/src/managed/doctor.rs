//! `doctor` of a managed database: what could make a backup or a recovery of it fail, one line each.
//!
//! [`super::look`] asks; here is the judgement, which is pure. Names of lines are part of the interface
//! (`docs/guide/doctor.md`).

use super::apply;
use super::beside::{Beside, What};
use super::holdings::Kept;
use super::identity::is_replaced;
use super::journal::{Journal, Outline};
use super::look::{Seen, SeenVault};
use crate::doctor::{Line, Status};
use crate::error::Result;
use holdfast_core::managed::{Database, KeyState, KmsKey, LockMode as Lock};
use holdfast_core::policy::managed::{ManagedCopy, ManagedTier, VaultPlace};
use holdfast_core::policy::{LockMode, ManagedDatabase, ManagedPlan, Policy};
use holdfast_core::time::{self, human, short};
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use std::time::Duration;

/// The newest second that can be restored lies about five minutes back (RDS user guide, "Restoring a DB instance to
/// a specified time"); three times that is late.
const LATE: Duration = Duration::from_secs(15 * 60);
const VERY_LATE: Duration = Duration::from_secs(3600);
/// A run may take this long before its point is missed.
const SLACK: Duration = Duration::from_secs(2 * 3600);
/// Share of a quota, in percent, from which on it is told.
const NEARLY: u64 = 80;

/// Everything that was seen, judged.
pub fn judge(
    s: &Seen,
    policy: &Policy,
    d: &ManagedDatabase,
    plan: &ManagedPlan,
    now: Timestamp,
) -> Vec<Line> {
    let mut out = vec![identity(s, d)];
    for (region, why) in &s.failures {
        let hint = "until then nothing is known of what is kept there";
        out.push(Line::fail(&format!("region.{region}"), why.clone(), hint));
    }
    for u in &s.unseen {
        let hint =
            format!("`profile` or `role` of [vaults.{}] is the way there; see `holdfast iam`", u.vault);
        out.push(Line::fail(&format!("vault.{}", u.vault), u.to_string(), hint));
    }
    match &s.live {
        Ok(Some(live)) => source(&mut out, s, d, plan, live, now),
        Ok(None) if renamed(s).is_some() => out.push(Line::fail(
            "source.state",
            format!(
                "{} is not there: the database with its resource-id is called `{}` now",
                s.holdings.source,
                renamed(s).map_or("", |r| r.source.id.as_str())
            ),
            format!(
                "write its name into `source` of [databases.{}], or give it its own back",
                s.holdings.database
            ),
        )),
        Ok(None) => out.push(Line::fail(
            "source.state",
            format!("{} is not there", s.holdings.source),
            "`holdfast recover` shows the ways back; if it was replaced, change `source` in the policy",
        )),
        Err(e) => out.push(Line::error("source.state", Status::Fail, e)),
    }
    for (name, t) in &plan.tiers {
        let vault = t.vault.as_ref().and_then(|v| policy.managed_vaults.get(v));
        let region = vault.map_or(s.holdings.source.region.as_str(), |v| v.place.region());
        out.push(if_seen(s, region, None, tier(s, policy, name, t, now)));
    }
    for (name, c) in &plan.copies {
        let region = policy.managed_vaults.get(&c.to).map_or("", |v| v.place.region());
        out.push(if_seen(s, region, Some(&c.to), copy(s, policy, plan, name, c, now)));
    }
    s.vaults.iter().for_each(|v| vault(&mut out, policy, v, now));
    jobs(&mut out, s);
    out.push(verified(s, plan, now));
    if plan.verify.is_some() && d.connect.as_ref().is_none_or(|c| c.ca_file.is_none()) {
        out.push(Line::warn(
            "verify.login",
            "no root certificates are named: `verify` ends before it begins, unless --ca-file is given",
            format!(
                "write `ca-file` into [databases.{}.connect] (AWS: global-bundle.pem of the RDS trust store)",
                s.holdings.database
            ),
        ));
    }
    quotas(&mut out, s);
    beside(&mut out, s, now);
    for o in &s.unfinished {
        let message = format!("{} {} has not ended, begun {}", o.verb, o.id, short(o.begun));
        let hint = format!("{} goes on with it, unless it runs just now", again(o, policy));
        out.push(Line::warn("operations", message, hint));
    }
    out
}

/// The database of the policy, under a name that the policy does not know.
fn renamed(s: &Seen) -> Option<&Beside> {
    s.holdings.beside.iter().find(|b| b.what == What::Renamed)
}

/// What is charged, and of which nothing else here would speak.
fn beside(out: &mut Vec<Line>, s: &Seen, now: Timestamp) {
    let (name, home) = (&s.holdings.database, &s.holdings.source.region);
    for b in &s.holdings.beside {
        let id = &b.source.id;
        match b.what {
            What::Renamed => {}
            What::Replaced { until: Some(end) } if end > now => out.push(Line::ok(
                "source.quarantine",
                format!("{}, which a cutover replaced, is kept and charged until {}", b.source, short(end)),
            )),
            What::Replaced { until } => out.push(Line::warn(
                "source.quarantine",
                match until {
                    Some(end) => format!("{} is charged, and its quarantine ended {}", b.source, short(end)),
                    None => format!("{} is charged, and no tag says when its quarantine ends", b.source),
                },
                match (until, &b.source.region == home) {
                    (None, _) => {
                        "set its tag holdfast:quarantined-until, or delete it at the provider".to_string()
                    }
                    (_, true) => {
                        format!("`holdfast retire {id} --db {name}` shows how it goes, with a last snapshot")
                    }
                    (_, false) => {
                        format!("`retire` looks in {home}: delete it at the provider, with a last snapshot")
                    }
                },
            )),
            // It is being made just now, or is gone on with.
            What::Restored if s.unfinished.iter().any(|o| is_about(o, id)) => {}
            What::Restored => {
                let region = match &b.source.region == home {
                    true => String::new(),
                    false => format!(" --region {}", b.source.region),
                };
                let made = b.created.map(|t| format!(", made {}", short(t))).unwrap_or_default();
                out.push(Line::warn(
                    "source.restored",
                    format!("{} was restored{made}, is charged, and is not the database of the policy", b.source),
                    format!(
                        "`holdfast cutover {name} --to-id {id}{region}` puts it into service; if it serves already, write it \
                         as `source`; if nobody needs it, not even another policy, delete it at the provider"
                    ),
                ));
            }
        }
    }
}

fn is_about(o: &Outline, id: &str) -> bool {
    let text = o.state.to_string();
    text.contains(&format!("/{id}\"")) || text.contains(&format!("\"{id}\""))
}

/// What has not ended of a database, in sentences: what it is, and the command that goes on with it.
///
/// # Errors
/// The journal cannot be read.
pub fn open_operations(journal: &Journal, policy: &Policy, name: &str) -> Result<Vec<String>> {
    let open = journal.unfinished(None, Some(name))?;
    let state = |o: &Outline| match o.verb.as_str() {
        "cutover" | "apply" | "retire" => "it stands where it was stopped",
        _ => "what it began goes on with the provider, and is charged",
    };
    let told = open.iter().map(|o| {
        let (verb, id, state, again) = (&o.verb, &o.id, state(o), again(o, policy));
        format!("{verb} {id} has not ended: {state}; {again} goes on with it, unless another run is at it")
    });
    Ok(told.collect())
}

/// Whether a backup was asked for with a note, an end of life or tags of its own.
fn has_options(o: &Outline, policy: &Policy) -> bool {
    let tags = match o.verb.as_str() {
        "backup" => &o.state["tags"],
        _ => &o.state["job"]["tags"],
    };
    let db = policy.databases.values().find(|d| d.name.as_str() == o.database);
    let of_policy = |key: &str| {
        db.is_some_and(|d| {
            let own = d.managed.as_ref().is_some_and(|m| m.tags.contains_key(key));
            own || policy.managed_plan_of(d).is_some_and(|p| {
                p.tags.contains_key(key) || p.tiers.values().any(|t| t.tags.contains_key(key))
            })
        })
    };
    tags.as_object().is_some_and(|all| {
        all.keys().any(|k| match k.strip_prefix("holdfast:") {
            Some(own) => matches!(own, "note" | "expires"),
            None => !of_policy(k),
        })
    })
}

/// The command that goes on with what was begun.
fn again(o: &Outline, policy: &Policy) -> String {
    let db = &o.database;
    let text = |v: &serde_json::Value| v.as_str().unwrap_or_default().to_string();
    let last = |v: &serde_json::Value, by: char| text(v).rsplit(by).next().unwrap_or_default().to_string();
    let state = &o.state;
    match o.verb.as_str() {
        // Asked for otherwise, the next run makes another one.
        "backup" | "backup-job" if has_options(o, policy) => {
            format!("the same `holdfast backup {db}`, with the options that it was begun with,")
        }
        "backup" | "backup-job" => match state["tier"].as_str() {
            Some(tier) => format!("`holdfast backup {db} --tier {tier}`"),
            None => format!("`holdfast backup {db}`"),
        },
        "copy-job" => {
            let name = last(&state["job"]["to_vault_arn"], ':');
            let at = |p: &VaultPlace| matches!(p, VaultPlace::AwsBackup { vault, .. } if *vault == name);
            let own = policy.managed_vaults.values().find(|v| at(&v.place));
            format!("`holdfast copy {db} --to {}`", own.map_or(name.as_str(), |v| v.name.as_str()))
        }
        "recover" => {
            let when = state["at"].as_str().map(|t| format!(" --at {t}")).unwrap_or_default();
            let (what, to) = (text(&state["scenario"]), text(&state["request"]["to"]));
            format!("`holdfast recover {db} --scenario {what}{when} --to-id {to} --yes`")
        }
        "restore" => {
            let to = last(&state["progress"]["plan"]["target"]["source"], '/');
            format!("the same `holdfast restore {db} --to-id {to}`, with the options that it was begun with,")
        }
        "cutover" => format!("`holdfast cutover {db} --resume`"),
        "retire" => format!("`holdfast retire {} --db {db} --yes`", last(&state["database"], '/')),
        "verify" => format!("`holdfast verify {db}{} --yes`", as_begun(&state["plan"]["request"])),
        "apply" => format!("`holdfast apply {db} --yes`"),
        verb => format!("`holdfast {verb} {db}`"),
    }
}

/// The options of a verification that was begun: with others, another one would follow it.
fn as_begun(request: &serde_json::Value) -> String {
    let what = &request["what"];
    let text = |v: &serde_json::Value| v.as_str().map(str::to_string);
    let option = |name: &str, v: Option<String>| v.map(|v| format!(" {name} {v}")).unwrap_or_default();
    let what = match text(what).as_deref() {
        Some("random") => " --random".to_string(),
        _ => {
            option("--from-snapshot", text(&what["snapshot"]))
                + &option("--from-point", text(&what["recovery-point"]["arn"]))
                + &option("--at", text(&what["moment"]).or_else(|| text(&what["moment"]["time"])))
        }
    };
    what + &option("--region", text(&request["region"])) + &option("--level", text(&request["level"]))
}

/// What `plan` would change.
pub fn settings(compared: &Result<apply::Plan>) -> Line {
    const NAME: &str = "settings";
    match compared {
        Ok(p) if p.changes.is_empty() => Line::ok(NAME, "as the policy says"),
        Ok(p) => {
            let what: Vec<&str> = p.changes.iter().map(|c| c.what).collect();
            let hint = "`holdfast plan` shows each, `holdfast apply` makes them";
            Line::warn(NAME, format!("not as the policy says: {}", what.join(", ")), hint)
        }
        Err(e) => Line::error(NAME, Status::Warn, e),
    }
}

fn identity(s: &Seen, d: &ManagedDatabase) -> Line {
    const NAME: &str = "provider.identity";
    match (&s.identity, &d.account) {
        (Ok(i), Some(a)) if *a != i.account => Line::fail(
            NAME,
            format!("these are credentials of account {}, and the policy says {a}", i.account),
            "set `profile` or `role` of the database, or AWS_PROFILE",
        ),
        (Ok(i), _) => Line::ok(NAME, format!("{} in account {}", i.arn, i.account)),
        (Err(e), _) => Line::error(NAME, Status::Fail, e),
    }
}

fn source(
    out: &mut Vec<Line>,
    s: &Seen,
    d: &ManagedDatabase,
    plan: &ManagedPlan,
    live: &Database,
    now: Timestamp,
) {
    let name = s.holdings.database.as_str();
    let status = format!("{} is `{}`", s.holdings.source, live.status);
    if is_replaced(live) {
        out.push(Line::fail(
            "source.replaced",
            "a cutover put another database in its place: what is protected here is the old one",
            format!("write the new one as `source` and its `resource-id` in [databases.{name}]"),
        ));
    }
    out.push(match (live.status.is_available(), live.status.is_failed()) {
        (true, _) => Line::ok("source.state", status),
        (_, true) => Line::fail("source.state", status, "the provider's console says what to do about it"),
        _ if live.status.is_deleting() => Line::fail(
            "source.state",
            status,
            format!("nothing stops that: `holdfast recover {name} --scenario accidental-deletion --at TIME` shows the ways back"),
        ),
        _ => Line::warn("source.state", status, "snapshots and changes wait until it is available"),
    });
    if s.holdings.source.engine.is_cluster() && live.members.is_empty() {
        out.push(Line::fail("source.members", "the cluster has no instance", "nobody can connect to it"));
    }
    out.push(match &d.resource_id {
        Some(id) if *id == live.resource_id => Line::ok("source.resource-id", id.clone()),
        Some(id) => Line::fail(
            "source.resource-id",
            format!(
                "it is {}, and the policy says {id}: another database has this name now",
                live.resource_id
            ),
            format!(
                "its points begin with its creation; then write `resource-id = \"{}\"`",
                live.resource_id
            ),
        ),
        None => Line::warn(
            "source.resource-id",
            "the policy does not name it: once the database is gone, its backups are hard to find",
            format!("write `resource-id = \"{}\"` into [databases.{name}]", live.resource_id),
        ),
    });
    encryption(out, s, d, live);
    window(out, plan, live, now);
    if plan.deletion_protection && !live.deletion_protection {
        out.push(Line::warn("source.deletion-protection", "it is off", "`holdfast apply` turns it on"));
    }
    if !live.pending.is_empty() {
        let message = format!("pending until the maintenance window: {}", live.pending.join(", "));
        out.push(Line::warn("source.pending", message, "nothing to do, if that was meant"));
    }
}

fn encryption(out: &mut Vec<Line>, s: &Seen, d: &ManagedDatabase, live: &Database) {
    match (live.storage.encrypted, d.encrypted) {
        (true, false) => out.push(Line::fail(
            "source.encryption",
            "it is encrypted, and the policy says that it is not",
            "take `encrypted = false` out: copies to other regions need a key",
        )),
        (false, true) => out.push(Line::warn(
            "source.encryption",
            "it is not encrypted, and the policy says that it is",
            "write `encrypted = false`, or restore it into an encrypted one",
        )),
        (true, true) => {}
        (false, false) => out.push(Line::ok("source.encryption", "not encrypted, as the policy says")),
    }
    if let Some(k) = &s.source_key {
        out.push(key("source.key", k));
    }
}

fn key(name: &str, k: &Result<KmsKey>) -> Line {
    let lost = "cancel its deletion or enable it: without the key every snapshot under it is noise";
    match k {
        Err(e) => Line::error(name, Status::Fail, e),
        Ok(k) => match (&k.state, k.deletion) {
            (KeyState::Enabled, _) => Line::ok(name, format!("{} is enabled", k.arn)),
            (KeyState::PendingDeletion, Some(t)) => {
                Line::fail(name, format!("{} will be destroyed {}", k.arn, short(t)), lost)
            }
            (state, _) => Line::fail(name, format!("{} is {state:?}", k.arn).to_lowercase(), lost),
        },
    }
}

fn window(out: &mut Vec<Line>, plan: &ManagedPlan, live: &Database, now: Timestamp) {
    const NAME: &str = "source.window";
    let Some(w) = live.window else {
        out.push(match (&plan.pitr, live.backup.retention_days) {
            (None, 0) => Line::warn(
                NAME,
                "automated backup is off",
                "only snapshots can be restored, no second between",
            ),
            (Some(_), 0) => {
                Line::fail(NAME, "automated backup is off", "`holdfast apply` sets what the policy says")
            }
            _ => Line::warn(
                NAME,
                "nothing can be restored to a second yet",
                "the first automated backup makes it so",
            ),
        });
        return;
    };
    let late = since(w.latest, now);
    let from = w.earliest.map_or("an unknown time".to_string(), short);
    let message = format!("any second from {from} to {} ({} ago)", short(w.latest), human(late));
    let hint = "the provider is behind with its log: look at its events and at the load";
    out.push(match late {
        l if l > VERY_LATE => Line::fail(NAME, message, hint),
        l if l > LATE => Line::warn(NAME, message, hint),
        _ => Line::ok(NAME, message),
    });
}

fn since(t: Timestamp, now: Timestamp) -> Duration {
    now.duration_since(t).max(SignedDuration::ZERO).unsigned_abs()
}

/// Of a region that could not be seen whole, here or in the account of that vault, nobody knows what is not there.
fn if_seen(s: &Seen, region: &str, vault: Option<&str>, found: Line) -> Line {
    let account = vault.and_then(|v| s.gates.of(v)).map(|g| &g.account);
    let unseen = s.failures.iter().any(|(r, _)| account.is_none() && r.as_str() == region);
    let abroad = s.unseen.iter().find(|u| Some(&u.account) == account && u.region.as_str() == region);
    match (found.status, abroad) {
        (Status::Ok, _) => found,
        (_, Some(u)) => Line::warn(
            &found.name,
            format!("nobody knows: {region} of account {} could not be seen whole", u.account),
            format!("`vault.{}` says why; then run `holdfast doctor {}` again", u.vault, s.holdings.database),
        ),
        _ if !unseen => found,
        _ => Line::warn(
            &found.name,
            format!("nobody knows: {region} could not be seen whole"),
            format!("`region.{region}` says why; then run `holdfast doctor {}` again", s.holdings.database),
        ),
    }
}

/// When points are to come.
struct Due {
    /// The longest time between two runs.
    pause: Duration,
    /// How much longer than that one may take.
    more: Duration,
    /// The first run since it has been expected.
    first: Option<Timestamp>,
}

/// The age of the newest, against the longest time between two runs.
fn age(name: &str, newest: Option<Timestamp>, due: Due, run: &str, now: Timestamp) -> Line {
    let Due { pause, more, first } = due;
    let Some(t) = newest else {
        let message = "there is no point yet";
        return match first {
            Some(t) if t < now && since(t, now) > more => {
                Line::fail(name, format!("{message}, and the first run was due {}", short(t)), run)
            }
            Some(t) => Line::warn(name, format!("{message}; the first run is due {}", short(t)), run),
            None => Line::warn(name, message, run),
        };
    };
    let age = since(t, now);
    let message = format!("the newest shows {}, {} ago", short(t), human(age));
    match age {
        a if a > pause * 2 + more => Line::fail(name, format!("{message}: two runs were missed"), run),
        a if a > pause + more => Line::warn(name, format!("{message}: a run was missed"), run),
        _ => Line::ok(name, message),
    }
}

fn zone(t: &ManagedTier) -> TimeZone {
    TimeZone::get(&t.timezone).unwrap_or(TimeZone::UTC)
}

fn pause(t: &ManagedTier) -> Duration {
    t.schedule.longest_pause(&zone(t)).map_or(Duration::from_secs(86_400), time::Duration::std)
}

/// The first run that a tier should have made.
fn first(s: &Seen, name: &str, t: &ManagedTier) -> Option<Timestamp> {
    t.schedule.after(*s.expected.get(name)?, &zone(t))
}

/// The newest moment that what `of` selects shows.
fn newest(s: &Seen, of: impl Fn(&Kept) -> bool) -> Option<Timestamp> {
    let all = || s.holdings.kept.iter().filter(|k| k.restorable && of(k));
    // A copy that does not say what it shows counts where nothing else does.
    let sure = all().filter(|k| !k.at_most).filter_map(|k| k.taken).max();
    sure.or_else(|| all().filter_map(|k| k.taken).max())
}

fn tier(s: &Seen, policy: &Policy, name: &str, t: &ManagedTier, now: Timestamp) -> Line {
    let vault = t.vault.as_ref().and_then(|v| policy.managed_vaults.get(v)).map(|v| &v.place);
    let found = match vault {
        // By the rule of the plan that made it, or by what Holdfast asked for.
        Some(VaultPlace::AwsBackup { region, vault }) => newest(s, |k| {
            let here = k.region.as_str() == region && k.vault.as_deref() == Some(vault);
            here && k.window.is_none() && k.tier.as_deref() == Some(name)
        }),
        _ => newest(s, |k| {
            let here = k.account.is_none() && k.region == s.holdings.source.region;
            here && k.ours && k.tier.as_deref() == Some(name)
        }),
    };
    let run = match vault {
        Some(VaultPlace::AwsBackup { .. }) => {
            "AWS Backup makes it by its plan: `holdfast plan` shows whether there is one".into()
        }
        _ => format!("run `holdfast backup {} --tier {name}`, and look at its timer", s.holdings.database),
    };
    let due = Due { pause: pause(t), more: SLACK, first: first(s, name, t) };
    age(&format!("tier.{name}"), found, due, &run, now)
}

fn copy(s: &Seen, policy: &Policy, plan: &ManagedPlan, name: &str, c: &ManagedCopy, now: Timestamp) -> Line {
    let label = format!("copy.{name}");
    let Some(v) = policy.managed_vaults.get(&c.to) else {
        return Line::fail(&label, format!("there is no vault `{}`", c.to), "see [vaults] in the policy");
    };
    let account = s.gates.of(&c.to).map(|g| &g.account);
    let there = |k: &Kept, region: &String| k.account.as_ref() == account && k.region.as_str() == region;
    let found = match &v.place {
        VaultPlace::AwsBackup { region, vault } => {
            newest(s, |k| there(k, region) && k.vault.as_deref() == Some(vault))
        }
        VaultPlace::Snapshots { region } => newest(s, |k| {
            let wanted = k.tier.as_ref().is_some_and(|t| c.of.contains(t));
            there(k, region) && k.ours && k.kind == "copy" && wanted
        }),
    };
    let tiers = || c.of.iter().filter_map(|n| Some((n.as_str(), plan.tiers.get(n)?)));
    let shortest = tiers().map(|(_, t)| pause(t)).min();
    let due = Due {
        pause: shortest.unwrap_or(Duration::from_secs(86_400)),
        more: SLACK * 2,
        first: tiers().filter_map(|(n, t)| first(s, n, t)).min(),
    };
    let run = match v.place.is_aws_backup() {
        true => "AWS Backup copies by its plan: look at its copy jobs".to_string(),
        false => format!("run `holdfast copy {}`, and look at its timer", s.holdings.database),
    };
    age(&label, found, due, &run, now)
}

fn vault(out: &mut Vec<Line>, policy: &Policy, v: &SeenVault, now: Timestamp) {
    let name = format!("vault.{}", v.name);
    let apply = "`holdfast apply` makes it as the policy says";
    let lock = |mode| match mode {
        LockMode::Compliance => format!("`holdfast apply --yes --confirm-lock {}` puts it on", v.name),
        LockMode::Governance => apply.to_string(),
    };
    if let Some(k) = &v.key {
        out.push(key(&format!("{name}.key"), k));
    }
    let wanted = policy.managed_vaults.get(&v.name).and_then(|v| v.lock);
    match &v.vault {
        None => {}
        Some(Err(e)) => out.push(Line::error(&name, Status::Fail, e)),
        Some(Ok(None)) => out.push(Line::fail(&name, format!("it is not there in {}", v.region), apply)),
        Some(Ok(Some(found))) => {
            out.push(Line::ok(&name, format!("{} points in {}", found.points, v.region)));
            let mode = found.lock.map(|l| l.mode(now));
            let date = found.lock.and_then(|l| l.lock_date).map(short).unwrap_or_default();
            let label = format!("{name}.lock");
            out.extend(match (wanted.map(|w| w.mode), mode) {
                (None, None) => None,
                (None, Some(m)) => Some(Line::ok(&label, format!("{}, not by this policy", word(m)))),
                (Some(mode), None) => Some(Line::fail(&label, "it has no lock", lock(mode))),
                (Some(LockMode::Compliance), Some(Lock::Governance)) => Some(Line::fail(
                    &label,
                    "whoever has the permission removes it: it is governance, and the policy says compliance",
                    lock(LockMode::Compliance),
                )),
                (Some(LockMode::Compliance), Some(Lock::CompliancePending)) => Some(Line::warn(
                    &label,
                    format!("it can be removed until {date}"),
                    "after that nobody can change or remove it",
                )),
                (Some(_), Some(m)) => Some(Line::ok(&label, word(m))),
            });
        }
    }
}

fn word(m: Lock) -> &'static str {
    match m {
        Lock::Governance => "governance: it stops accidents, not attackers",
        Lock::CompliancePending => "compliance, removable until its date",
        Lock::Compliance => "compliance: nobody removes it",
    }
}

fn jobs(out: &mut Vec<Line>, s: &Seen) {
    for (region, found) in &s.jobs {
        let name = format!("jobs.{region}");
        let all = match found {
            Ok(all) => all,
            Err(e) => {
                out.push(Line::error(&name, Status::Warn, e));
                continue;
            }
        };
        let over = all.iter().filter(|j| j.state.is_final());
        match over.max_by_key(|j| j.created) {
            Some(j) if j.state.is_success() => {
                out.push(Line::ok(
                    &name,
                    format!("the last job of AWS Backup succeeded, {}", short(j.created)),
                ));
            }
            Some(j) => out.push(Line::fail(
                &name,
                format!(
                    "the last job of AWS Backup is {:?}, {}: {}",
                    j.state,
                    short(j.created),
                    j.message.as_deref().unwrap_or("no reason was given")
                ),
                "look at its role, its window and the lock of its vault",
            )),
            None => {}
        }
    }
}

fn verified(s: &Seen, plan: &ManagedPlan, now: Timestamp) -> Line {
    const NAME: &str = "verify.newest";
    let run = format!("run `holdfast verify {}`", s.holdings.database);
    let Some(v) = &plan.verify else {
        return Line::warn(NAME, "nothing is ever verified", "add [policies.NAME.verify] to the policy");
    };
    let (all, level) = (s.verified(), v.level);
    let lower = match all.below(level) {
        Some((l, t)) => {
            format!("; {l} was passed {} ago, which is less than the policy wants", human(since(t, now)))
        }
        None => String::new(),
    };
    match all.at_least(level) {
        None => Line::warn(NAME, format!("no verification of {level} has succeeded yet{lower}"), run),
        Some(t) if since(t, now) > v.every.std() => Line::warn(
            NAME,
            format!(
                "the last of {level} was {} ago, and the policy says every {}{lower}",
                human(since(t, now)),
                v.every
            ),
            run,
        ),
        Some(t) => Line::ok(NAME, format!("the last of {level} was {} ago", human(since(t, now)))),
    }
}

fn quotas(out: &mut Vec<Line>, s: &Seen) {
    // Amazon's words, and ours.
    let wanted: &[(&str, &str)] = match s.holdings.source.engine.is_cluster() {
        true => &[
            ("ManualClusterSnapshots", "snapshots"),
            ("DBClusters", "clusters"),
            ("DBInstances", "instances"),
        ],
        false => &[("ManualSnapshots", "snapshots"), ("DBInstances", "instances")],
    };
    for (region, found) in &s.quotas {
        let all = match found {
            Ok(all) => all,
            Err(e) => {
                out.push(Line::error(&format!("quota.{region}"), Status::Warn, e));
                continue;
            }
        };
        for (name, short) in wanted {
            let Some(q) = all.iter().find(|q| q.name == *name) else { continue };
            let label = format!("quota.{region}.{short}");
            let message = format!("{} of {} {}", q.used, q.max, q.name);
            let hint = "the next one fails: remove what nobody needs, or ask for more (Service Quotas)";
            out.push(match q.used.saturating_mul(100) {
                _ if q.used >= q.max => Line::fail(&label, message, hint),
                part if part >= q.max.saturating_mul(NEARLY) => Line::warn(
                    &label,
                    message,
                    "`holdfast validate --live` projects what the policy will keep",
                ),
                _ => Line::ok(&label, message),
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_goes_on_is_named_by_a_command_that_runs() {
        let policy = "version = 1\n[databases.shop]\nsource = \"rds://us-east-1/shop\"\npolicy = \"p\"\n\
                      [vaults.safe]\nurl = \"aws-backup://us-west-2/far\"\n[policies.p]\nrpo = \"1d\"\nrto = \"4h\"\n\
                      [policies.p.tiers.daily]\nschedule = \"0 12 * * *\"\nkeep = { last = 2, at-least = 1 }\n";
        let policy = Policy::parse(policy, std::path::Path::new("/etc/holdfast.toml")).unwrap();
        for (verb, state, says) in [
            ("backup-job", json!({ "tier": "monthly" }), "`holdfast backup shop --tier monthly`"),
            (
                "copy-job",
                json!({ "job": { "to_vault_arn": "arn:aws:backup:us-west-2:1:backup-vault:far" } }),
                "`holdfast copy shop --to safe`",
            ),
            (
                "recover",
                json!({ "scenario": "corruption", "at": "2026-11-21T08:35:00Z", "request": { "to": "risen" } }),
                "`holdfast recover shop --scenario corruption --at 2026-11-21T08:35:00Z --to-id risen --yes`",
            ),
            ("cutover", json!({}), "`holdfast cutover shop --resume`"),
            ("retire", json!({ "database": "rds://us-east-1/old" }), "`holdfast retire old --db shop --yes`"),
            ("apply", json!({}), "`holdfast apply shop --yes`"),
        ] {
            let o: Outline = serde_json::from_value(json!({
                "version": 1, "id": "x", "verb": verb, "database": "shop", "state": state,
                "begun": "2026-11-21T09:00:00Z", "updated": "2026-11-21T09:00:00Z",
            }))
            .unwrap();
            assert_eq!(again(&o, &policy), says);
        }
    }
}
