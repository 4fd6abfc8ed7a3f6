//! Vaults in another account, against the strict stand-in for AWS: snapshots are shared, copied there, and shared no
//! more; what has no way in, what a key forbids, killed in between; list, expire, recover and doctor look there.

use crate::common::error_of;
use crate::managed::{AWAY, HOME, boto};
use holdfast_testkit::{Aws, Holdfast, Output, Scratch, proc};
use serde_json::{Value, json};
use std::time::Duration;

const OWN: &str = "123456789012";
const OTHER: &str = "210987654321";

const POLICY: &str = r#"
version = 1
[databases.shop]
source = "SOURCE"
policy = "standard"
[databases.shop.places.safe]
region = "us-east-1"
account = "210987654321"
subnet-group = "default"
security-groups = ["GROUP"]
parameter-group = "PARAMETERS"
[vaults.safe]
url = "snapshots://us-east-1"
account = "210987654321"
role = "arn:aws:iam::210987654321:role/vault"
kms-key = "THERE"
[policies.standard]
rpo = "1d"
rto = "4h"
pitr = { keep = "7d" }
restore-id = "{id}-risen-%Y%m%d-%H%M%S"
deletion-protection = false
[policies.standard.tiers.daily]
schedule = "0 12 * * *"
keep = { last = 7, at-least = 1 }
[policies.standard.copies.safe]
to = "safe"
keep = { last = 1, at-least = 1 }
"#;

struct Stage {
    aws: Aws,
    hf: Holdfast,
    scratch: Scratch,
    /// Of the snapshots.
    key: String,
    /// Of the copies.
    there: String,
}

/// A client of boto3 in the other account.
fn other(service: &str, region: &str) -> String {
    format!(
        "boto3.client('{service}', region_name='{region}', aws_access_key_id='vault', aws_secret_access_key='test')"
    )
}

fn stage(name: &str, source: &str, more: &str) -> Stage {
    let scratch = Scratch::new(name);
    let aws = Aws::standin(&scratch);
    let _ = aws.control("keys", Some(json!({ "access_key": "vault", "account": OTHER })));
    let role = json!({ "key": "vault", "role": { "name": "vault", "trusts": [OWN] } });
    let _ = aws.control("seed", Some(role));
    let new_key = ".create_key()['KeyMetadata']['Arn']";
    let key = boto(&aws, &format!("print(boto3.client('kms', region_name='{HOME}'){new_key})"));
    let there = boto(&aws, &format!("print({}{new_key})", other("kms", HOME)));
    let group = boto(
        &aws,
        &format!("print({}.describe_security_groups()['SecurityGroups'][0]['GroupId'])", other("ec2", HOME)),
    );
    let cluster = !source.starts_with("rds");
    let seed = match cluster {
        false => json!({ "instances": [
            { "DBInstanceIdentifier": "shop", "age": 864_000, "StorageEncrypted": true, "KmsKeyId": key }
        ] }),
        true => json!({ "clusters": [
            { "DBClusterIdentifier": "shop", "age": 864_000, "members": 1, "StorageEncrypted": true, "KmsKeyId": key }
        ] }),
    };
    let _ = aws.control("seed", Some(seed));
    let parameters = if cluster { "default.aurora-postgresql17" } else { "default.postgres17" };
    let text = POLICY
        .replace("SOURCE", source)
        .replace("THERE", &there)
        .replace("GROUP", &group)
        .replace("PARAMETERS", parameters)
        + more;
    let path = scratch.write("holdfast.toml", &text);
    let hf = Holdfast::new(&scratch, &path).env("HOLDFAST_POLL", "0.05").envs(aws.env());
    Stage { aws, hf, scratch, key, there }
}

impl Stage {
    /// What `holdfast iam --key-for` prints goes into the policy of the key.
    fn let_in(&self) {
        let statements =
            self.hf.run(&["--json", "iam", "--key-for", OTHER]).ok().json()["statements"].clone();
        let _ = boto(
            &self.aws,
            &format!(
                "kms = boto3.client('kms', region_name='{HOME}')\n\
                 own = {{'Effect': 'Allow', 'Principal': {{'AWS': 'arn:aws:iam::{OWN}:root'}}, 'Action': 'kms:*', 'Resource': '*'}}\n\
                 policy = json.dumps({{'Statement': [own] + json.loads('''{statements}''')}})\n\
                 kms.put_key_policy(KeyId='{}', PolicyName='default', Policy=policy)",
                self.key
            ),
        );
    }

    fn rewrite(&self, change: impl Fn(String) -> String) {
        let path = self.scratch.path("holdfast.toml");
        let text = std::fs::read_to_string(&path).expect("policy");
        std::fs::write(&path, change(text)).expect("policy");
    }

    fn backup(&self) -> String {
        let made = self.hf.run(&["--json", "backup", "shop", "--tier", "daily"]).ok().json();
        made["id"].as_str().expect("id").to_string()
    }

