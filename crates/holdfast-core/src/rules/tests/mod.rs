//! Each rule fires where it should and not where it should not.

mod warnings;

use super::*;
use crate::policy::VerifyLevel;
use crate::time::Duration;
use std::path::Path;

pub(super) const NOW: &str = "2026-11-22T12:00:00Z";

/// A policy that is in order but for one region and account (VW4).
pub(super) const GOOD: &str = r#"version = 1
[databases.shop]
source = "rds://us-east-1/shop"
policy = "p"
resource-id = "db-ABCDEFGHIJKLMNOPQRSTUVWXYZ"
account = "123456789012"
[databases.shop.places.home]
region = "us-east-1"
security-groups = ["sg-1"]
isolated = { subnet-group = "verify" }
[databases.shop.places.dr]
region = "us-west-2"
subnet-group = "dr"
security-groups = ["sg-2"]
[vaults.west]
url = "snapshots://us-west-2"
account = "210987654321"
kms-key = "alias/backup"
[vaults.plan]
url = "aws-backup://us-east-1/plan"
[policies.p]
rpo = "5m"
rto = "1h"
[policies.p.objectives.region]
rpo = "26h"
[policies.p.pitr]
keep = "14d"
backup-window = "03:00-04:00"
maintenance-window = "sun:04:00-sun:05:00"
[policies.p.tiers.daily]
schedule = "0 6 * * *"
keep = { daily = 30 }
[policies.p.copies.west]
to = "west"
keep = { daily = 7 }
[policies.p.verify]
level = "L4"
every = "7d"
[policies.p.drills.region]
scenario = "region"
schedule = "first sunday of quarter 12:00"
[policies.p.data.users]
erase-within = "60d"
"#;

pub(super) fn parse(text: &str) -> Policy {
    Policy::parse(text, Path::new("/etc/holdfast/holdfast.toml")).unwrap_or_else(|e| panic!("{e}\n{text}"))
}

pub(super) fn now() -> Timestamp {
    NOW.parse().unwrap()
}

/// What is found in `text`, as `rule line message`.
pub(super) fn found(text: &str, observed: &Observed) -> Vec<String> {
    check(&parse(text), observed, now())
        .iter()
        .map(|f| {
            assert!(f.hint.ends_with(['.', ')']) && !f.message.ends_with('.'), "{f:?}");
            format!("{} {} {}", f.rule, f.at.line, f.message)
        })
        .collect()
}

/// GOOD with each of `(from, to)` replaced; every `from` must be there.
pub(super) fn with(changes: &[(&str, &str)]) -> String {
    changes.iter().fold(GOOD.to_string(), |text, (from, to)| {
        assert!(text.contains(from), "{from}");
        text.replacen(from, to, 1)
    })
}

/// Exactly one finding of `rule` whose message has all of `says`, and no finding of another rule.
fn only(rule: &str, text: &str, observed: &Observed, says: &[&str]) {
    let all = found(text, observed);
    assert_eq!(all.len(), 1, "{rule}: {all:?}");
    fires(rule, text, observed, says);
}

/// A finding of `rule` whose message has all of `says`.
fn fires(rule: &str, text: &str, observed: &Observed, says: &[&str]) {
    let all = found(text, observed);
    let hit = |f: &&String| f.starts_with(&format!("{rule} ")) && says.iter().all(|s| f.contains(s));
    assert!(all.iter().any(|f| hit(&f)), "{rule} {says:?}: {all:?}");
}

fn silent(rule: &str, text: &str, observed: &Observed) {
    let all = found(text, observed);
    assert!(!all.iter().any(|f| f.starts_with(&format!("{rule} "))), "{rule}: {all:?}");
}

const OFFLINE: Observed =
    Observed { looked: false, databases: BTreeMap::new(), regions: BTreeMap::new(), buckets: Vec::new() };

use std::collections::BTreeMap;

