//! Where a restore comes from: [`find`] looks at what the provider has, and refuses what cannot be restored.
//!
//! "The newest" is the newest by the moment that its data shows, of this source, and finished; never the first of a
//! listing (provider rules X11).

use super::moment::{self, At, Past, Way};
use super::target::Backup;
use super::{Request, What};
use crate::error::{EngineError, Result};
use crate::managed::copy;
use crate::managed::identity::is_resource_id;
use crate::managed::lineage::{self, Lineage, Whose};
use crate::managed::observed::Observed;
use crate::managed::{Managed, backup_role};
use holdfast_core::managed::{
    AutomatedBackup, AutomatedKind, Database, Engine, ErrorKind, KeyState, Moment, RecoveryPoint, Region,
    RestorableWindow, RestoreFrom, Snapshot, SnapshotFilter, SnapshotKind, SnapshotRef, Source,
};
use holdfast_core::time::short;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// How the provider is asked.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Origin {
    Provider {
        from: RestoreFrom,
    },
    /// A restore job of AWS Backup.
    RecoveryPoint {
        vault: String,
        arn: String,
        role_arn: String,
        /// What AWS Backup remembers of the source.
        hints: BTreeMap<String, String>,
        moment: Option<Moment>,
    },
}

/// What was found.
#[derive(Debug, Clone)]
pub struct Found {
    pub origin: Origin,
    /// For people.
    pub words: String,
    /// What the data will show, where it is known.
    pub moment: Option<Timestamp>,
    pub backup: Backup,
    pub snapshot: Option<Snapshot>,
    pub notes: Vec<String>,
}

/// The source as far as it can be seen.
#[derive(Debug, Clone, Copy)]
pub struct Seen<'a> {
    /// It lives, in its own region.
    pub live: Option<&'a Observed>,
    /// It, or how it was last seen.
    pub like: Option<&'a Observed>,
}

/// Finds what the request names, in the target's region.
pub async fn find(m: &Managed, to: &Source, seen: Seen<'_>, r: &Request, now: Timestamp) -> Result<Found> {
    match &r.what {
        What::Moment { at, backup } => {
            let ways = ways(m, &to.region, seen, backup.as_deref()).await?;
            let chosen = moment::choose(&ways, *at, r.nearest, now)?;
            Ok(Found {
                words: format!("{}, at {}", chosen.way.past.words(), short(chosen.moment)),
                origin: Origin::Provider { from: chosen.from },
                moment: Some(chosen.moment),
                backup: Backup {
                    engine_name: engine_name(m.source.engine, seen.like),
                    size_gib: seen
                        .like
                        .filter(|l| l.database.resource_id == chosen.way.resource_id)
                        .and_then(|l| l.database.storage.allocated_gib)
                        .filter(|_| !to.engine.is_cluster()),
                },
                snapshot: None,
                notes: chosen.notes,
            })
        }
        What::Newest => {
            let (s, left) = newest(m, &to.region, whose(seen, r).as_ref()).await?;
            let mut found = of_snapshot(m, to, s).await?;
            found.notes.extend(left);
            Ok(found)
        }
        What::Snapshot(name) => {
            let s = named(m, to, name).await?;
            own(m, &s, whose(seen, r).as_ref(), r)?;
            of_snapshot(m, to, s).await
        }
        What::RecoveryPoint { vault, arn, at } => {
            let p = m.cloud.recovery_point(&to.region, vault, arn).await?;
            own_point(m, to, &p, whose(seen, r).as_ref(), r).await?;
            of_point(m, to, seen, p, *at, r, now).await
        }
    }
}

fn engine_name(engine: Engine, like: Option<&Observed>) -> String {
    let default = match engine {
        Engine::Rds => "postgres",
        Engine::Aurora => "aurora-postgresql",
        Engine::DocumentDb => "docdb",
    };
    like.map_or(default.to_string(), |l| l.database.engine_name.clone())
}