    /// Manual snapshots of an account and region.
    fn snapshots(&self, account: &str, region: &str) -> Vec<Value> {
        let state = self.aws.control("state", None);
        let tables = &state["regions"][account][region]["rds"];
        let rows = ["snapshots", "cluster_snapshots"].iter().filter_map(|t| tables[*t].as_array()).flatten();
        rows.filter(|r| !r["id"].as_str().unwrap_or(":").contains(':')).cloned().collect()
    }

    /// Accounts that something of the own account is shared with.
    fn shared(&self) -> String {
        boto(
            &self.aws,
            "rds = boto3.client('rds', region_name='us-east-1')\n\
             out = []\n\
             for s in rds.describe_db_snapshots(SnapshotType='manual')['DBSnapshots']:\n\
             \x20   r = rds.describe_db_snapshot_attributes(DBSnapshotIdentifier=s['DBSnapshotIdentifier'])\n\
             \x20   out += r['DBSnapshotAttributesResult']['DBSnapshotAttributes'][0]['AttributeValues']\n\
             for s in rds.describe_db_cluster_snapshots(SnapshotType='manual')['DBClusterSnapshots']:\n\
             \x20   r = rds.describe_db_cluster_snapshot_attributes(DBClusterSnapshotIdentifier=s['DBClusterSnapshotIdentifier'])\n\
             \x20   out += r['DBClusterSnapshotAttributesResult']['DBClusterSnapshotAttributes'][0]['AttributeValues']\n\
             print(' '.join(out))",
        )
    }

    fn shares(&self) -> u64 {
        self.aws.count("rds:ModifyDBSnapshotAttribute")
            + self.aws.count("rds:ModifyDBClusterSnapshotAttribute")
    }

    fn copies(&self) -> u64 {
        self.aws.count("rds:CopyDBSnapshot") + self.aws.count("rds:CopyDBClusterSnapshot")
    }

    fn kept_there(&self) -> Vec<Value> {
        let all = self.hf.run(&["--json", "list", "shop"]).ok().json();
        let kept = all["managed"]["databases"][0]["kept"].as_array().expect("kept").clone();
        kept.into_iter().filter(|k| k["account"] == OTHER).collect()
    }

    /// No fault strikes any more.
    fn forget(&self) {
        let url = format!("{}/_standin/faults", self.aws.endpoint());
        let _ = boto(
            &self.aws,
            &format!(
                "import urllib.request\nurllib.request.urlopen(urllib.request.Request('{url}', method='DELETE'))"
            ),
        );
    }

    /// Runs it until it hangs in that call, and kills it.
    fn killed(&self, args: &[&str], action: &str, kind: &str) {
        let rule = json!({ "kind": kind, "action": action, "seconds": 25 });
        let _ = self.aws.control("faults", Some(rule));
        let did = |r: &&Value| r["hung"] == true;
        let hung = || {
            let requests = self.aws.control("requests", None);
            requests.as_array().map_or(0, |r| r.iter().filter(did).count())
        };
        let known = hung();
        let mut run = self.hf.spawn(args);
        let there = || {
            let rules = self.aws.control("faults", None);
            let struck = rules.as_array().is_some_and(|r| r.iter().any(|r| r["struck"].as_u64() > Some(0)));
            if kind == "hang-before" { struck } else { hung() > known }
        };
        assert!(proc::wait_until(Duration::from_secs(40), there), "never came to {action}: {}", run.output());
        std::thread::sleep(Duration::from_millis(100));
        run.kill9();
    }
}

fn arrived(out: &Output) -> usize {
    out.json()["copies"][0]["report"]["arrived"].as_array().map_or(0, Vec::len)
}

