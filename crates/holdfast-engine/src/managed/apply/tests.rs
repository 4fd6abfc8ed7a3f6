//! What differs, without any provider.

use super::change::{Action, Change, Difference};
use super::cost::Costs;
use super::desired::{Desired, Replication, WantedVault, desired, plan_name};
use super::vaults::SeenVault;
use super::{ordered, plans, settings, vaults};
use crate::managed::testing::{automated, observed_cluster, observed_instance};
use holdfast_core::managed::{
    AutomatedKind, BackupPlan, BackupVault, Database, LockRequest, Selection, Source, Status, Tags,
    VaultKind, VaultLock, tags as keys,
};
use holdfast_core::policy::{ManagedDatabase, ManagedPlan, Policy};
use jiff::Timestamp;
use std::path::Path;

const TEXT: &str = r#"
version = 1
[databases.shop]
source = "SOURCE"
policy = "p"
size = "100GB"
[vaults.primary]
url = "aws-backup://us-east-1/main-vault"
LOCK
[vaults.dr]
url = "aws-backup://us-west-2/dr-vault"
account = "210987654321"
[vaults.west]
url = "snapshots://us-west-2"
kms-key = "alias/west"
[policies.p]
PITR
[policies.p.tiers.daily]
schedule = "0 6 * * *"
timezone = "Europe/Berlin"
vaults = ["primary"]
keep = { window = "30d" }
[policies.p.copies.dr]
to = "dr"
keep = { window = "60d" }
"#;

struct Case {
    policy: Policy,
    database: ManagedDatabase,
    plan: ManagedPlan,
    seen: Database,
}

fn case(source: &str, pitr: &str, lock: &str) -> Case {
    let text = TEXT.replace("SOURCE", source).replace("PITR", pitr).replace("LOCK", lock);
    let policy = Policy::parse(&text, Path::new("/x")).unwrap();
    let db = policy.databases.values().next().unwrap();
    let seen = match source.starts_with("rds") {
        true => observed_instance(source),
        false => observed_cluster(source),
    };
    Case {
        database: db.managed.clone().unwrap(),
        plan: policy.managed_plan_of(db).unwrap().clone(),
        policy: policy.clone(),
        seen: seen.database,
    }
}

impl Case {
    fn wanted(&self) -> Desired {
        let d = &self.seen;
        desired(&self.policy, "shop", &self.database, &self.plan, &d.source, &d.arn, &d.resource_id).unwrap()
    }

    fn settings(&self) -> Difference {
        let costs = Costs { policy: &self.policy, database: &self.database };
        settings::settings(&self.wanted().settings, &self.seen, &costs)
    }

    fn replication(&self, replicas: &[holdfast_core::managed::AutomatedBackup]) -> Difference {
        let costs = Costs { policy: &self.policy, database: &self.database };
        settings::replication(&self.wanted().replication, &self.seen, replicas, &costs)
    }
}

const RDS: &str = "rds://us-east-1/shop";

fn retention(from: u32, keep: &str) -> Difference {
    let mut c = case(RDS, &format!("pitr = {{ keep = \"{keep}\" }}"), "");
    c.seen.backup.retention_days = from;
    c.settings()
}

fn none_at_all(source: &str) -> Difference {
    let c = case(source, "", "");
    let wanted = super::desired::Settings {
        retention_days: Some(0),
        deletion_protection: true,
        timezone: "UTC".into(),
        ..Default::default()
    };
    settings::settings(&wanted, &c.seen, &Costs { policy: &c.policy, database: &c.database })
}

#[test]
fn fewer_days_lose_and_more_do_not() {
    assert_eq!(retention(7, "7d"), Difference::default());
    let more = retention(7, "14d").changes.remove(0);
    assert_eq!((more.loses, more.irreversible, more.from.as_str()), (false, false, "7 days"));
    // 2 GB a day, twice, for 7 days.
    assert_eq!(more.cost.as_deref(), Some("at most $2.66 a month more, beyond what is free"));
    let fewer = retention(14, "7d").changes.remove(0);
    assert!(fewer.loses && fewer.irreversible && fewer.effect.contains("deleted at once"));
    let on = retention(0, "7d").changes.remove(0);
    assert!(!on.loses && on.effect.contains("restart"), "{}", on.effect);
    // No policy can say it; whoever asks for it all the same is told.
    let off = none_at_all(RDS).changes.remove(0);
    assert!(off.loses && off.irreversible && off.effect.contains("ALL automated backups"));
}