fn seen(s: SeenDatabase) -> Observed {
    let fine = SeenDatabase {
        verified: match s.verified == Verified::default() {
            true => {
                let mut verified = Verified::default();
                verified.add(VerifyLevel::L4, "2026-11-20T00:00:00Z".parse().unwrap());
                verified
            }
            false => s.verified.clone(),
        },
        drills: match s.drills.is_empty() {
            true => BTreeMap::from([("region".to_string(), "2026-10-04T14:00:00Z".parse().unwrap())]),
            false => s.drills.clone(),
        },
        ..s
    };
    Observed {
        looked: true,
        databases: BTreeMap::from([("shop".parse().unwrap(), fine)]),
        ..Observed::default()
    }
}

#[test]
fn a_policy_in_order_has_no_findings() {
    assert_eq!(found(GOOD, &OFFLINE), Vec::<String>::new());
    assert_eq!(found(GOOD, &seen(SeenDatabase::default())), Vec::<String>::new());
}

#[test]
fn every_rule_is_in_the_table_once_and_in_the_guide() {
    let guide = include_str!("../../../../../docs/guide/validate.md");
    for (i, (id, says, ..)) in TABLE.iter().enumerate() {
        let want = if i < 15 { format!("VE{}", i + 1) } else { format!("VW{}", i - 14) };
        assert_eq!(*id, want);
        assert!(guide.contains(&format!("| {id} |")), "{id} ({says}) is not in the guide");
    }
    for x in 1..=43 {
        assert!(guide.contains(&format!("| X{x} |")), "X{x} is not in the guide");
    }
    for row in crate::limits::TABLE {
        assert!(guide.contains(&format!("`{}`", row.key)), "{} is not in the guide", row.key);
    }
    for (_, key, ..) in crate::prices::TABLE {
        assert!(guide.contains(&format!("`{key}`")), "{key} is not in the guide");
    }
}

const AGED: (&str, &str) =
    ("keep = { daily = 30 }", "vaults = [\"plan\"]\nkeep = { window = \"90d\" }\ncold-after = \"30d\"");
const NO_COPY: (&str, &str) = ("[policies.p.copies.west]\nto = \"west\"\nkeep = { daily = 7 }\n", "");
const NO_REGION: (&str, &str) = ("[policies.p.objectives.region]\nrpo = \"26h\"\n", "");

#[test]
fn ve1_cold_storage_needs_ninety_days() {
    let bad = with(&[AGED, NO_COPY, NO_REGION]);
    fires("VE1", &bad, &OFFLINE, &["deleted after 90d", "after 120d"]);
    silent("VE1", &bad.replace("\"90d\"", "\"120d\""), &OFFLINE);
}

#[test]
fn ve2_there_is_no_cold_storage() {
    let bad = with(&[AGED, NO_COPY, NO_REGION]);
    fires("VE2", &bad, &OFFLINE, &["RDS has none"]);
    silent("VE2", &bad.replace("cold-after = \"30d\"", ""), &OFFLINE);
    fires(
        "VE2",
        &with(&[("keep = { daily = 7 }", "keep = { daily = 7 }\ncold-after = \"30d\"")]),
        &OFFLINE,
        &["copy `west`"],
    );
}

#[test]
fn ve3_automated_backups_reach_35_days() {
    only("VE3", &with(&[("keep = \"14d\"", "keep = \"36d\"")]), &OFFLINE, &["36d", "35d at most"]);
    only(
        "VE3",
        &with(&[(
            "keep = \"14d\"",
            "keep = \"40d\"\n[limits]\npitr-most = \"39d\"\n[policies.p.pitr.replicate]\nto = \"west\"\nkeep = \"2d\"\n[policies.q.pitr]\nkeep = \"1d\"",
        )]),
        &OFFLINE,
        &["39d at most"],
    );
    silent("VE3", &with(&[("keep = \"14d\"", "keep = \"35d\"")]), &OFFLINE);
}