fn there_and_back(name: &str, source: &str) {
    let s = stage(name, source, "");
    s.let_in();
    let id = s.backup();
    let plan = s.hf.run(&["--json", "copy", "shop", "--plan"]).ok().json();
    assert_eq!(plan["copies"][0]["plan"]["missing"].as_array().map(Vec::len), Some(1), "{plan:#}");
    assert_eq!(plan["copies"][0]["plan"]["target"]["account"], OTHER);
    assert_eq!((s.shares(), s.copies()), (0, 0), "a plan changes nothing");

    let done = s.hf.run(&["--json", "copy", "shop"]).ok();
    assert_eq!(arrived(&done), 1, "{}", done.transcript());
    let there = s.snapshots(OTHER, HOME);
    assert_eq!(there.len(), 1, "{there:#?}");
    let (copy, tags) = (there[0]["id"].as_str().expect("id"), &there[0]["tags"]);
    assert_eq!(copy, format!("{id}-{OWN}"));
    let original = s.snapshots(OWN, HOME)[0]["arn"].clone();
    assert_eq!((&tags["holdfast:copy-of"], &tags["holdfast:tier"]), (&original, &json!("daily")), "{tags:#}");
    assert_eq!(tags["holdfast:snapshot"], format!("{HOME}/{copy}/copy"));
    let key = match source.starts_with("rds") {
        true => "print(c.describe_db_snapshots()['DBSnapshots'][0]['KmsKeyId'])",
        false => "print(c.describe_db_cluster_snapshots()['DBClusterSnapshots'][0]['KmsKeyId'])",
    };
    assert_eq!(boto(&s.aws, &format!("c = {}\n{key}", other("rds", HOME))), s.there, "the target's own key");
    assert_eq!(s.shared(), "", "nobody keeps access");

    let log = std::fs::read_to_string(s.scratch.path("state/changes.log")).expect("the log of changes");
    let in_other = |l: &&str| l.contains(&format!("\"account\":\"{OTHER}\""));
    assert!(log.lines().filter(in_other).all(|l| l.contains("rds:CopyDB")), "{log}");
    assert_eq!(log.lines().filter(in_other).count(), 2, "{log}");

    // Nothing is shared or copied twice.
    let (shares, copies) = (s.shares(), s.copies());
    let again = s.hf.run(&["--json", "copy", "shop"]).ok().json();
    assert_eq!(again["copies"][0]["plan"]["missing"], json!([]), "{again:#}");
    assert_eq!((s.shares(), s.copies()), (shares, copies));

    let kept = s.kept_there();
    assert_eq!(kept.len(), 1, "{kept:#?}");
    assert_eq!(
        (&kept[0]["kind"], &kept[0]["id"], &kept[0]["ours"]),
        (&json!("copy"), &json!(copy), &json!(true))
    );
    let _ = s.hf.run(&["list", "shop"]).ok().says(&format!("{HOME}, account {OTHER}"));
    let lines = s.hf.run(&["--json", "doctor", "shop"]).json();
    let line = lines["checks"].as_array().expect("checks").iter().find(|l| l["name"] == "copy.safe").cloned();
    assert_eq!(line.expect("copy.safe")["status"], "OK", "{lines:#}");
}

#[test]
fn an_instance_is_copied_into_another_account() {
    there_and_back("abroad-rds", "rds://us-east-1/shop");
}

#[test]
fn a_cluster_is_copied_into_another_account() {
    there_and_back("abroad-aurora", "aurora://us-east-1/shop");
}

/// Own retention there; what other accounts or people have there stays.
#[test]
fn copies_expire_with_the_credentials_of_their_account() {
    let s = stage("abroad-expire", "rds://us-east-1/shop", "");
    s.let_in();
    // Another account has a database of that name, and copies its snapshots there too.
    let _ = s.aws.control(
        "seed",
        Some(json!({ "key": "vault", "instances": [{ "DBInstanceIdentifier": "shop", "age": 864_000 }],
            "snapshots": { "source": "shop", "count": 2, "prefix": "shop-daily-111111111111-", "tags": {
                "holdfast:operation": "op", "holdfast:database": "shop", "holdfast:tier": "daily",
                "holdfast:copy-of": "arn:aws:rds:us-east-1:111111111111:snapshot:shop-daily",
                "holdfast:copy-from-region": "us-east-1" } } })),
    );
    let marks = "for n in ('00000', '00001'):\n\
                 \x20   name = 'shop-daily-111111111111-' + n\n\
                 \x20   c.add_tags_to_resource(ResourceName='arn:aws:rds:us-east-1:210987654321:snapshot:' + name,\n\
                 \x20       Tags=[{'Key': 'holdfast:snapshot', 'Value': 'us-east-1/' + name + '/copy'}])";
    let _ = boto(&s.aws, &format!("c = {}\n{marks}", other("rds", HOME)));
    let mut ids = Vec::new();
    for _ in 0..2 {
        ids.push(s.backup());
        assert_eq!(arrived(&s.hf.run(&["--json", "copy", "shop"]).ok()), 1);
        std::thread::sleep(Duration::from_millis(1100));
    }
    assert_eq!(s.snapshots(OTHER, HOME).len(), 4);
    let plan = s.hf.run(&["--json", "expire", "shop"]).ok().json();
    let regions = plan["regions"].as_array().expect("regions");
    let there = regions.iter().find(|r| r["account"] == OTHER).expect("the other account");
    let lines = there["snapshots"].as_array().expect("lines");
    assert_eq!(lines.len(), 2, "only what is of this database's account: {there:#}");
    let _ = s.hf.run(&["expire", "shop", "--apply"]).ok();
    let left: Vec<String> =
        s.snapshots(OTHER, HOME).iter().filter_map(|r| Some(r["id"].as_str()?.to_string())).collect();
    assert_eq!(left.len(), 3, "{left:?}");
    assert!(left.contains(&format!("{}-{OWN}", ids[1])) && !left.contains(&format!("{}-{OWN}", ids[0])));
    assert_eq!(s.snapshots(OWN, HOME).len(), 2, "the rules of the tier keep seven here");
    // What was let go is not sent again.
    assert_eq!(arrived(&s.hf.run(&["--json", "copy", "shop"]).ok()), 0);
    assert_eq!(s.kept_there().len(), 1);
}