#[test]
fn what_aws_refuses_is_left_and_said() {
    let mut c = case(RDS, "pitr = { keep = \"14d\", backup-window = \"03:00-04:00\" }", "");
    c.seen.backup.owned_by_aws_backup = true;
    let d = c.settings();
    assert!(d.changes.is_empty() && d.left.len() == 2 && d.left.iter().all(|l| l.blocked), "{d:?}");
    c.seen.backup.owned_by_aws_backup = false;
    c.seen.maintenance_window = Some("sun:03:30-sun:04:30".parse().unwrap());
    let d = c.settings();
    assert_eq!(d.changes.len(), 1, "the retention: {d:?}");
    assert!(d.left[0].why.contains("write maintenance-window"), "{d:?}");
    c.seen.status = Status::new("stopped");
    let d = c.settings();
    assert!(d.changes.is_empty() && d.left.iter().any(|l| l.why.contains("`stopped`")), "{d:?}");
    let off = none_at_all("docdb://us-east-1/shop");
    assert!(off.left[0].blocked && off.left[0].why.contains("1 day at least"), "{off:?}");
}

#[test]
fn windows_are_those_of_standard_time() {
    let pitr = "pitr = { keep = \"7d\", backup-window = \"03:00-04:00\", timezone = \"America/Toronto\" }";
    let d = case(RDS, pitr, "").settings();
    assert_eq!(d.changes[0].to, "08:00-09:00 UTC");
    assert!(d.changes[0].effect.contains("03:00-04:00 in winter and 04:00-05:00 in summer"));
    // One call for all of them.
    let mut c = case(RDS, "pitr = { keep = \"9d\", backup-window = \"03:00-04:00\" }", "");
    c.seen.deletion_protection = false;
    c.seen.backup.copy_tags = false;
    let d = c.settings();
    let one = settings::merged(d.changes.iter().filter_map(|c| match &c.action {
        Action::Modify(m) => Some(m),
        _ => None,
    }));
    assert_eq!(
        (one.retention_days, one.deletion_protection, one.copy_tags),
        (Some(9), Some(true), Some(true))
    );
    assert!(!settings::in_force(&one, &c.seen));
    c.seen.backup.retention_days = 9;
    c.seen.backup.window = one.backup_window;
    (c.seen.deletion_protection, c.seen.backup.copy_tags) = (true, true);
    assert!(settings::in_force(&one, &c.seen));
    c.seen.pending = vec!["backup retention".into()];
    assert!(!settings::in_force(&one, &c.seen), "pending is not in force");
}