#[test]
fn ve4_retention_fits_the_lock() {
    let lock = "url = \"aws-backup://us-east-1/plan\"\nlock = { mode = \"compliance\", min = \"30d\", max = \"100d\", grace = \"3d\" }";
    let at = |window: &str, grace: &str| {
        with(&[
            ("url = \"aws-backup://us-east-1/plan\"", &lock.replace("\"3d\"", grace)),
            ("keep = { daily = 30 }", &format!("vaults = [\"plan\"]\nkeep = {{ window = \"{window}\" }}")),
            NO_COPY,
            NO_REGION,
        ])
    };
    fires("VE4", &at("7d", "\"3d\""), &OFFLINE, &["kept for 7d", "30d that the lock demands"]);
    fires("VE4", &at("101d", "\"3d\""), &OFFLINE, &["100d that the lock allows"]);
    fires("VE4", &at("30d", "\"2d\""), &OFFLINE, &["2d of grace"]);
    silent("VE4", &at("30d", "\"3d\""), &OFFLINE);
}

#[test]
fn ve5_tiers_of_storage_can_be_reached() {
    let bad = with(&[AGED, NO_COPY, NO_REGION]).replace("cold-after = \"30d\"", "cold-after = \"90d\"");
    fires("VE5", &bad, &OFFLINE, &["deleted after 90d, before"]);
    silent("VE5", &bad.replace("cold-after = \"90d\"", "cold-after = \"89d\""), &OFFLINE);
    let native = r#"version = 1
[databases.a]
source = "host=/run/postgresql"
policy = "n"
[vaults.local]
url = "file:///v"
key-file = "k"
[vaults.ice]
url = "s3://b/ice"
key-file = "k2"
storage-class = "glacier"
[policies.n.tiers.daily]
schedule = "0 2 * * *"
keep = { daily = 30 }
[policies.n.copies.ice]
to = "ice"
keep = { daily = 30 }
[policies.n.verify]
level = "L3"
every = "7d"
"#;
    only("VE5", native, &OFFLINE, &["30d at most", "`glacier` is paid for 90d"]);
    let good = native.replace("to = \"ice\"\nkeep = { daily = 30 }", "to = \"ice\"\nkeep = { monthly = 12 }");
    assert_eq!(found(&good, &OFFLINE), Vec::<String>::new());
}

#[test]
fn ve6_copies_have_keys() {
    fires("VE6", &with(&[("kms-key = \"alias/backup\"\n", "")]), &OFFLINE, &["us-west-2 without a key"]);
    silent(
        "VE6",
        &with(&[("kms-key = \"alias/backup\"\n", ""), ("resource-id", "encrypted = false\nresource-id")]),
        &OFFLINE,
    );
    let plain = SeenDatabase { encrypted: Some(false), ..SeenDatabase::default() };
    silent("VE6", &with(&[("kms-key = \"alias/backup\"\n", "")]), &seen(plain));
    only(
        "VE6",
        &with(&[("resource-id", "kms-key = \"alias/aws/rds\"\nresource-id")]),
        &OFFLINE,
        &["provider's own key"],
    );
    only(
        "VE6",
        &with(&[("\"alias/backup\"", "\"arn:aws:kms:us-east-1:210987654321:key/1\"")]),
        &OFFLINE,
        &["key is in us-east-1"],
    );
    let aurora = with(&[("rds://", "aurora://"), ("\"db-ABC", "\"cluster-ABC")]);
    fires("VE6", &aurora, &OFFLINE, &["region and account in one step"]);
    let points = with(&[
        ("snapshots://us-west-2", "aws-backup://us-west-2/far"),
        ("to = \"west\"\nkeep = { daily = 7 }", "to = \"west\"\nkeep = { window = \"7d\" }"),
        ("keep = { daily = 30 }", "vaults = [\"plan\"]\nkeep = { window = \"30d\" }"),
    ]);
    fires("VE6", &points, &OFFLINE, &["in one step, which AWS Backup does not"]);
    silent("VE6", &points.replace("account = \"210987654321\"\n", ""), &OFFLINE);
    // A vault of that account in the source's region lies between.
    let near = "[vaults.near]\nurl = \"snapshots://us-east-1\"\naccount = \"210987654321\"\nkms-key = \"alias/near\"\n\
                [policies.p.copies.near]\nto = \"near\"\nkeep = { daily = 7 }\n";
    silent("VE6", &format!("{aurora}{near}"), &OFFLINE);
    let keyless = near.replace("kms-key = \"alias/near\"\n", "");
    fires("VE6", &format!("{GOOD}{keyless}"), &OFFLINE, &["into another account without a key"]);
    fires(
        "VE6",
        &with(&[("keep = { daily = 30 }", "vaults = [\"west\"]\nkeep = { daily = 30 }")]),
        &OFFLINE,
        &["made in the region"],
    );
    let replicated = with(&[
        ("kms-key = \"alias/backup\"\n", ""),
        (
            "[policies.p.tiers.daily]",
            "replicate = { to = \"west\", keep = \"7d\" }\n[policies.p.tiers.daily]",
        ),
        NO_COPY,
    ]);
    fires("VE6", &replicated, &OFFLINE, &["replicated without a key"]);
}