#[test]
fn what_a_key_forbids_is_told_before_anything_is_shared() {
    let s = stage("abroad-keys", "rds://us-east-1/shop", "");
    let _ = s.backup();
    // The policy of the key says nothing of the other account.
    for args in [&["--json", "copy", "shop", "--plan"][..], &["--json", "copy", "shop"]] {
        let (_, message, hint) = error_of(&s.hf.run(args).expect_code(13));
        assert!(message.contains("may not use the key of the snapshots"), "{message}");
        assert!(hint.contains("holdfast iam --key-for 210987654321"), "{hint}");
    }
    s.let_in();
    // A key of the own account would make the copies worth nothing.
    s.rewrite(|t| t.replace(&s.there, &s.key));
    let (_, message, _) = error_of(&s.hf.run(&["--json", "copy", "shop"]).expect_code(13));
    assert!(message.contains("is not of account 210987654321"), "{message}");
    s.rewrite(|t| t.replace(&format!("kms-key = \"{}\"\n", s.key), ""));
    let (_, message, hint) = error_of(&s.hf.run(&["--json", "copy", "shop"]).expect_code(2));
    assert!(
        message.contains("needs a key of that account") && hint.contains("[vaults.safe]"),
        "{message} {hint}"
    );
    assert_eq!((s.shares(), s.copies()), (0, 0));
}

#[test]
fn the_providers_own_key_does_not_leave_the_account() {
    let s = stage("abroad-default-key", "rds://us-east-1/shop", "");
    s.let_in();
    let _ = s.aws.control(
        "seed",
        Some(json!({ "instances": [
            { "DBInstanceIdentifier": "plain", "age": 864_000, "StorageEncrypted": true }
        ] })),
    );
    s.rewrite(|t| t.replace("rds://us-east-1/shop", "rds://us-east-1/plain"));
    let _ = s.backup();
    let (_, message, hint) = error_of(&s.hf.run(&["--json", "copy", "shop"]).expect_code(13));
    assert!(message.contains("AWS's own key") && hint.contains("key of your own"), "{message} {hint}");
    assert_eq!(s.shares(), 0);
}

/// A database whose key was changed has snapshots of both keys: those that can go do.
#[test]
fn a_snapshot_that_cannot_go_keeps_no_other() {
    let s = stage("abroad-two-keys", "rds://us-east-1/shop", "");
    s.let_in();
    s.rewrite(|t| t.replace("keep = { last = 1, at-least = 1 }", "keep = { last = 7, at-least = 1 }"));
    let goes = s.backup();
    let _ = boto(
        &s.aws,
        "boto3.client('rds').delete_db_instance(DBInstanceIdentifier='shop', SkipFinalSnapshot=True)",
    );
    let _ = s.aws.control("settle", Some(json!({})));
    let plain = json!({ "DBInstanceIdentifier": "shop", "age": 864_000, "StorageEncrypted": true });
    let _ = s.aws.control("seed", Some(json!({ "instances": [plain] })));
    let stays = s.backup();

    let out = s.hf.run(&["--json", "copy", "shop", "--plan"]).ok().json();
    let plan = &out["copies"][0]["plan"];
    assert_eq!(plan["missing"].as_array().map(Vec::len), Some(1), "{out:#}");
    assert_eq!(plan["missing"][0]["from"]["at"]["id"], goes.as_str(), "{out:#}");
    assert_eq!(plan["kept_back"][0]["from"]["id"], stays.as_str(), "{out:#}");
    assert!(plan["kept_back"][0]["hint"].as_str().is_some_and(|h| h.contains("key of your own")), "{out:#}");

    let out = s.hf.run(&["--json", "copy", "shop"]).expect_code(3);
    assert_eq!(arrived(&out), 1, "{}", out.stdout);
    assert_eq!(out.json()["copies"][0]["report"]["failed"][0][0], stays.as_str(), "{}", out.stdout);
    assert_eq!(s.shared(), "", "nothing stays shared");
    // Every time, as long as it is there; who asks for that one alone is refused.
    let again = s.hf.run(&["--json", "copy", "shop"]).expect_code(3);
    assert_eq!((arrived(&again), s.copies()), (0, 1), "{}", again.stdout);
    assert!(again.stdout.contains("AWS's own key"), "{}", again.stdout);
    let (_, message, _) = error_of(&s.hf.run(&["--json", "copy", &stays, "--db", "shop"]).expect_code(13));
    assert!(message.contains("AWS's own key"), "{message}");
}