#[test]
fn replication_begins_and_ends_only_when_it_is_ours() {
    let with = "pitr = { keep = \"7d\", replicate = { to = \"west\", keep = \"7d\" } }";
    let c = case(RDS, with, "");
    let start = c.replication(&[]).changes.remove(0);
    assert!(
        matches!(&start.action, Action::Replicate(r) if r.to.as_str() == "us-west-2" && r.retention_days == 7)
    );
    let mut replica = automated("shop", AutomatedKind::Replicated);
    replica.status = Status::new("replicating");
    assert_eq!(settings::of_source(vec![replica.clone()], &c.seen).len(), 1);
    assert_eq!(c.replication(std::slice::from_ref(&replica)), Difference::default());
    replica.retention_days = 3;
    let theirs = c.replication(std::slice::from_ref(&replica));
    assert!(
        theirs.changes.is_empty() && theirs.left.len() == 1,
        "somebody else's is not stopped: {theirs:?}"
    );
    replica.tags.set(keys::OPERATION, "op");
    let again = c.replication(std::slice::from_ref(&replica)).changes.remove(0);
    assert!(again.loses && matches!(again.action, Action::StopReplication { again: Some(_), .. }));
    // Somebody else's stays, ours ends only with consent.
    let none = case(RDS, "pitr = { keep = \"7d\" }", "");
    replica.tags = Default::default();
    let d = none.replication(std::slice::from_ref(&replica));
    assert!(d.changes.is_empty() && d.left.len() == 1, "{d:?}");
    replica.tags.set(keys::OPERATION, "op");
    assert!(none.replication(std::slice::from_ref(&replica)).changes[0].loses);
    // Without [pitr] nothing is said of it.
    assert_eq!(case(RDS, "", "").replication(&[replica.clone()]), Difference::default());
    replica.status = Status::new("retained");
    assert!(settings::of_source(vec![replica], &c.seen).is_empty());
    let mut encrypted = case(RDS, with, "");
    encrypted.seen.storage.encrypted = true;
    let keyless = Replication::To { region: "us-west-2".parse().unwrap(), days: 7, key: None };
    let costs = Costs { policy: &encrypted.policy, database: &encrypted.database };
    let d = settings::replication(&keyless, &encrypted.seen, &[], &costs);
    assert!(d.changes.is_empty() && d.left[0].blocked && d.left[0].why.contains("kms-key"), "{d:?}");
    assert_eq!(
        encrypted.wanted().replication,
        Replication::To { region: "us-west-2".parse().unwrap(), days: 7, key: Some("alias/west".into()) }
    );
}

fn now() -> Timestamp {
    "2026-11-22T00:00:00Z".parse().unwrap()
}

fn locked(lock: &str, is: Option<(Option<u32>, Option<&str>)>, ours: bool) -> Difference {
    let c = case(RDS, "", lock);
    let vault: WantedVault = c.wanted().vaults.remove(0);
    let is = is.map(|(min, date)| VaultLock {
        min_days: min,
        max_days: None,
        lock_date: date.map(|d| d.parse().unwrap()),
    });
    vaults::lock(&vault, is, ours, 3, now())
}

const GOVERNANCE: &str = "lock = { mode = \"governance\", min = \"7d\" }";
const COMPLIANCE: &str = "lock = { mode = \"compliance\", min = \"7d\", grace = \"5d\" }";
const LATER: Option<&str> = Some("2026-11-25T00:00:00Z");
const PAST: Option<&str> = Some("2026-11-20T00:00:00Z");

#[test]
fn a_lock_means_what_it_says() {
    // In force already; the date of a pending one does not move.
    for (lock, is) in
        [(GOVERNANCE, (Some(7), None)), (COMPLIANCE, (Some(7), LATER)), (COMPLIANCE, (Some(7), PAST))]
    {
        assert_eq!(locked(lock, Some(is), true), Difference::default(), "{lock} {is:?}");
    }
    let put = locked(COMPLIANCE, None, true).changes.remove(0);
    assert!(put.irreversible && !put.loses);
    assert_eq!(put.confirm.as_deref(), Some("primary"));
    assert!(put.to.contains("2026-11-27 00:00:00Z") && put.effect.contains("nobody, root and AWS included"));
    let request = LockRequest { min_days: Some(7), max_days: None, changeable_for_days: Some(5) };
    assert!(matches!(put.action, Action::Lock { request: Some(r), .. } if r == request));
    // Governance is no promise, and says so.
    let put = locked(GOVERNANCE, None, true).changes.remove(0);
    assert!(!put.irreversible && put.confirm.is_none() && put.effect.contains("not attackers"));
    // From one to the other, more and less.
    assert!(locked(COMPLIANCE, Some((Some(7), None)), true).changes[0].irreversible);
    assert!(locked(GOVERNANCE, Some((Some(7), LATER)), true).changes[0].loses);
    assert!(locked(GOVERNANCE, Some((Some(9), None)), true).changes[0].loses);
    assert!(!locked(GOVERNANCE, Some((Some(5), None)), true).changes[0].loses);
    assert!(locked(COMPLIANCE, Some((Some(9), LATER)), true).changes[0].loses);
    // Immutable: nothing is tried.
    let d = locked(COMPLIANCE, Some((Some(9), PAST)), true);
    assert!(d.changes.is_empty() && d.left[0].blocked && d.left[0].why.contains("nobody can change it"));
    // Not in the policy: taken from our own vaults only, and only with consent.
    assert!(locked("", Some((Some(7), LATER)), true).changes[0].loses);
    for (is, ours) in [((Some(7), PAST), true), ((Some(7), None), false)] {
        let d = locked("", Some(is), ours);
        assert!(d.changes.is_empty() && !d.left[0].blocked, "{d:?}");
    }
    // A lock of the policy goes on a vault of others too, and tells of their points.
    assert!(locked(GOVERNANCE, None, false).changes[0].effect.contains("3 points of others"));
}