#[test]
fn ve7_schedules_do_not_collide() {
    let at = |schedule: &str| with(&[("\"0 6 * * *\"", schedule)]);
    only("VE7", &at("\"0 3 * * *\""), &OFFLINE, &["tier `daily`", "backup window 03:00-04:00 UTC"]);
    // It takes half an hour.
    fires("VE7", &at("\"45 2 * * *\""), &OFFLINE, &["backup window"]);
    silent("VE7", &at("\"30 2 * * *\""), &OFFLINE);
    let slow = SeenDatabase { snapshot_duration: Some(Duration(3_000)), ..SeenDatabase::default() };
    fires("VE7", &at("\"30 2 * * *\""), &seen(slow), &["backup window"]);
    fires("VE7", &at("\"30 4 * * *\""), &OFFLINE, &["maintenance window sun:04:00"]);
    silent("VE7", &at("\"30 4 * * mon-sat\"").replace("rpo = \"26h\"", "rpo = \"50h\""), &OFFLINE);
    let window = |w: &str| with(&[("\"03:00-04:00\"", w)]);
    only("VE7", &window("\"03:00-03:20\""), &OFFLINE, &["20 minutes long"]);
    only("VE7", &window("\"03:30-04:30\""), &OFFLINE, &["overlaps the maintenance window"]);
    // 22:00 in New York is 03:00 UTC in winter.
    fires("VE7", &at("\"0 22 * * *\"\ntimezone = \"America/New_York\""), &OFFLINE, &["backup window"]);
    let drill = |at: &str| with(&[("of quarter 12:00", at)]);
    fires("VE7", &drill("03:30"), &OFFLINE, &["drill `region` runs in the backup window"]);
    fires("VE7", &drill("06:10"), &OFFLINE, &["drill `region` begins while tier `daily`"]);
    silent("VE7", &drill("06:40"), &OFFLINE);
    // What is written counts, because `apply` makes it so; what the provider has until then is a warning.
    let other =
        || SeenDatabase { backup_window: Some("06:00-07:00".parse().unwrap()), ..SeenDatabase::default() };
    silent("VE7", GOOD, &seen(other()));
    fires("VW7", GOOD, &seen(other()), &["the backup window of today, 06:00-07:00"]);
    let none = with(&[
        ("backup-window = \"03:00-04:00\"\nmaintenance-window = \"sun:04:00-sun:05:00\"\n", ""),
        ("\"0 6", "\"0 3"),
    ]);
    silent("VE7", &none, &OFFLINE);
    // Nothing is written: it is what the provider has.
    let night =
        SeenDatabase { backup_window: Some("03:00-04:00".parse().unwrap()), ..SeenDatabase::default() };
    fires("VE7", &none, &seen(night), &["backup window 03:00-04:00"]);
}