/// The ways to a moment of the source in `region`.
async fn ways(m: &Managed, region: &Region, seen: Seen<'_>, only: Option<&str>) -> Result<Vec<Way>> {
    let mut ways = Vec::new();
    let live = seen.live.map(|l| &l.database).filter(|_| *region == m.source.region);
    if let Some(d) = live {
        ways.extend(live_way(d)?);
    }
    let listed = m.cloud.automated_backups(m.source.engine, region).await?;
    let known = seen.like.map(|l| l.database.resource_id.as_str());
    ways.extend(listed.iter().filter(|b| is_past_of(b, &m.source, known)).filter_map(past_way));
    if let Some(name) = only {
        ways.retain(|w| {
            w.resource_id == name || matches!(&w.from, RestoreFrom::Automated { arn, .. } if arn == name)
        });
        // What a cutover replaced is a past only for whoever names it: it may show what nobody used any more.
        let line = seen.like.map(|l| Lineage::seen(&l.database)).unwrap_or_default();
        let named = |b: &&AutomatedBackup| b.resource_id == name || b.arn.as_deref() == Some(name);
        if ways.is_empty() {
            let before = listed.iter().filter(named).filter(|b| line.successor(&b.resource_id).is_some());
            ways.extend(before.filter_map(past_way));
        }
        if ways.is_empty() {
            return Err(EngineError::not_found(
                format!("{region} has no automated backup `{name}` of `{}`", m.source),
                format!("`holdfast list {}` shows what is there", m.name),
            ));
        }
    }
    match ways.is_empty() {
        true => Err(no_way(m, region, live)),
        false => Ok(ways),
    }
}

/// A source that is being made or removed cannot be restored from.
fn live_way(d: &Database) -> Result<Option<Way>> {
    if d.status.as_str() == "creating" || d.status.is_deleting() {
        return Err(EngineError::refused(
            format!("`{}` is `{}`: AWS restores no moment of it now", d.source, d.status),
            "wait until that is over; a snapshot can be restored at any time: `--from-snapshot ID`",
        ));
    }
    let from = RestoreFrom::Live { id: d.source.id.clone(), to: Moment::Latest };
    let way = |window| Way { past: Past::Live, from, resource_id: d.resource_id.clone(), window };
    Ok(d.window.map(way))
}

fn is_past_of(b: &AutomatedBackup, source: &Source, resource_id: Option<&str>) -> bool {
    let same = b.at.id == source.id || resource_id == Some(b.resource_id.as_str());
    same && match b.kind {
        AutomatedKind::Live => false,
        AutomatedKind::Retained => b.at.region == source.region,
        AutomatedKind::Replicated => b.source_region == source.region,
    }
}

fn past_way(b: &AutomatedBackup) -> Option<Way> {
    let past = match b.kind {
        AutomatedKind::Replicated => Past::Replicated,
        AutomatedKind::Retained => Past::Retained,
        AutomatedKind::Live => Past::Before,
    };
    let from = match (b.at.engine, &b.arn) {
        // It lives: its name may change, its resource id does not.
        _ if past == Past::Before => {
            RestoreFrom::Resource { resource_id: b.resource_id.clone(), to: Moment::Latest }
        }
        // Aurora finds what is left of a cluster by its resource id only (RestoreDBClusterToPointInTime).
        (Engine::Rds, Some(arn)) => RestoreFrom::Automated { arn: arn.clone(), to: Moment::Latest },
        _ => RestoreFrom::Resource { resource_id: b.resource_id.clone(), to: Moment::Latest },
    };
    Some(Way { past, from, resource_id: b.resource_id.clone(), window: b.window? })
}

fn no_way(m: &Managed, region: &Region, live: Option<&Database>) -> EngineError {
    let source = &m.source;
    let snapshots =
        format!("restore a snapshot instead: `--from-snapshot ID`; `holdfast list {}` shows them", m.name);
    if *region != source.region {
        return EngineError::not_found(
            format!("no automated backup of `{source}` is replicated to {region}"),
            format!("in another region {snapshots}"),
        );
    }
    match live {
        Some(d) if d.backup.retention_days == 0 => EngineError::refused(
            format!("automated backup of `{source}` is off: no moment can be restored"),
            format!("switch it on with `holdfast apply` for the future; {snapshots}"),
        ),
        Some(d) => EngineError::refused(
            format!("`{source}` ({}) has no moment that can be restored yet", d.status),
            format!("wait for its first backup, or {snapshots}"),
        ),
        None if source.engine == Engine::DocumentDb => EngineError::not_found(
            format!("`{source}` is gone, and DocumentDB's automated backups went with it"),
            snapshots,
        ),
        None => EngineError::not_found(
            format!("`{source}` is gone, and no automated backup of it was retained"),
            snapshots,
        ),
    }
}

/// By the policy's resource id, or how the source looked last.
fn whose(seen: Seen<'_>, r: &Request) -> Option<Whose> {
    if r.of_another {
        return None;
    }
    let database = seen.like.map(|l| &l.database);
    let line = database.map(Lineage::seen).unwrap_or_default();
    // A placeholder that nobody replaced is no reason to refuse everything.
    Whose::new(r.resource_id.as_deref().filter(|id| is_resource_id(id)), database, &[line])
}