#[test]
fn vaults_of_others_are_used_as_they_are() {
    let c = case(RDS, "", "");
    let [primary, dr] = <[WantedVault; 2]>::try_from(c.wanted().vaults).unwrap();
    assert!(!primary.foreign && dr.foreign && dr.account == "210987654321");
    let is = |ours, policy: Option<&str>| SeenVault::There {
        vault: Box::new(BackupVault {
            region: dr.region.clone(),
            name: dr.id.clone(),
            arn: String::new(),
            kind: VaultKind::Standard,
            created: None,
            key: None,
            points: 2,
            lock: None,
        }),
        ours,
        key: None,
        policy: policy.map(str::to_string),
    };
    let account = "123456789012";
    let made = vaults::vault(&dr, &SeenVault::Absent { key: None }, account, now());
    assert_eq!(made.changes.iter().map(|c| c.what).collect::<Vec<_>>(), ["vault", "access policy"]);
    let d = vaults::vault(&dr, &is(false, None), account, now());
    assert!(d.changes.is_empty() && d.left.iter().any(|l| l.blocked && l.what == "access policy"), "{d:?}");
    let d = vaults::vault(&dr, &is(true, Some(r#"{"Statement":[{"Effect":"Deny"}]}"#)), account, now());
    let Action::VaultPolicy { document, .. } = &d.changes[0].action else { panic!("{d:?}") };
    assert!(document.contains("Deny") && document.contains("backup:CopyIntoBackupVault"), "{document}");
    assert_eq!(vaults::vault(&dr, &is(true, Some(document)), account, now()), Difference::default());
    let d = vaults::vault(&dr, &SeenVault::Unreachable("no way in".into()), account, now());
    assert!(d.left[0].blocked);
}

fn there(c: &Case) -> BackupPlan {
    let w = c.wanted().plan.unwrap();
    BackupPlan {
        region: c.seen.source.region.clone(),
        id: "p1".into(),
        arn: "arn:p1".into(),
        version: "v".into(),
        created: None,
        last_run: None,
        content: w.content,
        selections: vec![Selection { id: "s1".into(), content: w.selection }],
        tags: w.tags.with(keys::OPERATION, "op"),
    }
}

fn whats(d: &Difference) -> Vec<&str> {
    d.changes.iter().map(|c| c.what).collect()
}

#[test]
fn a_plan_is_kept_and_a_selection_replaced() {
    let c = case(RDS, "", "");
    let wanted = c.wanted().plan;
    let compare = |plans: &[BackupPlan]| plans::plan(wanted.as_ref(), "shop", &c.seen, plans, None);
    assert_eq!(whats(&compare(&[])), ["plan"]);
    let is = there(&c);
    let rule = &is.content.rules[0];
    assert_eq!(
        (rule.schedule.as_deref(), rule.timezone.as_deref()),
        (Some("cron(0 6 * * ? *)"), Some("Europe/Berlin"))
    );
    assert_eq!(rule.copies[0].to_vault_arn, "arn:aws:backup:us-west-2:210987654321:backup-vault:dr-vault");
    assert_eq!(rule.copies[0].lifecycle.delete_after_days, Some(60));
    assert_eq!(rule.point_tags.get(keys::TIER), Some("daily"));
    assert!(!rule.point_tags.is_ours(), "AWS Backup makes them, and deletes them");
    assert_eq!(compare(std::slice::from_ref(&is)), Difference::default());

    let mut drifted = is.clone();
    drifted.content.rules[0].lifecycle.delete_after_days = Some(3);
    drifted.selections[0].content.role_arn = "arn:aws:iam::123456789012:role/other".into();
    let d = compare(&[drifted]);
    assert_eq!(whats(&d), ["rules", "selection", "selection"]);
    let d = ordered(d.changes);
    assert!(matches!(d[1].action, Action::Select { .. }) && matches!(d[2].action, Action::Unselect { .. }));

    // Of another entry or of other people: never touched.
    for tags in [Tags::default(), is.tags.clone().with(keys::DATABASE, "other")] {
        let d = compare(&[BackupPlan { tags, ..is.clone() }]);
        assert!(d.changes.is_empty() && d.left.iter().any(|l| l.blocked), "{d:?}");
    }
    // After a cutover the plan carries the new resource id.
    let moved = BackupPlan { tags: is.tags.clone().with(keys::SOURCE, "db-OLD"), ..is.clone() };
    assert_eq!(whats(&compare(&[moved])), ["tags"]);
    // The policy has no such tier any more.
    let d = plans::plan(None, "shop", &c.seen, &[is], None);
    assert!(d.changes[0].loses && whats(&d) == ["selection"], "{d:?}");
}

#[test]
fn what_cannot_be_undone_comes_last() {
    let lock = locked(COMPLIANCE, None, true).changes.remove(0);
    let first = retention(7, "14d").changes.remove(0);
    let sorted = ordered(vec![lock.clone(), first.clone()]);
    assert_eq!(sorted, [first, lock.clone()]);
    let consent =
        |loss, locks: &[&str]| super::Consent { loss, locks: locks.iter().map(|s| s.to_string()).collect() };
    assert!(!lock.allowed(&consent(true, &[])) && lock.allowed(&consent(false, &["primary"])));
    let both = Change { loses: true, ..lock };
    assert!(!both.allowed(&consent(false, &["primary"])));
}

#[test]
fn names_of_plans_fit_and_differ() {
    let name = |id: &str| plan_name(&format!("aurora://us-east-1/{id}").parse::<Source>().unwrap());
    assert_eq!(name("orders"), "holdfast-aurora-orders");
    let (a, b) = (name(&format!("{}a", "x".repeat(60))), name(&format!("{}b", "x".repeat(60))));
    assert!(a.len() == 50 && b.len() == 50 && a != b, "{a} {b}");
}

#[test]
fn what_aws_backup_cannot_do_is_refused() {
    let refused = |from: &str, to: &str| {
        let text = TEXT.replace("SOURCE", RDS).replace("PITR", "").replace("LOCK", "").replace(from, to);
        let policy = Policy::parse(&text, Path::new("/x")).unwrap();
        let db = policy.databases.values().next().unwrap();
        let (d, p) = (db.managed.clone().unwrap(), policy.managed_plan_of(db).unwrap().clone());
        let seen = observed_instance(RDS).database;
        desired(&policy, "shop", &d, &p, &seen.source, &seen.arn, &seen.resource_id).unwrap_err().to_string()
    };
    let elsewhere = refused("aws-backup://us-east-1/main-vault", "aws-backup://eu-west-1/main-vault");
    assert!(elsewhere.contains("makes points where their source is"), "{elsewhere}");
    let counted = refused("keep = { window = \"30d\" }", "keep = { last = 3 }");
    assert!(counted.contains("by age alone"), "{counted}");
}

#[test]
fn less_protection_wants_consent() {
    let mut c = case(RDS, "deletion-protection = false", "");
    c.seen.deletion_protection = true;
    let off = c.settings().changes;
    assert!(off.iter().any(|x| x.what == "deletion protection" && x.loses), "{off:?}");
    let mut c = case(RDS, "", "");
    c.seen.deletion_protection = false;
    let on = c.settings().changes;
    assert!(on.iter().any(|x| x.what == "deletion protection" && !x.loses), "{on:?}");
}