#[test]
fn ve8_snapshots_stay_under_the_quota() {
    let keep = |k: &str| with(&[("keep = { daily = 30 }", k)]);
    fires(
        "VE8",
        &keep("keep = { daily = 60, weekly = 52 }"),
        &OFFLINE,
        &["the quota is 100", "by tier `daily` of shop"],
    );
    silent("VE8", &keep("keep = { daily = 50, weekly = 52 }"), &OFFLINE);
    silent(
        "VE8",
        &format!("{}[limits]\nmanual-snapshots = 200\n", keep("keep = { daily = 60, weekly = 52 }")),
        &OFFLINE,
    );
    silent(
        "VE8",
        &with(&[
            ("keep = { daily = 30 }", "vaults = [\"plan\"]\nkeep = { window = \"200d\" }"),
            NO_COPY,
            NO_REGION,
        ]),
        &OFFLINE,
    );
    // Two databases share it; clusters have their own.
    let two = |source: &str| {
        format!(
            "{}[databases.other]\nsource = \"{source}\"\npolicy = \"p\"\naccount = \"123456789012\"\n",
            keep("keep = { daily = 55 }")
        )
    };
    fires("VE8", &two("rds://us-east-1/other"), &OFFLINE, &["110 manual snapshots"]);
    silent("VE8", &two("aurora://us-east-1/other"), &OFFLINE);
    let mut busy = seen(SeenDatabase::default());
    busy.regions
        .insert("us-east-1".into(), SeenRegion { other_instance_snapshots: 71, ..SeenRegion::default() });
    only("VE8", GOOD, &busy, &["101 manual", "71 of others"]);
    busy.regions.insert(
        "us-east-1".into(),
        SeenRegion { other_instance_snapshots: 70, other_cluster_snapshots: 99, ..SeenRegion::default() },
    );
    silent("VE8", GOOD, &busy);
}

#[test]
fn ve9_objectives_are_computed() {
    // A day, half an hour for the snapshot, an hour for the copy.
    only(
        "VE9",
        &with(&[("rpo = \"26h\"", "rpo = \"25h\"")]),
        &OFFLINE,
        &["`region`", "25h may be lost", "1d 1h 30m"],
    );
    fires(
        "VE9",
        &with(&[
            ("\"0 6 * * *\"", "\"0 6 1 * *\""),
            ("{ daily = 30 }", "{ monthly = 12 }"),
            ("{ daily = 7 }", "{ monthly = 12 }"),
        ]),
        &OFFLINE,
        &["31d 1h 30m"],
    );
    fires("VE9", &with(&[NO_COPY]), &OFFLINE, &["nothing outside of us-east-1"]);
    fires("VE9", &with(&[("rpo = \"5m\"", "rpo = \"4m\"")]), &OFFLINE, &["may lose 5m"]);
    fires(
        "VE9",
        &with(&[("resource-id = \"db-ABCDEFGHIJKLMNOPQRSTUVWXYZ\"\n", "")]),
        &OFFLINE,
        &["`loss`", "1d"],
    );
    let known = SeenDatabase { resource_id: Some("db-X".into()), ..SeenDatabase::default() };
    silent("VE9", &with(&[("resource-id = \"db-ABCDEFGHIJKLMNOPQRSTUVWXYZ\"\n", "")]), &seen(known));
    fires(
        "VE9",
        &with(&[("keep = \"14d\"", "keep = \"14d\"\nkeep-after-deletion = false")]),
        &OFFLINE,
        &["`loss`"],
    );
    let quick = SeenDatabase {
        snapshot_duration: Some(Duration(60)),
        copy_duration: Some(Duration(600)),
        ..SeenDatabase::default()
    };
    silent("VE9", &with(&[("rpo = \"26h\"", "rpo = \"25h\"")]), &seen(quick));
    let replicated = with(&[
        ("rpo = \"26h\"", "rpo = \"20m\""),
        (
            "[policies.p.tiers.daily]",
            "replicate = { to = \"west\", keep = \"7d\" }\n[policies.p.tiers.daily]",
        ),
    ]);
    silent("VE9", &replicated, &OFFLINE);
    let malicious = "[policies.p.objectives.malicious]\nrpo = \"26h\"\n";
    silent("VE9", &format!("{GOOD}{malicious}"), &OFFLINE);
    let own = with(&[("account = \"210987654321\"\n", "")]);
    fires("VE9", &format!("{own}{malicious}"), &OFFLINE, &["nothing that an administrator cannot delete"]);
}

