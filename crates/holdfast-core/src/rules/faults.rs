//! The faults of the strategies (X1 to X43), as far as a policy can contain them: each is refused or warned of.

use super::tests::{GOOD, found, parse, with};
use super::*;
use std::path::Path;

/// What is said of `text`: the mistakes of its form, else what the rules find.
fn said(text: &str) -> Vec<String> {
    match Policy::parse(text, Path::new("/etc/holdfast/holdfast.toml")) {
        Ok(_) => found(text, &Observed::default()),
        Err(e) => e
            .problems
            .iter()
            .map(|p| format!("form {} {} ({})", p.line, p.message, p.hint.as_deref().unwrap_or("")))
            .collect(),
    }
}

fn alarm(lines: &str) -> String {
    let topic = "actions = [\"arn:aws:sns:us-east-1:123456789012:t\"]";
    format!("{GOOD}[databases.shop.alarms.a]\n{lines}\n{topic}\n")
}

fn aurora(text: &str) -> String {
    text.replace("rds://", "aurora://")
        .replace("\"db-ABC", "\"cluster-ABC")
        .replace("account = \"210987654321\"\n", "")
}

fn docdb(text: &str) -> String {
    aurora(text).replace("aurora://", "docdb://")
}

const COPY: &str = "[policies.p.copies.west]\nto = \"west\"\nkeep = { daily = 7 }\n";
const DAILY: &str = "schedule = \"0 6 * * *\"\nkeep = { daily = 30 }";