/// The newest of this database, or of those that it replaced; and which newer ones were left, because they are of
/// another one of its name.
async fn newest(m: &Managed, region: &Region, whose: Option<&Whose>) -> Result<(Snapshot, Option<String>)> {
    let long = whose.is_some_and(|w| w.line().is_long());
    let source_id = (!long).then(|| m.source.id.clone());
    let mut all =
        m.cloud.snapshots(m.source.engine, region, &SnapshotFilter { source_id, kind: None }).await?;
    // In another region another database may have the name.
    let from = |s: &Snapshot| {
        let copied = s
            .of_original(holdfast_core::managed::tags::COPY_FROM_REGION)
            .or(s.copied_from_region.as_ref().map(Region::as_str));
        copied.unwrap_or(s.at.region.as_str()) == m.source.region.as_str()
    };
    let by_name = |s: &Snapshot| s.source_id == m.source.id && from(s);
    let before = |s: &Snapshot| whose.is_some_and(|w| w.line().made(s, m.name.as_str(), &m.source));
    all.retain(|s| s.status.is_available() && (by_name(s) || before(s)));
    let (own, others): (Vec<Snapshot>, Vec<Snapshot>) = all.into_iter().partition(|s| is_own(s, whose));
    let other = others.into_iter().max_by_key(copy::moment);
    match (own.into_iter().max_by_key(copy::moment), other) {
        (Some(s), other) => {
            let newer = other.filter(|o| copy::moment(o) > copy::moment(&s));
            Ok((s, newer.map(|o| format!("`{}` is newer, and {}", o.at, another(m, &o)))))
        }
        (None, Some(o)) => Err(refused(m, &o)),
        (None, None) => Err(EngineError::not_found(
            format!("{region} has no finished snapshot of `{}`", m.source),
            format!("`holdfast list {}` shows what every region has", m.name),
        )),
    }
}

/// What does not say whose it is goes by its name.
fn is_own(s: &Snapshot, whose: Option<&Whose>) -> bool {
    whose.zip(lineage::of_snapshot(s)).is_none_or(|(w, id)| w.is_own(id))
}

fn own(m: &Managed, s: &Snapshot, whose: Option<&Whose>, r: &Request) -> Result<()> {
    match r.of_another || is_own(s, whose) {
        true => Ok(()),
        false => Err(refused(m, s)),
    }
}

/// A recovery point does not say which database it is of; the snapshot that it is does.
async fn own_point(
    m: &Managed,
    to: &Source,
    p: &RecoveryPoint,
    whose: Option<&Whose>,
    r: &Request,
) -> Result<()> {
    let (Some(id), Some(_), false) = (p.snapshot_id(), whose, r.of_another) else { return Ok(()) };
    let at = SnapshotRef { engine: to.engine, region: to.region.clone(), id: id.to_string() };
    match m.cloud.snapshot(&at).await {
        Ok(s) => own(m, &s, whose, r),
        // Not every point is a snapshot that can be seen here.
        Err(_) => Ok(()),
    }
}

fn another(m: &Managed, s: &Snapshot) -> String {
    let id = lineage::of_snapshot(s).unwrap_or("unknown");
    format!("of another database than `{}` is: {} ({id})", m.name, s.source_id)
}

fn refused(m: &Managed, s: &Snapshot) -> EngineError {
    EngineError::refused(
        format!("snapshot `{}` is {}", s.at, another(m, s)),
        format!(
            "`holdfast list {}` shows what there is; if that is the right one, write its `resource-id` into the policy; \
             `restore … --of-another` takes it all the same",
            m.name
        ),
    )
}

async fn named(m: &Managed, to: &Source, name: &str) -> Result<Snapshot> {
    if let Some(region) = name.strip_prefix("arn:").and_then(|a| a.split(':').nth(2))
        && region != to.region.as_str()
    {
        return Err(EngineError::refused(
            format!("snapshot `{name}` is in {region}, and a restore happens where the snapshot is"),
            format!("copy it first (`holdfast copy {} --to VAULT`), or restore in {region}", m.name),
        ));
    }
    let at = SnapshotRef { engine: to.engine, region: to.region.clone(), id: name.to_string() };
    Ok(m.cloud.snapshot(&at).await?)
}