#[test]
fn claims_say_what_each_scenario_costs() {
    let shown: Vec<String> = claims(&parse(GOOD), &OFFLINE, now())
        .iter()
        .map(|c| {
            assert!(c.holds());
            let span = |d: Option<Duration>| d.map_or("-".into(), objectives::human);
            format!("{} {} {} {} {}", c.scenario, c.method, span(c.rpo), span(c.back), span(c.wanted_rpo))
        })
        .collect();
    assert_eq!(
        shown,
        [
            "deletion point in time of the source 5m 14d 5m",
            "corruption point in time of the source 5m 14d 5m",
            "loss retained automated backups, by resource id 5m 14d 5m",
            "region snapshots of copy `west` in us-west-2 1d 1h 30m 6d 6h 1d 2h",
            "malicious snapshots of copy `west` in us-west-2 1d 1h 30m 6d 6h -",
        ]
    );
}

#[test]
fn what_reaches_how_far_back() {
    let gym = parse(include_str!("../../../../../examples/gym.toml"));
    let shown: Vec<String> = reaches(&gym, &OFFLINE, now())
        .iter()
        .map(|r| format!("{} | {} | {}", r.method, objectives::human(r.step), objectives::human(r.back)))
        .collect();
    assert_eq!(
        shown,
        [
            "recovery points of tier `daily` in us-west-1 | 1d | 29d 6h",
            "recovery points of copy `dr-daily` in us-east-1 | 1d | 29d 6h",
            "point in time of the source | 1s | 30d",
            "recovery points of tier `weekly` in us-west-1 | 7d | 84d 5h",
            "recovery points of tier `monthly` in us-west-1 | 31d | 356d 4h",
            "recovery points of copy `dr-monthly` in us-east-1 | 31d | 356d 4h",
        ]
    );
}

#[test]
fn ve10_copies_stay_out_of_production() {
    let isolated = |i: &str| with(&[("isolated = { subnet-group = \"verify\" }", i)]);
    only(
        "VE10",
        &isolated("isolated = { subnet-group = \"v\", security-groups = [\"sg-1\"] }"),
        &OFFLINE,
        &["sg-1 is production's"],
    );
    only(
        "VE10",
        &isolated("subnet-group = \"v\"\nisolated = { subnet-group = \"v\" }"),
        &OFFLINE,
        &["`v` is production's"],
    );
    let own = isolated("isolated = { subnet-group = \"v\", security-groups = [\"sg-9\"] }");
    silent("VE10", &own, &OFFLINE);
    let theirs = SeenDatabase { security_groups: vec!["sg-9".into()], ..SeenDatabase::default() };
    fires("VE10", &own, &seen(theirs), &["sg-9"]);
}

#[test]
fn ve11_there_is_a_final_snapshot() {
    only(
        "VE11",
        &with(&[("rto = \"1h\"", "final-snapshot = false\nrto = \"1h\"")]),
        &OFFLINE,
        &["no final snapshot"],
    );
    silent(
        "VE11",
        &with(&[("rto = \"1h\"", "final-snapshot = \"{id}-last-%Y%m%d-%H%M%S\"\nrto = \"1h\"")]),
        &OFFLINE,
    );
}