#[test]
fn without_a_way_into_the_account_the_rest_goes_on_and_it_is_said() {
    let more = "[vaults.near]\nurl = \"snapshots://us-west-2\"\nkms-key = \"WEST\"\n\
                [policies.standard.copies.near]\nto = \"near\"\nkeep = { last = 7, at-least = 1 }\n";
    let s = stage("abroad-no-way", "rds://us-east-1/shop", more);
    s.let_in();
    let west = crate::managed::key(&s.aws);
    s.rewrite(|t| t.replace("WEST", &west));
    let _ = s.backup();
    // Nobody lets it in; then another account's role does; then the policy names no way at all.
    let roles = json!({ "role": { "name": "wrong", "trusts": [OWN] } });
    let wrong = s.aws.control("seed", Some(roles))["role"].as_str().expect("role").to_string();
    let role = "role = \"arn:aws:iam::210987654321:role/vault\"\n";
    let ways = [
        ("role = \"arn:aws:iam::210987654321:role/nobody\"\n".to_string(), "AssumeRole"),
        (format!("role = \"{wrong}\"\n"), "are of account 123456789012"),
        (String::new(), "names no way"),
    ];
    let mut was = role.to_string();
    for (now, says) in ways {
        s.rewrite(|t| match was.is_empty() {
            true => t,
            false => t.replace(&was, &now),
        });
        was.clone_from(&now);
        let out = s.hf.run(&["--json", "copy", "shop"]).expect_code(3).json();
        let of = |name: &str| {
            out["copies"].as_array().expect("copies").iter().find(|c| c["copy"] == name).cloned()
        };
        let message = of("safe").expect("safe")["error"]["message"].to_string();
        assert!(message.contains(says), "{says}: {message}");
        assert!(of("near").expect("near")["plan"].is_object(), "{out:#}");
        let list = s.hf.run(&["--json", "list", "shop"]).expect_code(3).json();
        let unseen = &list["managed"]["unseen"][0];
        assert_eq!((&unseen["vault"], &unseen["account"]), (&json!("safe"), &json!(OTHER)), "{list:#}");
        assert_eq!(list["managed"]["databases"][0]["status"], "available", "{list:#}");
        let _ =
            s.hf.run(&["list", "shop"])
                .expect_code(3)
                .says("could not be seen: vault safe in account 210987654321");
        let expire = s.hf.run(&["--json", "expire", "shop", "--apply"]).expect_code(3).json();
        assert_eq!(expire["regions"].as_array().map(Vec::len), Some(2), "{expire:#}");
        assert_eq!(expire["failures"][0]["account"], OTHER, "{expire:#}");
        let doctor = s.hf.run(&["--json", "doctor", "shop"]).json();
        let lines = doctor["checks"].as_array().expect("checks");
        assert!(lines.iter().any(|l| l["name"] == "vault.safe" && l["status"] == "FAIL"), "{doctor:#}");
        let _ = s.hf.run(&["validate", "--live"]).says("vault safe in account 210987654321");
    }
    assert_eq!(s.snapshots(OWN, AWAY).len(), 1, "the other copy was made");
    assert_eq!((s.shares(), s.snapshots(OTHER, HOME).len()), (0, 0));
}

#[test]
fn killed_between_share_and_copy_the_share_is_taken_back() {
    let s = stage("abroad-killed", "rds://us-east-1/shop", "");
    s.let_in();
    for (n, (action, kind)) in [
        ("rds:ModifyDBSnapshotAttribute", "hang-after"),
        ("rds:CopyDBSnapshot", "hang-before"),
        ("rds:CopyDBSnapshot", "hang-after"),
    ]
    .into_iter()
    .enumerate()
    {
        let _ = s.backup();
        s.killed(&["copy", "shop"], action, kind);
        assert_eq!(s.shared(), OTHER, "{action} {kind}");
        let out = s.hf.run(&["--json", "copy", "shop"]).ok();
        assert_eq!(arrived(&out), 1, "{action} {kind}: {}", out.transcript());
        assert_eq!(s.shared(), "", "{action} {kind}");
        assert_eq!(s.snapshots(OTHER, HOME).len(), n + 1, "nothing is made twice");
        s.forget();
    }
}

/// The way in is gone meanwhile: nothing stays shared, and the copy is made when there is a way again.
#[test]
fn nothing_stays_shared_for_a_copy_that_cannot_be_begun() {
    let s = stage("abroad-shut", "rds://us-east-1/shop", "");
    s.let_in();
    let _ = s.backup();
    s.killed(&["copy", "shop"], "rds:CopyDBSnapshot", "hang-before");
    assert_eq!(s.shared(), OTHER);
    s.rewrite(|t| t.replace("role/vault", "role/nobody"));
    let _ = s.hf.run(&["--json", "copy", "shop", "--plan"]).expect_code(12);
    assert_eq!(s.shared(), OTHER, "a plan changes nothing");
    let _ = s.hf.run(&["--json", "copy", "shop"]).expect_code(12);
    assert_eq!((s.shared(), s.snapshots(OTHER, HOME).len()), (String::new(), 0));
    s.rewrite(|t| t.replace("role/nobody", "role/vault"));
    assert_eq!(arrived(&s.hf.run(&["--json", "copy", "shop"]).ok()), 1);
    assert_eq!((s.shared(), s.snapshots(OTHER, HOME).len()), (String::new(), 1));
    let _ = s.hf.run(&["copy", "shop"]).ok().says("nothing is missing there");
}