async fn of_snapshot(m: &Managed, to: &Source, s: Snapshot) -> Result<Found> {
    restorable(&s)?;
    let mut notes = Vec::new();
    if s.source_id != m.source.id {
        notes.push(format!("the snapshot is of `{}`, not of `{}`", s.source_id, m.source.id));
    }
    if let Some(key) = &s.key {
        notes.extend(usable_key(m, &to.region, key).await?);
    }
    let moment = copy::moment(&s);
    Ok(Found {
        words: format!("snapshot `{}`, of {}", s.at, moment.map_or("an unknown time".into(), short)),
        origin: Origin::Provider { from: RestoreFrom::Snapshot(s.at.clone()) },
        moment,
        backup: Backup {
            engine_name: s.engine_name.clone(),
            size_gib: (!to.engine.is_cluster()).then_some(s.size_gib),
        },
        snapshot: Some(s),
        notes,
    })
}

/// What AWS would refuse later.
pub fn restorable(s: &Snapshot) -> Result<()> {
    if !s.status.is_available() {
        let hint = match s.status.is_failed() {
            true => "choose another snapshot",
            false => "wait until it is `available`, or choose another snapshot",
        };
        return Err(EngineError::refused(format!("snapshot `{}` is `{}`", s.at, s.status), hint));
    }
    if s.kind == SnapshotKind::Shared && s.encrypted {
        return Err(EngineError::refused(
            format!("snapshot `{}` is another account's and encrypted: AWS does not restore it", s.at),
            "copy it into this account first, with a key of its own",
        ));
    }
    Ok(())
}

/// Without its key a snapshot is noise. What we may not ask is a note, not a refusal.
async fn usable_key(m: &Managed, region: &Region, key: &str) -> Result<Option<String>> {
    match m.cloud.key(region, key).await {
        Ok(k) if k.state == KeyState::Enabled => Ok(None),
        Ok(k) => Err(EngineError::refused(
            format!("the key of the backup, `{}`, is {:?}", k.arn, k.state).to_lowercase(),
            "enable it, or cancel its deletion, in KMS",
        )),
        Err(e) if matches!(e.kind, ErrorKind::Denied { .. } | ErrorKind::NotFound) => {
            Ok(Some(format!("it is not known whether the key can be used: {e}")))
        }
        Err(e) => Err(e.into()),
    }
}

/// The vault of AWS Backup in `region` that has a recovery point; those of `first` are asked before the others.
///
/// # Errors
/// None has it, or they cannot be seen.
pub async fn vault_of(m: &Managed, region: &Region, arn: &str, first: &[&str]) -> Result<String> {
    let mut vaults = m.cloud.vaults(region).await?;
    vaults.sort_by_key(|v| (!first.contains(&v.name.as_str()), v.name.clone()));
    for v in vaults {
        match m.cloud.recovery_point(region, &v.name, arn).await {
            Ok(_) => return Ok(v.name),
            Err(e) if e.is_not_found() || e.kind == ErrorKind::InvalidRequest => {}
            Err(e) => return Err(e.into()),
        }
    }
    Err(EngineError::not_found(
        format!("no vault of AWS Backup in {region} has a recovery point `{arn}`"),
        format!("`holdfast list {}` shows what there is; --region says where to look", m.name),
    ))
}

