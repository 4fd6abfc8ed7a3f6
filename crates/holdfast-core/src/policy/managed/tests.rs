use super::*;
use crate::policy::tests::{SMALL, parse, refused, small_with};
use crate::policy::{Policy, Scenario, Span, VerifyLevel};
use crate::time::Duration;
use std::path::Path;

/// A managed database with every key that it can have.
const MANAGED: &str = r#"version = 1
[databases.shop]
source = "aurora://us-east-1/shop"
policy = "gold"
resource-id = "cluster-ABC123"
account = "123456789012"
profile = "prod"
role = "arn:aws:iam::123456789012:role/holdfast"
encrypted = true
kms-key = "alias/shop"
size = "100GB"
daily-change = "1GB"
budget = 50
snapshot-id = "shop-{note}-%Y%m%d-%H%M%S"
tags = { Application = "shop" }
[databases.shop.connect]
user = "check"
database = "shop"
password-secret = "shop/check"
ca-file = "rds.pem"
[databases.shop.checks.users]
sql = "select count(*) from users"
expect = ">= 10"
database = "users"
[databases.shop.checks.newest]
sql = "select max(at) from log"
within = "1d"
[databases.shop.places.home]
region = "us-east-1"
subnet-group = "shop"
security-groups = ["sg-1"]
parameter-group = "shop-16"
class = "db.serverless"
instances = 2
capacity = { min = 0.5, max = 16 }
isolated = { subnet-group = "verify", security-groups = ["sg-2"] }
[[databases.shop.cutover]]
proxy = "shop-proxy"
health = "https://shop.example.com/health"
health-within = "2m"
[[databases.shop.cutover]]
route53 = "Z1"
record = "db.example.com"
ttl = "30s"
[[databases.shop.cutover]]
secret = "shop/db"
keys = { host = "{endpoint}", reader = "{reader}" }
[[databases.shop.cutover]]
kubernetes = "deployment/backend"
namespace = "shop"
env = { DATABASE_HOST = "{endpoint}" }
scale = true
[[databases.shop.cutover]]
rename = true
[[databases.shop.cutover]]
command = ["point", "new"]
undo = ["point", "old"]
[databases.shop.alarms.size]
metric = "VolumeBytesUsed"
namespace = "AWS/RDS"
dimensions = ["DBClusterIdentifier"]
detects = "size"
above = "1TB"
actions = ["arn:aws:sns:us-east-1:123456789012:t"]
[vaults.west]
url = "snapshots://us-west-2"
account = "210987654321"
profile = "dr"
role = "arn:aws:iam::210987654321:role/holdfast"
kms-key = "arn:aws:kms:us-west-2:210987654321:key/1"
[vaults.plan]
url = "aws-backup://us-east-1/plan"
backup-role = "arn:aws:iam::123456789012:role/aws-backup"
lock = { mode = "compliance", min = "7d", max = "366d", grace = "3d" }
[policies.gold]
rpo = "5m"
rto = "1h"
deletion-protection = false
final-snapshot = "{id}-last-%Y%m%d-%H%M%S"
quarantine = "3d"
manual-keep = "30d"
restore-id = "{id}-again-%Y%m%d%H%M%S"
tags = { Purpose = "Backup" }
[policies.gold.objectives.region]
rpo = "30h"
rto = "4h"
[policies.gold.pitr]
keep = "14d"
backup-window = "23:30-00:30"
maintenance-window = "sun:04:00-sun:05:00"
timezone = "America/Toronto"
keep-after-deletion = "false"
replicate = { to = "west", keep = "7d" }
[policies.gold.tiers.daily]
schedule = "0 6 * * *"
timezone = "Europe/Copenhagen"
keep = { daily = 30, at-least = 2 }
snapshot-id = "{id}-%Y%m%d-%H%M%S"
tags = { Tier = "daily" }
[policies.gold.tiers.monthly]
schedule = "first sunday 06:00"
vaults = ["plan"]
keep = { window = "365d" }
cold-after = "30d"
[policies.gold.copies.west]
to = "west"
of = ["daily"]
keep = { daily = 7 }
snapshot-id = "{id}-%Y%m%d-%H%M%S-copy"
[policies.gold.copies.off]
to = "west"
of = ["daily"]
keep = { daily = 7 }
enabled = "false"
[policies.gold.verify]
level = "L4"
every = "7d"
class = "db.serverless"
remove-after = "6h"
[policies.gold.drills.region]
scenario = "region"
schedule = "last friday of quarter 20:00"
timezone = "Europe/Copenhagen"
owner = "DevOps"
[policies.gold.data.users]
keep = "7y"
erase-within = "30d"
documented = true
"#;

