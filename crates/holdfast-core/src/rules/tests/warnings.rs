//! VW1 to VW10: each fires, and does not.

use super::*;

#[test]
fn vw1_points_are_verified() {
    let every = |e: &str| with(&[("every = \"7d\"", e)]);
    only("VW1", &every("every = \"90d\""), &OFFLINE, &["every 90d only"]);
    only(
        "VW1",
        &with(&[("[policies.p.verify]\nlevel = \"L4\"\nevery = \"7d\"\n", "")]),
        &OFFLINE,
        &["nothing is ever verified"],
    );
    only("VW1", &every("every = \"7d\"\nenabled = false"), &OFFLINE, &["nothing is ever verified"]);
    let reached = |all: &[(VerifyLevel, &str)]| {
        let mut verified = Verified::default();
        all.iter().for_each(|(l, t)| verified.add(*l, t.parse().unwrap()));
        seen(SeenDatabase { verified, ..SeenDatabase::default() })
    };
    let (before, since) = ("2026-11-14T00:00:00Z", "2026-11-21T00:00:00Z");
    only("VW1", GOOD, &reached(&[(VerifyLevel::L4, before)]), &["of L4 was 8d 12h ago"]);
    // A login proves no content: a lower level is told, and does not count.
    only(
        "VW1",
        GOOD,
        &reached(&[(VerifyLevel::L3, since)]),
        &["no verification of L4", "L3 was passed 1d 12h ago"],
    );
    let both = [(VerifyLevel::L4, before), (VerifyLevel::L3, since)];
    only("VW1", GOOD, &reached(&both), &["of L4 was 8d 12h ago", "L3 was passed 1d 12h ago"]);
    silent("VW1", &with(&[("level = \"L4\"", "level = \"L3\"")]), &reached(&[(VerifyLevel::L4, since)]));
    let mut never = seen(SeenDatabase::default());
    never.databases.values_mut().for_each(|s| s.verified = Verified::default());
    fires("VW1", GOOD, &never, &["no verification has succeeded"]);
    // Of what could not be seen nothing is said.
    never.databases.clear();
    silent("VW1", GOOD, &never);
}

#[test]
fn vw2_drills_are_done() {
    let done = |at: &str| SeenDatabase {
        drills: BTreeMap::from([("region".to_string(), at.parse().unwrap())]),
        ..SeenDatabase::default()
    };
    only(
        "VW2",
        GOOD,
        &seen(done("2026-07-05T14:00:00Z")),
        &["drill `region` (region, first sunday of quarter 12:00)", "139d"],
    );
    silent("VW2", GOOD, &seen(done("2026-10-04T14:00:00Z")));
    silent("VW2", GOOD, &OFFLINE);
    let mut never = seen(SeenDatabase::default());
    never.databases.values_mut().for_each(|s| s.drills.clear());
    fires("VW2", GOOD, &never, &["was never done"]);
    never.databases.clear();
    silent("VW2", GOOD, &never);
}

#[test]
fn vw3_the_rto_was_measured() {
    let slow = |s: u64| seen(SeenDatabase { restore_p95: Some(Duration(s)), ..SeenDatabase::default() });
    only("VW3", GOOD, &slow(3_700), &["within 1h", "1h 1m"]);
    silent("VW3", GOOD, &slow(3_600));
    fires("VW3", &with(&[("rpo = \"26h\"", "rpo = \"26h\"\nrto = \"30m\"")]), &slow(3_600), &["within 30m"]);
}

#[test]
fn vw4_not_everything_in_one_place() {
    let lonely = with(&[NO_COPY, NO_REGION]);
    only("VW4", &lonely, &OFFLINE, &["region, account and key"]);
    only("VW4", &with(&[("account = \"210987654321\"\n", "")]), &OFFLINE, &["depend on the account of"]);
    silent("VW4", GOOD, &OFFLINE);
    let native = "version = 1\n[databases.a]\nsource = \"host=/run/postgresql\"\npolicy = \"n\"\n[vaults.local]\nurl = \"file:///v\"\nkey-file = \"k\"\n[policies.n.verify]\nlevel = \"L3\"\nevery = \"7d\"\n";
    only("VW4", native, &OFFLINE, &["one place, vault `local`"]);
    silent("VW4", &format!("{native}[vaults.b]\nurl = \"file:///w\"\nkey-file = \"k\"\n"), &OFFLINE);
}

#[test]
fn vw5_locks_that_can_be_removed() {
    let lock = |l: &str| {
        with(&[(
            "url = \"aws-backup://us-east-1/plan\"",
            &format!("url = \"aws-backup://us-east-1/plan\"\nlock = {l}"),
        )])
    };
    only("VW5", &lock("{ mode = \"governance\", min = \"7d\" }"), &OFFLINE, &["governance"]);
    silent("VW5", &lock("{ mode = \"compliance\", min = \"7d\", grace = \"3d\" }"), &OFFLINE);
}

#[test]
fn vw6_data_lives_as_long_as_it_must() {
    let class = |lines: &str| with(&[("erase-within = \"60d\"", lines)]);
    only("VW6", &class("keep = \"7y\""), &OFFLINE, &["`users` must be kept for 2555d"]);
    only("VW6", &class("keep = \"forever\""), &OFFLINE, &["kept for ever"]);
    silent("VW6", &class("keep = \"29d\""), &OFFLINE);
    only("VW6", &class("erase-within = \"20d\""), &OFFLINE, &["erased within 20d", "keep it for 29d"]);
    silent("VW6", &class("erase-within = \"20d\"\ndocumented = true"), &OFFLINE);
}