#[test]
fn ve12_aws_backup_deletes_by_age() {
    let keep = |k: &str| {
        with(&[("keep = { daily = 30 }", &format!("vaults = [\"plan\"]\n{k}")), NO_COPY, NO_REGION])
    };
    fires("VE12", &keep("keep = { last = 30 }"), &OFFLINE, &["no number of points"]);
    fires("VE12", &keep("keep = { window = \"30d\", at-least = 2 }"), &OFFLINE, &["no number of points"]);
    fires("VE12", &keep("keep = { window = \"1d\" }"), &OFFLINE, &["between them there is none"]);
    silent("VE12", &keep("keep = { window = \"2d\" }"), &OFFLINE);
}

#[test]
fn ve13_alarms_can_fire() {
    let alarm = |lines: &str| {
        format!(
            "{GOOD}[databases.shop.alarms.a]\ndimensions = [\"DBInstanceIdentifier\"]\nactions = [\"arn:aws:sns:us-east-1:123456789012:t\"]\n{lines}\n"
        )
    };
    silent("VE13", &alarm("metric = \"FreeStorageSpace\"\nbelow = \"10GB\"\ndetects = \"size\""), &OFFLINE);
    for (lines, says) in [
        ("metric = \"FreeStorageSpaec\"\nbelow = \"10GB\"", "has no `FreeStorageSpaec`"),
        ("metric = \"VolumeBytesUsed\"\nabove = \"10GB\"", "has no `VolumeBytesUsed` for RDS"),
        ("metric = \"FreeStorageSpace\"\nbelow = 10", "counts bytes"),
        ("metric = \"DatabaseConnections\"\nabove = \"10GB\"", "does not count bytes"),
        ("metric = \"DatabaseConnections\"\nbelow = 0", "never below 0"),
        ("metric = \"DatabaseConnections\"", "no threshold"),
        ("metric = \"DatabaseConnections\"\nabove = 5\ndetects = \"size\"", "tells of load, not of size"),
    ] {
        only("VE13", &alarm(lines), &OFFLINE, &[says]);
    }
    let quiet = alarm("metric = \"DatabaseConnections\"\nabove = 5")
        .replace("actions = [\"arn:aws:sns:us-east-1:123456789012:t\"]\n", "");
    only("VE13", &quiet, &OFFLINE, &["nobody is told"]);
    let blind = alarm("metric = \"DatabaseConnections\"\nabove = 5")
        .replace("dimensions = [\"DBInstanceIdentifier\"]\n", "");
    only("VE13", &blind, &OFFLINE, &["published by DBInstanceIdentifier or"]);
}

#[test]
fn ve14_a_lost_source_can_be_named() {
    let nameless = with(&[("resource-id = \"db-ABCDEFGHIJKLMNOPQRSTUVWXYZ\"\n", "")]);
    silent("VE14", &nameless, &OFFLINE);
    let there =
        SeenDatabase { exists: Some(true), resource_id: Some("db-XYZ".into()), ..SeenDatabase::default() };
    only("VE14", &nameless, &seen(there.clone()), &["cannot be found by its name"]);
    let gone = SeenDatabase { exists: Some(false), ..SeenDatabase::default() };
    fires("VE14", &nameless, &seen(gone.clone()), &["is gone"]);
    silent("VE14", GOOD, &seen(gone));
    silent("VE14", GOOD, &seen(there));
}

#[test]
fn ve15_documentdb_has_points_of_its_own() {
    let docdb = with(&[("rds://", "docdb://"), ("\"db-ABC", "\"cluster-ABC")]);
    silent("VE15", &docdb, &OFFLINE);
    let bare = docdb
        .replace(NO_COPY.0, "")
        .replace("[policies.p.tiers.daily]\nschedule = \"0 6 * * *\"\nkeep = { daily = 30 }\n", "");
    fires("VE15", &bare, &OFFLINE, &["die with the cluster"]);
    silent("VE15", &bare.replace("docdb://", "aurora://"), &OFFLINE);
}