#[test]
fn a_managed_database_resolves() {
    let p = parse(MANAGED).unwrap();
    let db = &p.databases[&"shop".parse().unwrap()];
    assert!(
        p.plan_of(db).is_none() && p.policies.is_empty() && p.vaults.is_empty() && db.vaults().is_empty()
    );
    let (m, plan) = (db.managed.as_ref().unwrap(), p.managed_plan_of(db).unwrap());
    assert_eq!((m.engine, m.region.as_str(), m.id.as_str()), (Engine::Aurora, "us-east-1", "shop"));
    assert_eq!((m.resource_id.as_deref(), m.budget, m.encrypted), (Some("cluster-ABC123"), Some(50), true));
    let connect = m.connect.as_ref().unwrap();
    assert_eq!(connect.password, Password::Secret("shop/check".into()));
    assert_eq!(connect.ca_file.as_deref(), Some(Path::new("/etc/holdfast/rds.pem")));
    let expect = m.checks["users"].expect.unwrap();
    assert!(expect.holds(10) && !expect.holds(9));
    assert_eq!(m.checks["newest"].within, Some(Duration(86_400)));
    let place = m.place_in("us-east-1").unwrap();
    assert_eq!((place.instances, place.capacity), (Some(2), Some(Capacity { min: 0.5, max: 16.0 })));
    assert_eq!(place.isolated.as_ref().unwrap().security_groups, ["sg-2"]);
    assert!(m.place_in("us-west-2").is_none());
    let kinds: Vec<_> = m.cutover.iter().map(|s| std::mem::discriminant(&s.to)).collect();
    assert_eq!(kinds.len(), 6);
    let proxy = Move::Proxy { name: "shop-proxy".into(), within: Duration(600) };
    assert_eq!(m.cutover[0].to, proxy);
    assert_eq!((m.cutover[0].health_within, m.cutover[1].health_within), (Duration(120), Duration(300)));
    assert!(matches!(&m.cutover[1].to, Move::Route53 { ttl: 30, .. }));
    assert_eq!(
        m.alarms["size"].threshold,
        Some(Threshold { below: false, value: 1_000_000_000_000, bytes: true })
    );
    let plan_vault = &p.managed_vaults["plan"];
    assert_eq!(plan_vault.place, VaultPlace::AwsBackup { region: "us-east-1".into(), vault: "plan".into() });
    assert_eq!(plan_vault.lock.unwrap().grace, Some(Duration(3 * 86_400)));
    let pitr = plan.pitr.as_ref().unwrap();
    assert_eq!((pitr.keep, pitr.keep_after_deletion), (Duration(14 * 86_400), false));
    assert_eq!(pitr.backup_window.unwrap().length, 60);
    assert_eq!(pitr.replicate.as_ref().unwrap().to, "west");
    assert_eq!(
        (plan.tiers["daily"].vault.as_deref(), plan.tiers["monthly"].vault.as_deref()),
        (None, Some("plan"))
    );
    assert_eq!(plan.tiers["monthly"].cold_after, Some(Duration(30 * 86_400)));
    assert_eq!(plan.copies.keys().collect::<Vec<_>>(), ["west"], "what is not enabled is not there");
    assert_eq!(plan.copies["west"].of, ["daily"]);
    let verify = plan.verify.as_ref().unwrap();
    assert_eq!((verify.level, verify.remove_after), (VerifyLevel::L4, Duration(6 * 3_600)));
    assert_eq!(verify.check_within, Duration(3_600));
    assert!(!plan.deletion_protection);
    assert_eq!((plan.quarantine, plan.manual_keep), (Duration(3 * 86_400), Some(Duration(30 * 86_400))));
    assert_eq!(plan.drills["region"].scenario, Scenario::Region);
    assert_eq!(plan.data["users"].keep, Some(Span::For(Duration(7 * 365 * 86_400))));
    assert_eq!(plan.objectives[&Scenario::Region].rto, Some(Duration(4 * 3_600)));
    assert_eq!(p.places.of(&["policies", "gold", "tiers", "daily", "keep"]).line, 97);
    assert_eq!(p.places.of(&["databases", "shop", "cutover", "1", "record"]).line, 43);
    assert_eq!(p.places.of(&["policies", "gold", "nothing"]).line, 75);
}