async fn of_point(
    m: &Managed,
    to: &Source,
    seen: Seen<'_>,
    p: RecoveryPoint,
    at: Option<At>,
    r: &Request,
    now: Timestamp,
) -> Result<Found> {
    if p.engine != to.engine {
        return Err(EngineError::usage(
            format!("recovery point `{}` is of {}, and `{}` is {}", p.arn, p.engine, m.name, to.engine),
            "name a recovery point of this database",
        ));
    }
    if !p.status.is_restorable() {
        return Err(EngineError::refused(
            format!(
                "recovery point `{}` cannot be restored: it is {:?}{}",
                p.arn,
                p.status,
                p.status_message.as_ref().map(|w| format!(" ({w})")).unwrap_or_default()
            ),
            "choose one that is completed",
        ));
    }
    let role_arn = backup_role::role(&*m.cloud, &to.region, &p.vault, r.role_arn.as_deref()).await?;
    let mut notes = Vec::new();
    let (moment, shows) = match (at, p.continuous, p.window) {
        (None, false, _) => (None, p.created),
        (Some(_), false, _) => {
            return Err(EngineError::usage(
                format!(
                    "recovery point `{}` is not continuous: it has one moment, {}",
                    p.arn,
                    short(p.created)
                ),
                "leave out --at, or name a continuous point",
            ));
        }
        // Its end is the newest moment, which may have the fault in it: only who says so gets it.
        (None, true, _) if !r.temporary => {
            return Err(EngineError::usage(
                format!("recovery point `{}` is continuous: to which moment?", p.arn),
                "--at TIME of the incident, or --at latest",
            ));
        }
        (at, true, Some(window)) => {
            let (moment, shows, said) = in_window(&window, at.unwrap_or_default(), r.nearest, now)?;
            notes = said;
            (Some(moment), shows)
        }
        (_, true, None) => {
            return Err(EngineError::refused(
                format!("recovery point `{}` does not say which moments it holds", p.arn),
                "restore from the automated backup instead: leave out the recovery point",
            ));
        }
    };
    let hints = m.cloud.restore_hints(&to.region, &p.vault, &p.arn).await?;
    let size = hints.iter().find(|(k, _)| k.eq_ignore_ascii_case("AllocatedStorage"));
    Ok(Found {
        words: format!("recovery point `{}` of vault `{}`, at {}", p.arn, p.vault, short(shows)),
        moment: Some(shows),
        backup: Backup {
            engine_name: engine_name(m.source.engine, seen.like),
            size_gib: size.and_then(|(_, v)| v.parse().ok()).filter(|_| !to.engine.is_cluster()),
        },
        origin: Origin::RecoveryPoint { vault: p.vault, arn: p.arn, role_arn, hints, moment },
        snapshot: None,
        notes,
    })
}

/// A continuous recovery point is one more past with a window.
fn in_window(
    window: &RestorableWindow,
    at: At,
    nearest: bool,
    now: Timestamp,
) -> Result<(Moment, Timestamp, Vec<String>)> {
    let from = RestoreFrom::Resource { resource_id: String::new(), to: Moment::Latest };
    let way = Way { past: Past::Retained, from, resource_id: String::new(), window: *window };
    let chosen = moment::choose(&[way], at, nearest, now)?;
    Ok((chosen.from.moment().unwrap_or(Moment::Latest), chosen.moment, chosen.notes))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::managed::testing::{automated, observed_instance, snapshot};
    use holdfast_core::managed::Status;

    #[test]
    fn what_cannot_be_restored_is_refused_with_the_reason() {
        let mut s = snapshot("shop-1");
        assert!(restorable(&s).is_ok());
        s.status = Status::new("creating");
        assert!(restorable(&s).unwrap_err().hint().unwrap().contains("wait"));
        s.status = Status::new("failed");
        assert_eq!(restorable(&s).unwrap_err().hint().unwrap(), "choose another snapshot");
        (s.status, s.kind) = (Status::new("available"), SnapshotKind::Shared);
        assert!(restorable(&s).is_ok());
        s.encrypted = true;
        assert!(restorable(&s).unwrap_err().to_string().contains("another account"));
    }

    #[test]
    fn a_source_in_between_is_refused_and_one_that_is_stopped_is_not() {
        let mut d = observed_instance("rds://us-east-1/shop").database;
        for (status, ok) in [("available", true), ("stopped", true), ("creating", false), ("deleting", false)]
        {
            d.status = Status::new(status);
            assert_eq!(live_way(&d).is_ok(), ok, "{status}");
        }
        d.status = Status::new("available");
        d.window = None;
        assert_eq!(live_way(&d).unwrap(), None);
    }

    #[test]
    fn pasts_are_found_by_name_or_resource_id() {
        let source: Source = "rds://us-east-1/shop".parse().unwrap();
        let mut b = automated("shop", AutomatedKind::Retained);
        assert!(is_past_of(&b, &source, None));
        b.at.id = "renamed".into();
        assert!(!is_past_of(&b, &source, None));
        assert!(is_past_of(&b, &source, Some(&b.resource_id)));
        // Another region's database may have the same name.
        let mut b = automated("shop", AutomatedKind::Replicated);
        assert!(is_past_of(&b, &source, None));
        b.source_region = "eu-west-1".parse().unwrap();
        assert!(!is_past_of(&b, &source, None));
    }

    #[test]
    fn rds_is_asked_by_arn_and_aurora_by_resource_id() {
        let mut b = automated("shop", AutomatedKind::Retained);
        assert!(matches!(past_way(&b).unwrap().from, RestoreFrom::Automated { .. }));
        b.at.engine = Engine::Aurora;
        assert!(matches!(past_way(&b).unwrap().from, RestoreFrom::Resource { .. }));
        b.window = None;
        assert_eq!(past_way(&b), None);
    }
}