#[test]
fn every_fault_that_a_policy_can_contain_is_caught() {
    let plan = |lines: &str| {
        with(&[(DAILY, lines), (COPY, ""), ("[policies.p.objectives.region]\nrpo = \"26h\"\n", "")])
    };
    let sized = "size = \"100GB\"\ndaily-change = \"5GB\"\nbudget = 1\nresource-id";
    let class = |lines: &str| with(&[("erase-within = \"60d\"", lines)]);
    let cases: Vec<(&str, String, &str)> = vec![
        (
            "X1",
            alarm(
                "metric = \"BackupRetentionPeriodStorageUsed\"\ndimensions = [\"DBInstanceIdentifier\"]\nbelow = \"1GB\"",
            ),
            "VE13 45 alarm `a`: AWS/RDS has no `BackupRetentionPeriodStorageUsed` for RDS: no data, it never fires",
        ),
        (
            "X2",
            aurora(&alarm(
                "metric = \"DatabaseConnections\"\ndimensions = [\"DBClusterIdentifier\"]\nbelow = 0",
            )),
            "`DatabaseConnections` is never below 0: it can never fire",
        ),
        (
            "X3 unit",
            aurora(&alarm(
                "metric = \"TotalBackupStorageBilled\"\ndimensions = [\"DBClusterIdentifier\"]\nabove = 2000",
            )),
            "`TotalBackupStorageBilled` counts bytes, and the threshold is 2000 of them",
        ),
        (
            "X3 dimension",
            aurora(&alarm("metric = \"TotalBackupStorageBilled\"\nabove = \"2000GB\"")),
            "`TotalBackupStorageBilled` is published by DBClusterIdentifier only",
        ),
        (
            "X3 namespace",
            docdb(&alarm(
                "namespace = \"AWS/RDS\"\nmetric = \"TotalBackupStorageBilled\"\ndimensions = [\"DBClusterIdentifier\"]\nabove = \"2000GB\"",
            )),
            "AWS/RDS has no `TotalBackupStorageBilled` for DocumentDB",
        ),
        (
            "X4",
            alarm(
                "metric = \"DatabaseConnections\"\ndimensions = [\"DBInstanceIdentifier\"]\ndetects = \"size\"\nabove = 10",
            ),
            "`DatabaseConnections` tells of load, not of size",
        ),
        (
            "X5",
            alarm(
                "namespace = \"AWS/Backup\"\nmetric = \"NumberOfBackupJobsFailed\"\ndimensions = [\"BackupVaultName\"]\ndetects = \"backup-failure\"\nabove = 0",
            ),
            "does not see a job that never ran",
        ),
        (
            "X6",
            plan(
                "schedule = \"0 6 * * 0\"\nvaults = [\"plan\"]\nkeep = { window = \"90d\" }\ncold-after = \"30d\"",
            ),
            "goes to cold storage after 30d and is deleted after 90d; deletion must come at least 90d after the move, after 120d",
        ),
        (
            "X7",
            plan(
                "schedule = \"0 6 1 * *\"\nvaults = [\"plan\"]\nkeep = { window = \"365d\" }\ncold-after = \"60d\"",
            ),
            "wants cold storage, and RDS has none: the provider ignores it and bills the warm price",
        ),
        (
            "X8",
            with(&[(
                "us-east-1/plan\"",
                "us-east-1/plan\"\nlock = { mode = \"compliance\", min = \"30d\", max = \"365d\" }",
            )]),
            "a lock without `grace` is governance: whoever has the right can remove it",
        ),
        (
            "X8 as it was",
            with(&[(
                "us-east-1/plan\"",
                "us-east-1/plan\"\nlock = { mode = \"governance\", min = \"30d\", max = \"365d\" }",
            )]),
            "the lock is governance: whoever has the right removes it",
        ),
        (
            "X9",
            format!("{GOOD}[[databases.shop.cutover]]\nproxy = \"p\"\nnew-name = \"x\"\n"),
            "unknown key `new-name`",
        ),
        (
            "X10 ARN",
            with(&[(
                "snapshots://us-west-2",
                "arn:aws:backup:us-west-2:123456789012:vault/gym-app-vault-dr",
            )]),
            "the ARN of a vault is `arn:aws:backup:REGION:ACCOUNT:backup-vault:NAME`",
        ),
        (
            "X10 RPO",
            with(&[(
                "[policies.p.copies.west]",
                "[policies.p.tiers.monthly]\nschedule = \"0 8 1 * *\"\nkeep = { monthly = 12 }\n[policies.p.copies.west]\nof = [\"monthly\"]",
            )]),
            "of `region` at most 26h may be lost, and snapshots of copy `west` in us-west-2 may lose 31d 1h 30m",
        ),
        ("X12", with(&[("resource-id", sized)]), "dollars a month, and the budget is 1"),
        (
            "X14",
            with(&[(
                "backup-window = \"03:00-04:00\"",
                "backup-window = \"03:00-04:00\"\ntimezone = \"America/Toronto\"",
            )]),
            "the provider keeps windows in UTC: 08:00-09:00 UTC is 03:00-04:00 by the clock of America/Toronto in winter and 04:00-05:00 in summer",
        ),
        (
            "X15",
            with(&[("resource-id = \"db-ABCDEFGHIJKLMNOPQRSTUVWXYZ\"\n", "")]),
            "of `loss` at most 5m may be lost, and snapshots of tier `daily` in us-east-1 may lose 1d 30m",
        ),
        (
            "X15 DocumentDB",
            docdb(GOOD),
            "of `loss` at most 5m may be lost, and snapshots of tier `daily` in us-east-1 may lose 1d 30m",
        ),
        (
            "X16",
            with(&[("rto = \"1h\"", "final-snapshot = false")]),
            "a deletion would leave no final snapshot",
        ),
        (
            "X17",
            with(&[("subnet-group = \"dr\"\nsecurity-groups = [\"sg-2\"]\n", "")]),
            "a restore in us-west-2 would get the provider's default network and security group",
        ),
        (
            "X19",
            with(&[("keep = { daily = 30 }", "keep = { last = 101 }")]),
            "101 manual snapshots will stand there, and the quota is 100",
        ),
        (
            "X20",
            with(&[("rto = \"1h\"", "restore-id = \"test-restore-%Y%m%d\"")]),
            "two names of different seconds would be the same",
        ),
        (
            "X21",
            format!(
                "{GOOD}[databases.shop.connect]\nuser = \"u\"\npassword-env = \"P\"\n[databases.shop.checks.c]\nsql = \"select count(*) from users\"\n"
            ),
            "this check accepts anything",
        ),
        (
            "X23",
            with(&[("\"0 6 * * *\"", "\"0 3 * * *\"")]),
            "tier `daily` runs in the backup window 03:00-04:00 UTC",
        ),
        (
            "X23 drill",
            with(&[("quarter 12:00", "quarter 03:00")]),
            "drill `region` runs in the backup window",
        ),
        (
            "X24",
            with(&[("keep = { daily = 7 }", "keep = { daily = 7 }\ncold-after = \"30d\"")]),
            "wants cold storage, and RDS has none",
        ),
        (
            "X24 compression",
            with(&[("[vaults.west]", "[vaults.west]\ncompression = \"zstd\"")]),
            "`compression` is for vaults that holdfast writes",
        ),
        (
            "X26",
            with(&[(
                "[policies.p.pitr]\nkeep = \"14d\"\nbackup-window = \"03:00-04:00\"\nmaintenance-window = \"sun:04:00-sun:05:00\"\n",
                "",
            )]),
            "of `deletion` at most 5m may be lost, and snapshots of tier `daily` in us-east-1 may lose 1d 30m",
        ),
        (
            "X28",
            plan(
                "schedule = \"0 6 * * *\"\nvaults = [\"plan\"]\nkeep = { window = \"30d\" }\ncold-after = \"90d\"",
            ),
            "is deleted after 30d, before it would move to cold storage after 90d",
        ),
        (
            "X31",
            with(&[(
                "isolated = { subnet-group = \"verify\" }",
                "isolated = { subnet-group = \"v\", security-groups = [\"sg-1\"] }",
            )]),
            "the security group sg-1 is production's",
        ),
        (
            "X34",
            with(&[(COPY, "")]),
            "of `region` at most 26h may be lost, and there is nothing outside of us-east-1 to restore from",
        ),
        (
            "X35 kept",
            class("keep = \"7y\""),
            "must be kept for 2555d, and no backup reaches back further than",
        ),
        ("X35 erased", class("erase-within = \"15d\""), "must be erased within 15d, and backups keep it for"),
        (
            "X36",
            with(&[("keep = { daily = 7 }", "keep = { daily = 7 }\nvault-policy = \"CopyFromBackupVault\"")]),
            "unknown key `vault-policy`",
        ),
        (
            "X37",
            aurora(&with(&[(
                "security-groups = [\"sg-2\"]",
                "security-groups = [\"sg-2\"]\nengine-mode = \"serverless\"",
            )])),
            "unknown key `engine-mode`",
        ),
        (
            "X37 capacity",
            aurora(&with(&[(
                "security-groups = [\"sg-2\"]",
                "security-groups = [\"sg-2\"]\nclass = \"db.r6g.large\"\ncapacity = { min = 0.5, max = 16 }",
            )])),
            "`capacity` is ignored by instances of a fixed class",
        ),
        (
            "X41",
            docdb(&with(&[("kms-key = \"alias/backup\"\n", "")])),
            "takes an encrypted source to us-west-2 without a key of that region",
        ),
        (
            "X42",
            with(&[("rpo = \"26h\"", "rpo = \"5m\"")]),
            "of `region` at most 5m may be lost, and snapshots of copy `west` in us-west-2 may lose 1d 1h 30m",
        ),
        ("X43", class("erase-within = \"10d\""), "must be erased within 10d"),
    ];
    for (fault, text, want) in &cases {
        let all = said(text);
        assert!(all.iter().any(|s| s.contains(want)), "{fault}: {want}\n{all:#?}");
    }
    // None of it is said of a policy in order.
    assert!(said(GOOD).is_empty());
}

/// VE14 and VW3 need to look.
#[test]
fn faults_that_only_show_when_looked_at() {
    let seen = |s: SeenDatabase| Observed {
        looked: true,
        databases: [("shop".parse().unwrap(), s)].into(),
        ..Observed::default()
    };
    let nameless = with(&[("resource-id = \"db-ABCDEFGHIJKLMNOPQRSTUVWXYZ\"\n", "")]);
    let gone = seen(SeenDatabase { exists: Some(false), ..SeenDatabase::default() });
    let x15 = check(&parse(&nameless), &gone, super::tests::now());
    assert!(x15.iter().any(|f| f.rule == "VE14" && f.message.contains("is gone")), "{x15:#?}");
    let slow =
        seen(SeenDatabase { restore_p95: Some(crate::time::Duration(2 * 3_600)), ..SeenDatabase::default() });
    let x22 = check(&parse(GOOD), &slow, super::tests::now());
    assert!(x22.iter().any(|f| f.rule == "VW3" && f.message.contains("2h")), "{x22:#?}");
}