#[test]
fn vw7_schedules_mean_what_they_seem_to() {
    let at = |schedule: &str| with(&[("\"0 6 * * *\"", schedule), ("rpo = \"26h\"", "rpo = \"800h\"")]);
    fires("VW7", &at("\"0 6 1-7 * 0\""), &OFFLINE, &["day of the month *or*"]);
    silent("VW7", &at("\"first sunday 06:00\""), &OFFLINE);
    fires(
        "VW7",
        &at("\"30 2 * * *\"\ntimezone = \"Europe/Copenhagen\""),
        &OFFLINE,
        &["2027-03-28 02:30", "skip"],
    );
    fires(
        "VW7",
        &at("\"30 1 * * *\"\ntimezone = \"America/New_York\""),
        &OFFLINE,
        &["2027-11-07 01:30", "twice"],
    );
    silent("VW7", &at("\"30 12 * * *\"\ntimezone = \"Europe/Copenhagen\""), &OFFLINE);
    silent("VW7", &at("\"0 * * * *\"\ntimezone = \"Europe/Copenhagen\""), &OFFLINE);
    fires(
        "VW7",
        &at("\"0 6 * * *\"\ntimezone = \"Europe/Kopenhagen\""),
        &OFFLINE,
        &["not known on this host"],
    );
    let window = |z: &str| {
        with(&[(
            "backup-window = \"03:00-04:00\"",
            &format!("backup-window = \"03:00-04:00\"\ntimezone = \"{z}\""),
        )])
    };
    fires(
        "VW7",
        &window("America/Toronto"),
        &OFFLINE,
        &["08:00-09:00 UTC is 03:00-04:00", "04:00-05:00 in summer"],
    );
    silent("VW7", &window("Asia/Kolkata"), &OFFLINE);
}

#[test]
fn vw8_the_bill_is_the_expected_one() {
    let sized = |b: &str| {
        with(&[("resource-id", &format!("size = \"100GB\"\ndaily-change = \"1GB\"\n{b}resource-id"))])
    };
    let total = |text: &str, o: &Observed| estimate(&parse(text), o, now())[0].total();
    let cost = total(&sized(""), &OFFLINE);
    assert!((15.0..25.0).contains(&cost), "{cost}");
    only("VW8", &sized("budget = 10\n"), &OFFLINE, &["budget is 10"]);
    silent("VW8", &sized("budget = 30\n"), &OFFLINE);
    let last = |c: f64| seen(SeenDatabase { cost_last_month: Some(c), ..SeenDatabase::default() });
    fires("VW8", &sized(""), &last(cost / 1.3), &["30 % more"]);
    silent("VW8", &sized(""), &last(cost / 1.1));
    assert!(estimate(&parse(GOOD), &OFFLINE, now()).is_empty(), "no size, no estimate");
    let seen_size = seen(SeenDatabase { size: Some(200_000_000_000), ..SeenDatabase::default() });
    assert!(total(GOOD, &seen_size) > cost);
    assert!(total(&format!("{}[prices.managed.all]\nrds-backup = 0.19\n", sized("")), &OFFLINE) > cost * 1.5);
}

#[test]
fn vw9_old_versions_go() {
    let bucket = |versioned, noncurrent_expiry| Observed {
        buckets: vec![SeenBucket { name: "exports".into(), versioned, noncurrent_expiry }],
        ..OFFLINE
    };
    only("VW9", GOOD, &bucket(true, false), &["keeps versions"]);
    silent("VW9", GOOD, &bucket(true, true));
    silent("VW9", GOOD, &bucket(false, false));
}

#[test]
fn vw10_nothing_is_ignored_or_filled_in() {
    let replicate = (
        "[policies.p.tiers.daily]",
        "replicate = { to = \"west\", keep = \"7d\" }\n[policies.p.tiers.daily]",
    );
    fires(
        "VW10",
        &with(&[("rds://", "aurora://"), ("\"db-ABC", "\"cluster-ABC"), replicate]),
        &OFFLINE,
        &["`replicate` is for RDS"],
    );
    silent("VW10", &with(&[replicate]), &OFFLINE);
    only(
        "VW10",
        &with(&[("subnet-group = \"dr\"\n", "")]),
        &OFFLINE,
        &["us-west-2 would get the provider's default"],
    );
    only(
        "VW10",
        &with(&[("isolated = { subnet-group = \"verify\" }", "")]),
        &OFFLINE,
        &["no isolated place"],
    );
    let small = with(&[
        ("rds://", "docdb://"),
        ("\"db-ABC", "\"cluster-ABC"),
        ("level = \"L4\"", "level = \"L4\"\nclass = \"db.t3.micro\""),
    ]);
    fires("VW10", &small, &OFFLINE, &["does not run on `db.t3.micro`"]);
    let fixed = with(&[
        ("rds://", "aurora://"),
        ("\"db-ABC", "\"cluster-ABC"),
        ("isolated =", "class = \"db.r6g.large\"\ncapacity = { min = 1, max = 2 }\nisolated ="),
    ]);
    fires("VW10", &fixed, &OFFLINE, &["ignored by instances of a fixed class"]);
}