#[test]
fn a_copy_whose_vault_left_the_policy_is_given_up_and_its_share_taken_back() {
    let more = "[vaults.near]\nurl = \"snapshots://us-west-2\"\nkms-key = \"WEST\"\n\
                [policies.standard.copies.near]\nto = \"near\"\nkeep = { last = 7, at-least = 1 }\n";
    let s = stage("abroad-gone", "rds://us-east-1/shop", more);
    s.let_in();
    let west = crate::managed::key(&s.aws);
    s.rewrite(|t| t.replace("WEST", &west));
    let _ = s.backup();
    s.killed(&["copy", "shop", "--to", "safe"], "rds:CopyDBSnapshot", "hang-before");
    assert_eq!(s.shared(), OTHER);
    s.rewrite(|t| {
        t.replace("[policies.standard.copies.safe]\nto = \"safe\"\nkeep = { last = 1, at-least = 1 }\n", "")
    });
    let out = s.hf.run(&["--json", "copy", "shop"]).expect_code(3).json();
    let failed = out["copies"][0]["report"]["failed"].to_string();
    assert!(failed.contains("no vault `safe` in account 210987654321 any more"), "{out:#}");
    assert_eq!(arrived_of(&out), 1, "the other copy is made: {out:#}");
    assert_eq!((s.shared(), s.snapshots(OTHER, HOME).len()), (String::new(), 0));
    let _ = s.hf.run(&["copy", "shop"]).ok().says("nothing is missing there");
}

fn arrived_of(out: &Value) -> usize {
    out["copies"][0]["report"]["arrived"].as_array().map_or(0, Vec::len)
}

/// What somebody shared stays shared; a copy that fails leaves no share.
#[test]
fn only_the_own_share_is_taken_back() {
    let s = stage("abroad-shares", "rds://us-east-1/shop", "");
    s.let_in();
    let id = s.backup();
    let _ = s.aws.control("faults", Some(json!({ "kind": "fail", "operation": "copy", "resource": "*" })));
    let (_, message, _) = error_of(&s.hf.run(&["--json", "copy", "shop"]).expect_code(1));
    assert!(message.contains("failed"), "{message}");
    assert_eq!((s.shared(), s.snapshots(OTHER, HOME).len()), (String::new(), 0));
    s.forget();
    let _ = boto(
        &s.aws,
        &format!(
            "boto3.client('rds', region_name='{HOME}').modify_db_snapshot_attribute(DBSnapshotIdentifier='{id}', \
             AttributeName='restore', ValuesToAdd=['{OTHER}', '111111111111'])"
        ),
    );
    assert_eq!(arrived(&s.hf.run(&["--json", "copy", "shop"]).ok()), 1);
    assert_eq!(s.shared(), format!("{OTHER} 111111111111"));
}

/// Account and region change one after the other.
#[test]
fn another_region_of_the_account_is_reached_from_its_vault_here() {
    let far = "[vaults.far]\nurl = \"snapshots://us-west-2\"\naccount = \"210987654321\"\n\
               role = \"arn:aws:iam::210987654321:role/vault\"\nkms-key = \"FAR\"\n\
               [policies.standard.copies.far]\nto = \"far\"\nkeep = { last = 3, at-least = 1 }\n";
    let s = stage("abroad-far", "aurora://us-east-1/shop", far);
    s.let_in();
    let key = boto(&s.aws, &format!("print({}.create_key()['KeyMetadata']['Arn'])", other("kms", AWAY)));
    s.rewrite(|t| t.replace("FAR", &key));
    let id = s.backup();
    let done = s.hf.run(&["--json", "copy", "shop"]).ok().json();
    assert_eq!(done["copies"].as_array().map(Vec::len), Some(2), "{done:#}");
    let near = format!("{id}-{OWN}");
    for region in [HOME, AWAY] {
        let there = s.snapshots(OTHER, region);
        assert_eq!(there.len(), 1, "{region}: {there:#?}");
        assert_eq!(there[0]["id"], near);
        assert_eq!(there[0]["tags"]["holdfast:copy-of"], s.snapshots(OWN, HOME)[0]["arn"]);
    }
    let again = s.hf.run(&["--json", "copy", "shop"]).ok().json();
    for c in again["copies"].as_array().expect("copies") {
        assert_eq!(c["plan"]["missing"], json!([]), "{again:#}");
    }
    assert_eq!(s.kept_there().len(), 2);

    // Without the vault between there is no way, and the message names one.
    s.rewrite(|t| {
        t.replace("[policies.standard.copies.safe]\nto = \"safe\"\nkeep = { last = 1, at-least = 1 }\n", "")
    });
    let (_, message, hint) = error_of(&s.hf.run(&["--json", "copy", "shop"]).expect_code(13));
    assert!(message.contains("a copy changes one of the two"), "{message}");
    assert!(hint.contains("snapshots://us-east-1") && !hint.contains("aws-backup"), "{hint}");
}