#[test]
fn managed_values_are_checked_where_they_stand() {
    let mut wrong = Vec::new();
    for (from, to, expected) in [
        ("\"cluster-ABC123\"", "\"db-ABC123\"", "5:15: this is no resource id of Aurora"),
        ("\"123456789012\"\nprofile", "\"1234\"\nprofile", "6:11: `1234` is not an account"),
        ("role/holdfast\"\nencrypted", "user/me\"\nencrypted", "8:8: this is not the ARN of a role"),
        ("encrypted = true", "encrypted = \"yes\"", "9:13: `yes` is neither true nor false"),
        ("\"alias/shop\"", "\"shop\"", "10:11: `shop` does not name a key"),
        (
            "shop-{note}-%Y%m%d-%H%M%S",
            "shop-manual",
            "14:15: `shop-manual` names nothing: two names of different seconds would be the same; end it with %Y%m%d-%H%M%S",
        ),
        ("tags = { Application", "tags = { \"holdfast:x\"", "15:10: `holdfast:x` is a reserved tag"),
        ("password-secret = \"shop/check\"\n", "", "16:1: the password must come from exactly one place"),
        (
            "sql = \"select count",
            "collection = \"users\"\nsql = \"select count",
            "21:24: a check looks at one thing",
        ),
        ("expect = \">= 10\"", "expect = \"many\"", "23:10: `many` expects nothing"),
        ("region = \"us-east-1\"\n", "", "28:24: `region` is missing in [databases.shop.places.home]"),
        ("instances = 2", "multi-az = true", "28:24: `multi-az` is nothing that Aurora has"),
        ("min = 0.5, max", "min = 0.3, max", "35:12: this is no range of capacity"),
        (
            "\"db.serverless\"\ninstances",
            "\"serverless\"\ninstances",
            "33:9: `serverless` is not a class of instances",
        ),
        (
            "proxy = \"shop-proxy\"",
            "proxi = \"shop-proxy\"",
            "38:1: unknown key `proxi` in [databases.shop.cutover.0]",
        ),
        (
            "proxy = \"shop-proxy\"",
            "proxy = \"shop-proxy\"\nrename = true",
            "37:1: a step of the cutover changes exactly one thing",
        ),
        (
            "proxy = \"shop-proxy\"",
            "proxy = \"shop-proxy\"\nttl = \"5s\"",
            "39:7: `ttl` does not belong to this kind of step",
        ),
        ("\"https://shop", "\"shop", "39:10: `health` is not a URL"),
        ("{reader}", "{writer}", "47:40: `{writer}` is not known here"),
        (
            "deployment/backend",
            "daemonset/backend",
            "49:14: `daemonset/backend` is no workload that holdfast can change",
        ),
        ("namespace = \"shop\"", "namespace = \"Shop\"", "50:13: `Shop` is not the name of a namespace"),
        ("{ DATABASE_HOST", "{ \"1 HOST\"", "51:9: `1 HOST` is not the name of a variable"),
        (
            "namespace = \"shop\"",
            "region = \"us-east-1\"",
            "50:10: `region` does not belong to this kind of step",
        ),
        (
            "record = \"db",
            "within = \"5m\"\nrecord = \"db",
            "43:10: `within` does not belong to this kind of step",
        ),
        (
            "secret = \"shop/db\"",
            "secret = \"shop/db\"\nregion = \"west\"",
            "47:10: `west` is not the name of a region",
        ),
        ("undo = [\"point\", \"old\"]\n", "", "55:1: a command of the cutover needs an `undo`"),
        ("\"size\"\nabove", "\"growth\"\nabove", "62:11: `growth` is not what an alarm detects"),
        ("above = \"1TB\"", "above = \"lots\"", "63:9: `lots` is neither a number nor a size"),
        ("snapshots://us-west-2", "snapshots://us-west-2/x", "66:7: the snapshots of one region are meant"),
        (
            "[vaults.west]",
            "[vaults.west]\nkey-file = \"k\"",
            "66:12: `key-file` is for vaults that holdfast writes",
        ),
        (
            "profile = \"dr\"",
            "lock = { mode = \"governance\", min = \"7d\" }",
            "68:8: `lock` is for vaults of AWS Backup",
        ),
        (
            ", grace = \"3d\"",
            "",
            "74:8: a lock without `grace` is governance: whoever has the right can remove it",
        ),
        (
            "\"compliance\"",
            "\"governance\"",
            "74:65: a lock with `grace` is compliance: when it is over nobody can change or remove it",
        ),
        ("max = \"366d\"", "max = \"6d\"", "74:49: `max` is less than `min`"),
        ("min = \"7d\"", "min = \"36h\"", "74:37: `36h` is not a number of days"),
        ("rpo = \"5m\"", "wal = { keep = \"7d\" }", "76:16: `keep` of `wal` is for native databases"),
        ("23:30-00:30", "23:30", "89:17: `23:30` is not a window of hours"),
        ("sun:04:00-sun:05:00", "04:00-05:00", "90:22: `04:00-05:00` is not a window of a week"),
        (
            "{ to = \"west\", keep",
            "{ to = \"plan\", keep",
            "93:13: automated backups are replicated into a region, not into a vault of AWS Backup",
        ),
        (
            "snapshot-id = \"{id}-%Y%m%d-%H%M%S\"\n",
            "kind = \"full\"\n",
            "98:8: `kind` is for native databases",
        ),
        (
            "vaults = [\"plan\"]",
            "vaults = [\"plan\", \"west\"]",
            "102:10: a tier of a managed database goes to one vault",
        ),
        (
            "of = [\"daily\"]\nkeep = { daily = 7 }\nsnapshot",
            "of = [\"dialy\"]\nkeep = { daily = 7 }\nsnapshot",
            "107:7: `dialy` is not a tier of this policy",
        ),
        (
            "of = [\"daily\"]\nkeep = { daily = 7 }\nsnapshot",
            "of = [\"monthly\"]\nkeep = { daily = 7 }\nsnapshot",
            "105:23: tier `monthly` is kept by AWS Backup and cannot be copied to a vault of snapshots",
        ),
        (
            "level = \"L4\"",
            "level = \"L2\"",
            "116:9: `L2` says nothing of a managed database: holdfast cannot read what the provider stores",
        ),
        (
            "remove-after = \"6h\"",
            "remove-after = \"6h\"\ncheck-within = \"7h\"",
            "120:16: the copy is removed after 6h, and its content is looked at for 7h",
        ),
        (
            "level = \"L4\"",
            "level = \"L5\"",
            "116:9: `L5`, the application's own test, is not run for managed databases",
        ),
        (
            "scenario = \"region\"",
            "scenario = \"flood\"",
            "121:12: `flood` is not one of `deletion`, `corruption`, `loss`, `region` and `malicious`",
        ),
        (
            "last friday of quarter",
            "last friday of week",
            "122:12: `last friday of week 20:00`: `week` is not month, quarter, half-year or year",
        ),
    ] {
        assert!(MANAGED.contains(from), "{from}");
        let shown = refused(&MANAGED.replacen(from, to, 1));
        if shown.first().map(String::as_str) != Some(expected) || shown.len() > 2 {
            wrong.push(format!("{expected} | {shown:?}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn native_and_managed_do_not_mix() {
    let native = small_with("policy = \"p\"", "policy = \"p\"\nresource-id = \"db-A\"");
    assert_eq!(
        refused(&native),
        ["5:15: `resource-id` is for managed databases (rds://, aurora://, docdb://)"]
    );
    let plan = small_with("[policies.p]", "[policies.p]\nquarantine = \"7d\"");
    assert_eq!(refused(&plan), ["9:14: `quarantine` is for policies of managed databases"]);
    let both = format!("{SMALL}[databases.b]\nsource = \"rds://us-east-1/b\"\npolicy = \"p\"\n");
    assert_eq!(refused(&both), ["8:11: policy `p` is followed by native and by managed databases"]);
    let vault = SMALL.replace(
        "[policies.p]",
        "[vaults.m]\nurl = \"snapshots://us-east-1\"\n[policies.p.copies.m]\nto = \"m\"\nkeep = { last = 1 }",
    );
    assert_eq!(
        refused(&vault),
        ["11:6: vault `m` is of the managed plane, and this policy is for native databases"]
    );
    let other = MANAGED.replace("[vaults.west]\nurl = \"snapshots://us-west-2\"", "[vaults.local]\nurl = \"file:///v\"\nkey-file = \"k\"\n[vaults.west]\nurl = \"snapshots://us-west-2\"");
    assert!(parse(&other).is_ok(), "{:?}", parse(&other));
    let other = other.replace("to = \"west\", keep", "to = \"local\", keep");
    assert_eq!(
        refused(&other),
        ["96:20: holdfast writes to vault `local` itself, and this policy is for managed databases"]
    );
    // A policy that nobody follows is what it says.
    let unused = format!("{SMALL}[policies.later.pitr]\nkeep = \"7d\"\n");
    assert!(parse(&unused).unwrap().managed_plans.contains_key("later"));
    let twins =
        format!("{MANAGED}[vaults.again]\nurl = \"snapshots://us-west-2\"\naccount = \"210987654321\"\n");
    assert!(refused(&twins)[0].contains("are the same place"));
}

#[test]
fn no_damage_panics_here_or_in_the_rules() {
    let now = "2026-11-22T12:00:00Z".parse().unwrap();
    let observed = crate::rules::Observed { looked: true, ..Default::default() };
    let mut sound = 0;
    for (i, c) in MANAGED.char_indices().step_by(11) {
        for by in ["", "9", "\""] {
            let text = format!("{}{by}{}", &MANAGED[..i], &MANAGED[i + c.len_utf8()..]);
            match Policy::parse(&text, Path::new("/p.toml")) {
                Ok(p) => {
                    sound += 1;
                    for f in crate::rules::check(&p, &observed, now) {
                        assert!(f.at.line >= 1 && !f.message.contains('\n'), "{f:?}");
                    }
                    let _ = crate::rules::claims(&p, &observed, now);
                    let _ = crate::rules::estimate(&p, &observed, now);
                }
                Err(e) => assert!(!e.problems.is_empty()),
            }
        }
    }
    assert!(sound > 50, "{sound}");
}