/// What the examples are expected to be warned of; nothing in them is an error.
#[test]
fn the_examples_are_in_order() {
    let examples = [
        ("minimal", include_str!("../../../../../examples/minimal.toml"), vec!["VW1", "VW4"]),
        ("two-vaults", include_str!("../../../../../examples/two-vaults.toml"), vec![]),
        // One region, because that is what there is.
        ("bibidi", include_str!("../../../../../examples/bibidi.toml"), vec!["VW4"]),
        // One account; data that is kept for ever.
        ("gym", include_str!("../../../../../examples/gym.toml"), vec!["VW4", "VW6", "VW6"]),
        ("mangu", include_str!("../../../../../examples/mangu.toml"), vec!["VW4"]),
        // One account; seven years, and users that stay in monthly snapshots.
        ("indostar", include_str!("../../../../../examples/indostar.toml"), vec!["VW4", "VW6", "VW6"]),
        ("distro-nation", include_str!("../../../../../examples/distro-nation.toml"), vec!["VW4", "VW4"]),
    ];
    for (name, text, want) in examples {
        let policy = parse(text);
        let findings = check(&policy, &OFFLINE, now());
        let mut rules: Vec<&str> = findings.iter().map(|f| f.rule).collect();
        rules.sort_unstable();
        assert_eq!(rules, want, "{name}: {findings:#?}");
        for c in claims(&policy, &OFFLINE, now()) {
            assert!(c.holds(), "{name}: {c:?}");
        }
    }
}

/// The variables that MANGU's document names.
#[test]
fn mangu_takes_its_environment() {
    let text = include_str!("../../../../../examples/mangu.toml");
    let set = |pairs: &'static [(&str, &str)]| {
        move |name: &str| pairs.iter().find(|(n, _)| *n == name).map(|(_, v)| v.to_string())
    };
    let lookup = set(&[
        ("AWS_REGION", "eu-west-1"),
        ("BACKUP_REGION", "eu-central-1"),
        ("PROJECT_NAME", "mangu2"),
        ("ENVIRONMENT", "staging"),
        ("BACKUP_RETENTION_DAYS", "14"),
        ("CROSS_REGION_BACKUP", "false"),
        ("VERIFY_BACKUPS", "false"),
        ("BACKUP_ALERT_SNS_TOPIC_ARN", "arn:aws:sns:eu-west-1:123456789012:other"),
    ]);
    let p = Policy::parse_with(text, Path::new("/etc/holdfast/mangu.toml"), &lookup).unwrap();
    let (db, plan) = (p.databases.values().next().unwrap(), &p.managed_plans["mangu"]);
    assert_eq!(db.source.to_string(), "rds://eu-west-1/mangu2-db-staging");
    assert_eq!(p.managed_vaults["dr"].place.to_string(), "snapshots://eu-central-1");
    assert_eq!(plan.pitr.as_ref().unwrap().keep, Duration(14 * 86_400));
    assert_eq!(plan.tiers["daily"].keep.window, Some(Duration(14 * 86_400)));
    assert!(plan.copies.is_empty() && plan.verify.is_none());
    let managed = db.managed.as_ref().unwrap();
    assert_eq!(managed.alarms["disk"].actions, ["arn:aws:sns:eu-west-1:123456789012:other"]);
    assert_eq!(managed.tags["Environment"], "staging");
    // Without copies the objective of the region is a claim that nothing bears out.
    let findings = check(&p, &OFFLINE, now());
    assert!(
        findings.iter().any(|f| f.rule == "VE9" && f.message.contains("nothing outside")),
        "{findings:#?}"
    );
    let wrong = set(&[("BACKUP_RETENTION_DAYS", "thirty")]);
    let e = Policy::parse_with(text, Path::new("/m.toml"), &wrong).unwrap_err();
    assert!(e.to_string().contains("`thirtyd` is not a span of time"), "{e}");
}