/// The profile of the vault counts, whatever keys are in the environment; and the roles of `holdfast iam` suffice.
#[test]
fn a_profile_and_the_printed_roles_are_enough() {
    let s = stage("abroad-roles", "rds://us-east-1/shop", "");
    s.let_in();
    let policies = |roles: &[&str], account: &str| -> Vec<Value> {
        roles
            .iter()
            .map(|r| {
                s.hf.run(&["--json", "iam", "--role", r, "--account", account]).ok().json()["policy"].clone()
            })
            .collect()
    };
    let keys =
        [("here", OWN, vec!["observe", "backup"]), ("guest", OTHER, vec!["observe", "backup", "delete"])];
    for (key, account, roles) in keys {
        let given = json!({ "access_key": key, "account": account, "policies": policies(&roles, account) });
        let _ = s.aws.control("keys", Some(given));
    }
    let config = s.scratch.write(
        "aws-config",
        "[profile guest]\naws_access_key_id = guest\naws_secret_access_key = test\nregion = us-east-1\n",
    );
    s.rewrite(|t| t.replace("role = \"arn:aws:iam::210987654321:role/vault\"\n", "profile = \"guest\"\n"));
    let hf = Holdfast::new(&s.scratch, s.scratch.path("holdfast.toml"))
        .env("HOLDFAST_POLL", "0.05")
        .envs(s.aws.env())
        .env("AWS_ACCESS_KEY_ID", "here")
        .env("AWS_CONFIG_FILE", &config);
    for _ in 0..2 {
        let _ = hf.run(&["backup", "shop", "--tier", "daily"]).ok();
        let _ = hf.run(&["copy", "shop"]).ok();
        std::thread::sleep(Duration::from_millis(1100));
    }
    assert_eq!((s.snapshots(OTHER, HOME).len(), s.shared()), (2, String::new()));
    // Whoever backs up here cannot delete here, and the copies expire by the other account's rights.
    let _ = hf.run(&["expire", "shop", "--apply"]).ok();
    assert_eq!((s.snapshots(OTHER, HOME).len(), s.snapshots(OWN, HOME).len()), (1, 2));
}

#[test]
fn after_a_malicious_deletion_the_other_account_is_the_way_out() {
    for (name, source) in
        [("abroad-recover", "rds://us-east-1/shop"), ("abroad-recover-c", "aurora://us-east-1/shop")]
    {
        let s = stage(name, source, "");
        s.let_in();
        let _ = s.backup();
        let _ = s.hf.run(&["copy", "shop"]).ok();
        // Something else has the source's name there, and is nobody's business.
        let _ = s.aws.control(
            "seed",
            Some(
                json!({ "key": "vault", "instances": [{ "DBInstanceIdentifier": "shop", "age": 864_000 }] }),
            ),
        );
        // Nothing of the second of the incident itself is a way.
        std::thread::sleep(Duration::from_millis(2100));
        let at = jiff::Timestamp::now().to_string();
        let args = ["--json", "recover", "shop", "--scenario", "malicious-deletion", "--at", &at];
        let shown = s.hf.run(&args).ok().json();
        let way = &shown["ways"][0];
        assert_eq!((&way["account"], &way["from"]["from"]), (&json!(OTHER), &json!("snapshot")), "{shown:#}");
        assert_eq!(shown["plan"]["account"], OTHER, "{shown:#}");
        assert!(shown["next"].as_str().is_some_and(|n| n.contains("no cutover leads there")), "{shown:#}");

        let name = format!("{OTHER}/{HOME}/{}", way["from"]["id"].as_str().expect("id"));
        let go = [&args[..], &["--way", &name, "--yes", "--to-id", "risen"]].concat();
        let done = s.hf.run(&go).ok().json();
        assert!(
            done["restore"]["arn"].as_str().is_some_and(|a| a.contains(&format!(":{OTHER}:"))),
            "{done:#}"
        );
        let state = s.aws.control("state", None);
        let has = |account: &str| {
            let tables = &state["regions"][account][HOME]["rds"];
            let all = ["instances", "clusters"].iter().filter_map(|t| tables[*t].as_array()).flatten();
            all.filter(|r| r["id"] == "risen").count()
        };
        assert_eq!((has(OTHER), has(OWN)), (1, 0));
    }
}

/// By hand, by name; and what is not a copy is not taken for one.
#[test]
fn a_copy_is_restored_where_it_is() {
    let s = stage("abroad-restore", "rds://us-east-1/shop", "");
    s.let_in();
    let id = s.backup();
    let _ = s.hf.run(&["copy", "shop"]).ok();
    let to = ["--json", "restore", "shop", "--to-id", "risen", "--account", OTHER];
    let (_, message, hint) = error_of(&s.hf.run(&[&to[..], &["--at", "latest"]].concat()).expect_code(2));
    assert!(message.contains("has copies of") && hint.contains("--from-snapshot"), "{message} {hint}");
    let copy = format!("{id}-{OWN}");
    let args = [&to[..], &["--from-snapshot", &copy]].concat();
    let plan = s.hf.run(&args).ok().json();
    assert_eq!(plan["plan"]["account"], OTHER, "{plan:#}");
    // Killed, it goes on there.
    s.killed(&[&args[..], &["--yes"]].concat(), "rds:RestoreDBInstanceFromDBSnapshot", "hang-after");
    let done = s.hf.run(&[&args[..], &["--yes"]].concat()).ok().json();
    assert_eq!(done["restore"]["resumed"], true, "{done:#}");
    let state = s.aws.control("state", None);
    let made = |account: &str| {
        let all = state["regions"][account][HOME]["rds"]["instances"].as_array().cloned().unwrap_or_default();
        all.iter().filter(|r| r["id"] != "shop").count()
    };
    assert_eq!((made(OTHER), made(OWN)), (1, 0));
    let (_, message, _) = error_of(
        &s.hf
            .run(&[
                "--json",
                "restore",
                "shop",
                "--to-id",
                "x",
                "--account",
                "111111111111",
                "--at",
                "latest",
            ])
            .expect_code(2),
    );
    assert!(message.contains("no vault of the policy is in account 111111111111"), "{message}");
    // Nothing of the home account fits there: without its place it is refused.
    s.rewrite(|t| t.replace("account = \"210987654321\"\nsubnet-group", "subnet-group"));
    let (_, message, hint) = error_of(
        &s.hf
            .run(&[&to[..4], &["other", "--account", OTHER, "--from-snapshot", &copy]].concat())
            .expect_code(2),
    );
    assert!(message.contains("of account 210987654321"), "{message}");
    assert!(hint.contains("account = \"210987654321\""), "{hint}");
}

/// What AWS Backup copied there is seen and restored by the way of its vault.
#[test]
fn recovery_points_of_the_other_account_are_a_way_too() {
    let more = "[vaults.main]\nurl = \"aws-backup://us-east-1/main\"\n\
                [vaults.points]\nurl = \"aws-backup://us-east-1/points\"\naccount = \"210987654321\"\n\
                role = \"arn:aws:iam::210987654321:role/vault\"\nbackup-role = \"arn:aws:iam::210987654321:role/riser\"\n\
                [policies.standard.tiers.weekly]\nschedule = \"0 14 * * 0\"\nvaults = [\"main\"]\nkeep = { window = \"30d\" }\n\
                [policies.standard.copies.points]\nto = \"points\"\nof = [\"weekly\"]\nkeep = { window = \"30d\" }\n";
    let s = stage("abroad-points", "rds://us-east-1/shop", more);
    s.rewrite(|t| {
        t.replace("[policies.standard.copies.safe]\n", "[policies.standard.copies.safe]\nof = [\"daily\"]\n")
    });
    let _ = s.aws.control("seed", Some(json!({ "role": "backups" })));
    let _ = s.aws.control("seed", Some(json!({ "key": "vault", "role": "riser" })));
    let own = format!("b = boto3.client('backup', region_name='{HOME}')\no = {}\n", other("backup", HOME));
    let role = format!("arn:aws:iam::{OWN}:role/backups");
    let _ = boto(
        &s.aws,
        &format!(
            "{own}b.create_backup_vault(BackupVaultName='main')\no.create_backup_vault(BackupVaultName='points')\n\
             policy = {{'Version': '2012-10-17', 'Statement': [{{'Effect': 'Allow', 'Action': 'backup:CopyIntoBackupVault', \
             'Principal': {{'AWS': 'arn:aws:iam::{OWN}:root'}}, 'Resource': '*'}}]}}\n\
             o.put_backup_vault_access_policy(BackupVaultName='points', Policy=json.dumps(policy))\n\
             b.start_backup_job(BackupVaultName='main', IamRoleArn='{role}', ResourceArn='arn:aws:rds:{HOME}:{OWN}:db:shop')"
        ),
    );
    let _ = s.aws.control("settle", Some(json!({})));
    let _ = boto(
        &s.aws,
        &format!(
            "{own}p = b.list_recovery_points_by_backup_vault(BackupVaultName='main')['RecoveryPoints'][0]\n\
             b.start_copy_job(RecoveryPointArn=p['RecoveryPointArn'], SourceBackupVaultName='main', IamRoleArn='{role}', \
             DestinationBackupVaultArn='arn:aws:backup:{HOME}:{OTHER}:backup-vault:points')"
        ),
    );
    let _ = s.aws.control("settle", Some(json!({})));
    let kept = s.kept_there();
    assert_eq!(kept.len(), 1, "{kept:#?}");
    assert_eq!((&kept[0]["kind"], &kept[0]["vault"]), (&json!("recovery-point"), &json!("points")));
    let lines = s.hf.run(&["--json", "doctor", "shop"]).json();
    let line =
        |name: &str| lines["checks"].as_array().expect("checks").iter().find(|l| l["name"] == name).cloned();
    assert_eq!(line("copy.points").expect("copy.points")["status"], "OK", "{lines:#}");
    assert_eq!(line("vault.points").expect("vault.points")["status"], "OK", "{lines:#}");

    std::thread::sleep(Duration::from_millis(2100));
    let at = jiff::Timestamp::now().to_string();
    let args =
        ["--json", "recover", "shop", "--scenario", "malicious-deletion", "--at", &at, "--to-id", "risen"];
    let shown = s.hf.run(&args).ok().json();
    let way = &shown["ways"][0];
    assert_eq!((&way["account"], &way["from"]["vault"]), (&json!(OTHER), &json!("points")), "{shown:#}");
    let done = s.hf.run(&[&args[..], &["--yes", "--way", "1"]].concat()).ok().json();
    assert!(done["restore"]["arn"].as_str().is_some_and(|a| a.contains(&format!(":{OTHER}:"))), "{done:#}");
}
