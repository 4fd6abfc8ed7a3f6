use super::*;
use crate::size::ByteSize;
use crate::time::Duration;

fn parse(text: &str) -> Result<Policy, PolicyError> {
    Policy::parse(text, Path::new("/etc/holdfast/holdfast.toml"))
}

/// What a refused text displays as, without the file's name.
fn refused(text: &str) -> Vec<String> {
    let shown = parse(text).unwrap_err().to_string();
    shown.lines().map(|l| l.strip_prefix("/etc/holdfast/holdfast.toml:").unwrap().to_string()).collect()
}

fn hints(text: &str) -> Vec<String> {
    parse(text).unwrap_err().problems.into_iter().map(|p| p.hint.unwrap_or_default()).collect()
}

/// The example of SETTLED.md, plus the vault `dr` that it names in `copies` but leaves out.
const SETTLED: &str = r#"version = 1
[databases.orders]
source = "postgresql:///?host=/run/postgresql&port=5432&user=postgres"   # or rds://us-east-1/shop
policy = "standard"
[vaults.local]
url = "file:///var/lib/holdfast/vault"      # or s3://bucket/prefix?region=…
key-file = "/etc/holdfast/vault.key"
[vaults.dr]
url = "s3://bucket/prefix?region=eu-west-1"
key-file = "dr.key"
[policies.standard]
rpo = "5m"
rto = "15m"
wal = { keep = "30d", required = "any" }
[policies.standard.tiers.daily]
schedule = "0 3 * * *"                      # with timezone = "UTC" by default
kind = "incremental"
vaults = ["local"]
keep = { last = 7, daily = 30, weekly = 13, monthly = 12, window = "30d", at-least = 2 }
[policies.standard.copies.dr]
to = "dr"
keep = { monthly = 12 }
[policies.standard.verify]
level = "L3"
every = "7d"
"#;

/// The smallest policy that backs something up.
const SMALL: &str = r#"version = 1
[databases.a]
source = "host=/run/postgresql"
policy = "p"
[vaults.local]
url = "file:///v"
key-file = "k"
[policies.p]
"#;

/// `SMALL` with one line replaced.
fn small_with(line: &str, by: &str) -> String {
    assert!(SMALL.contains(line), "{line}");
    SMALL.replace(line, by)
}

#[test]
fn the_example_resolves() {
    let p = parse(SETTLED).unwrap();
    let orders = &p.databases[&"orders".parse().unwrap()];
    assert!(matches!(&orders.source, Source::Postgres { conninfo } if conninfo.ends_with("user=postgres")));
    assert_eq!(orders.vaults(), ["local", "dr"], "where backups go, then where copies go");
    assert_eq!((orders.data_directory.as_ref(), orders.members.len()), (None, 0));
    let plan = p.plan_of(orders).unwrap();
    assert_eq!((plan.rpo, plan.rto), (Some(Duration(300)), Some(Duration(900))));
    assert_eq!(plan.wal, WalPolicy { keep: Some(Duration(30 * 86_400)), required: Required::Any });
    let daily = &plan.tiers["daily"];
    assert_eq!((daily.schedule.as_str(), daily.timezone.as_str()), ("0 3 * * *", "UTC"));
    assert_eq!(daily.kind, Kind::Incremental);
    let keep = Keep { last: 7, daily: 30, weekly: 13, monthly: 12, at_least: 2, ..Keep::default() };
    assert_eq!(daily.keep, Keep { window: Some(Duration(30 * 86_400)), ..keep });
    assert_eq!(plan.copies["dr"].to, "dr");
    assert_eq!(plan.copies["dr"].keep, Keep { monthly: 12, ..Keep::default() });
    assert_eq!(plan.verify, Some(Verify { level: VerifyLevel::L3, every: Duration(7 * 86_400) }));
    let dr = &p.vaults["dr"];
    assert_eq!((dr.url.as_str(), dr.options["region"].as_str()), ("s3://bucket/prefix", "eu-west-1"));
    assert_eq!(dr.key_file.as_deref(), Some(Path::new("/etc/holdfast/dr.key")), "joined to the folder");
    assert_eq!(p.vaults_of(orders).map(|v| v.name.as_str()).collect::<Vec<_>>(), ["local", "dr"]);
}

#[test]
fn defaults_are_filled_in() {
    let p = parse(SMALL).unwrap();
    assert_eq!(p.state_dir, None);
    assert_eq!(p.state_dir(), Path::new("/etc/holdfast/state"));
    assert_eq!(p.tuning, Tuning::default());
    assert_eq!(p.tuning.archive_timeout, Duration(600));
    let v = &p.vaults["local"];
    assert_eq!(v.compression, Compression::Zstd { level: 1 });
    assert_eq!(v.wal_compression, Compression::Zstd { level: 1 });
    assert_eq!((v.frame_size, v.pack_size), (ByteSize(256 << 10), ByteSize(128 << 20)));
    assert!(v.options.is_empty() && v.passphrase_file.is_none());
    let plan = &p.policies["p"];
    assert_eq!(*plan, Plan::default());
    assert_eq!(p.databases.values().next().unwrap().vaults(), ["local"], "no tiers: all vaults");
}

#[test]
fn every_other_key_is_read() {
    let p = parse(
        r#"
version = 1
state-dir = "../state"
[databases."a.b"]
source = "service=shop"
policy = "p"
data-directory = "/data"
bin-dir = "bin"
members = ["db1", "db2"]
[vaults.v]
url = "s3://b"
passphrase-file = "pass"
compression = "zstd:3"
wal-compression = "lz4"
frame-size = "1MiB"
pack-size = 67108864
options = { Endpoint = "http://127.0.0.1:9000", allow_http = true, retries = 3 }
[vaults.w]
url = "gs://b/c"
key-file = "k"
[policies.p.wal]
required = 2
[policies.p.tiers.t]
schedule = "*/5 0-6 1,15 * MON-FRI"
timezone = "Europe/Copenhagen"
kind = "full"
keep = { window = "1d 12h" }
[tuning]
workers = 3
rate = "50MiB/s"
nice = -5
archive-timeout = "90s"
"#,
    )
    .unwrap();
    let db = p.databases.values().next().unwrap();
    assert_eq!(db.source, Source::Postgres { conninfo: "service=shop".into() });
    assert_eq!(db.data_directory.as_deref(), Some(Path::new("/data")));
    assert_eq!(db.bin_dir.as_deref(), Some(Path::new("/etc/holdfast/bin")));
    assert_eq!(db.members, ["db1", "db2"]);
    assert_eq!(db.vaults(), ["v", "w"], "a tier without vaults goes to all");
    assert_eq!(p.state_dir(), Path::new("/etc/holdfast/../state"));
    let v = &p.vaults["v"];
    assert_eq!((v.compression, v.wal_compression), (Compression::Zstd { level: 3 }, Compression::Lz4));
    assert_eq!((v.frame_size, v.pack_size), (ByteSize(1 << 20), ByteSize(64 << 20)));
    let options: Vec<(&str, &str)> = v.options.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
    assert_eq!(options, [("allow-http", "true"), ("endpoint", "http://127.0.0.1:9000"), ("retries", "3")]);
    let plan = &p.policies["p"];
    assert_eq!(plan.wal.required, Required::Count(2));
    let tier = &plan.tiers["t"];
    assert_eq!((tier.kind, tier.timezone.as_str()), (Kind::Full, "Europe/Copenhagen"));
    assert_eq!(tier.keep.window, Some(Duration(36 * 3600)));
    let tuning = Tuning {
        workers: Some(3),
        rate: Some(ByteSize(50 << 20)),
        nice: Some(-5),
        archive_timeout: Duration(90),
    };
    assert_eq!(p.tuning, tuning);
}

#[test]
fn unknown_keys_are_placed_and_guessed_at() {
    let t = small_with("key-file", "kee-file");
    assert_eq!(
        refused(&t),
        ["7:1: unknown key `kee-file` in [vaults.local]"],
        "and not also `key-file` is missing"
    );
    assert_eq!(hints(&t), ["Did you mean `key-file`?"]);
    let t = small_with("[vaults.local]", "[vault.local]");
    assert_eq!(refused(&t), ["5:2: unknown key `vault`"], "and not also a missing vault");
    assert_eq!(hints(&t), ["Did you mean `vaults`?"]);
    let t = format!("{SMALL}encryption = false\n");
    assert_eq!(refused(&t), ["9:1: unknown key `encryption` in [policies.p]"]);
    let hint = hints(&t).remove(0);
    assert!(
        hint.starts_with("The keys known here are `rpo`, `rto`, `wal`, `tiers`, `copies`, `verify`, "),
        "{hint}"
    );
    let t = SETTLED.replace("at-least", "at_least");
    assert_eq!(refused(&t), ["19:75: unknown key `at_least` in [policies.standard.tiers.daily.keep]"]);
}

#[test]
fn unknown_names_are_placed_and_guessed_at() {
    let t = SETTLED.replace(r#"["local"]"#, r#"["local", "locla"]"#);
    assert_eq!(refused(&t), ["18:20: there is no vault `locla`"]);
    assert_eq!(hints(&t), ["Did you mean `local`?"]);
    let t = SETTLED.replace("to = \"dr\"", "to = \"elsewhere\"");
    assert_eq!(refused(&t), ["21:6: there is no vault `elsewhere`"]);
    assert_eq!(hints(&t), ["There is `dr` and `local`; or add a `[vaults.elsewhere]` section."]);
    let t = SETTLED.replace("policy = \"standard\"", "policy = \"gold\"");
    assert_eq!(refused(&t), ["4:10: there is no policy `gold`"]);
}

#[test]
fn values_are_checked_where_they_stand() {
    let cases = [
        (r#"rpo = "5m""#, r#"rpo = "5 parsecs""#, "12:7: `5 parsecs` is not a span of time"),
        (r#"rpo = "5m""#, r#"rpo = 300"#, "12:7: `300` has no unit"),
        (r#"rpo = "5m""#, r#"rpo = "0s""#, "12:7: `0s` is no time at all"),
        (r#"rpo = "5m""#, r#"rpo = "999999d""#, "12:7: `999999d` is more than a century"),
        (r#"rpo = "5m""#, r#"rpo = [1]"#, "12:7: `rpo` takes a string or a number, not a list"),
        (r#"rpo = "5m""#, r#"rpo.x = 1"#, "12:1: `rpo` takes a string or a number, not a table"),
        (r#"keep = "30d", r"#, r#"keep = "x", r"#, "14:16: `x` is not a span of time"),
        (
            r#"required = "any""#,
            r#"required = "some""#,
            "14:34: `some` does not say how many vaults are required",
        ),
        (r#"required = "any""#, "required = 0", "14:34: `0` does not say how many vaults are required"),
        (
            r#"required = "any""#,
            "required = 3",
            "14:34: 3 vaults are required for WAL, but this policy uses 2",
        ),
        (r#""0 3 * * *""#, r#""0 3 * *""#, "16:12: `0 3 * *` has 4 fields, a cron schedule has 5"),
        (r#""0 3 * * *""#, r#""0 3 * * !""#, "16:12: `0 3 * * !` is not a cron schedule: `!` is not a value"),
        (
            r#""incremental""#,
            r#""differential""#,
            "17:8: `differential` is not one of `full` and `incremental`",
        ),
        (r#"["local"]"#, "[]", "18:10: this tier goes to no vault"),
        (r#"["local"]"#, r#""local""#, "18:10: `vaults` takes a list, not text"),
        (r#"["local"]"#, r#"["local", 3]"#, "18:20: `vaults` takes a string, not integer `3`"),
        (r#"at-least = 2"#, "at-least = 0", "19:86: `at-least` cannot be 0"),
        ("{ monthly = 12 }", "{}", "22:8: this `keep` keeps nothing"),
        ("{ monthly = 12 }", "{ at-least = 3 }", "22:8: this `keep` keeps nothing"),
        ("{ monthly = 12 }", "{ tags = [] }", "22:8: this `keep` keeps nothing"),
        ("{ monthly = 12 }", "{ tags = [\"\"] }", "22:18: `` names no tag"),
        ("{ monthly = 12 }", "{ tags = [\"=prod\"] }", "22:18: `=prod` names no tag"),
        (
            "{ monthly = 12 }",
            "{ tags = [\"keep-until\"] }",
            "22:18: `keep-until` is a tag with a meaning of its own",
        ),
        ("{ monthly = 12 }", "{ tags = \"release\" }", "22:17: `tags` takes a list, not text"),
        (
            "{ monthly = 12 }",
            "{ monthly = -1 }",
            "22:20: `monthly` takes a number from 0 to 4294967295, not integer `-1`",
        ),
        ("\"L3\"", "\"L9\"", "24:9: `L9` is not one of `L1`, `L2`, `L3`, `L4` and `L5`"),
        ("every = \"7d\"\n", "", "23:1: `every` is missing in [policies.standard.verify]"),
        ("version = 1\n", "#\n", "1:1: `version` is missing"),
        ("databases.orders", "databases.\"../x\"", "2:12: `../x` is not a valid database name"),
        ("vaults.dr", "vaults.\"d r\"", "8:9: `d r` is not a valid vault name"),
        ("file:///var", "ftp://h/var", "6:7: `ftp://` is not a kind of vault"),
        ("\"s3://bucket", "\"s3://me:hunter2@bucket", "9:7: credentials do not belong in the policy file"),
        (
            "?region=eu-west-1",
            "?secret_access_key=hunter2",
            "9:7: option `secret-access-key` does not belong in the policy file",
        ),
        ("key-file = \"dr.key\"\n", "", "8:9: `key-file` is missing in [vaults.dr]"),
        ("\"dr.key\"", "\"~/dr.key\"", "10:12: `~/dr.key` is not expanded here as a shell would"),
        (
            "s3://bucket/prefix?region=eu-west-1",
            "file:///var/lib/holdfast/vault/",
            "6:7: vaults `dr` and `local` are the same place",
        ),
        (
            "user=postgres\"",
            "user=postgres&password=hunter2\"",
            "3:10: a password does not belong in the policy file",
        ),
        (
            "postgresql:///?",
            "postgresql://me:hunter2@h/?",
            "3:10: a password does not belong in the policy file",
        ),
    ];
    for (from, to, expected) in cases {
        assert!(SETTLED.contains(from), "{from}");
        let text = SETTLED.replacen(from, to, 1);
        let shown = refused(&text);
        let known = match to {
            // Renaming a vault also loses the copy that names it.
            "vaults.\"d r\"" => &shown[..1],
            _ => &shown[..],
        };
        assert_eq!(known, [expected], "{to}");
        let error = format!("{:?}", parse(&text));
        assert!(!error.contains("hunter2"), "{error}");
    }
}

#[test]
fn vault_and_tuning_numbers_have_limits() {
    for (line, message) in [
        ("frame-size = 100000", "8:14: `frame-size` cannot be 100000"),
        ("frame-size = '32KiB'", "8:14: `frame-size` cannot be 32KiB"),
        ("frame-size = '8MiB'", "8:14: `frame-size` cannot be 8MiB"),
        ("frame-size = true", "8:14: `true` is not a size"),
        ("pack-size = '128KiB'", "8:13: `pack-size` cannot be 128KiB"),
        ("pack-size = '5GiB'", "8:13: `pack-size` cannot be 5GiB"),
        ("pack-size = 'big'", "8:13: `big` is not a size"),
        ("compression = 'gzip'", "8:15: `gzip` is not a compression"),
        ("options.password = 'hunter2'", "8:9: option `password` does not belong in the policy file"),
        ("[tuning]\nworkers = 0", "9:11: `workers` is from 1 to 256, not 0"),
        ("[tuning]\nrate = 0", "9:8: `rate` cannot be 0"),
        ("[tuning]\nnice = 20", "9:8: `nice` is from -20 to 19, not 20"),
        ("[tuning]\narchive-timeout = '1'", "9:19: `1` is not a span of time"),
    ] {
        let t = small_with("[policies.p]", &format!("{line}\n[policies.p]"));
        assert_eq!(refused(&t).first().map(String::as_str), Some(message), "{line}");
        assert!(!format!("{:?}", parse(&t)).contains("hunter2"));
    }
}

#[test]
fn tags_pick_by_key_or_by_value() {
    let t =
        SETTLED.replace("{ monthly = 12 }", "{ tags = [\"release\", \"env=prod\", \"q=a=b\", \"release\"] }");
    let keep = parse(&t).unwrap().policies["standard"].copies["dr"].keep.clone();
    assert_eq!(
        keep.tags.iter().map(ToString::to_string).collect::<Vec<_>>(),
        ["release", "env=prod", "q=a=b"]
    );
    assert!(!keep.keeps_nothing());
    let on = |key: &str, value: &str| {
        let tags = BTreeMap::from([(key.to_string(), value.to_string())]);
        keep.tags.iter().map(|r| r.matches(&tags)).collect::<Vec<_>>()
    };
    assert_eq!(on("release", ""), [true, false, false]);
    assert_eq!(on("release", "18.1"), [true, false, false]);
    assert_eq!(on("env", "prod"), [false, true, false]);
    assert_eq!(on("env", "production"), [false, false, false]);
    assert_eq!(on("q", "a=b"), [false, false, true]);
}

#[test]
fn all_problems_are_reported_in_order() {
    let t = r#"version = 1
stat-dir = "x"
[databases.a]
source = "mysql://me:hunter2@h/"
policy = 7
[databases.b]
[vaults.v]
url = "file:///v"
key-file = "k"
compresion = "lz4"
[policies.p]
rpo = "soon"
[policies.p.tiers.t]
schedule = "daily"
"#;
    assert_eq!(
        refused(t),
        [
            "2:1: unknown key `stat-dir`",
            "4:10: `mysql://` is not a kind of source",
            "5:10: `policy` takes a string, not integer `7`",
            "6:12: `source` is missing in [databases.b]",
            "6:12: `policy` is missing in [databases.b]",
            "10:1: unknown key `compresion` in [vaults.v]",
            "12:7: `soon` is not a span of time",
            "13:19: `keep` is missing in [policies.p.tiers.t]",
            "14:12: `daily` has 1 field, a cron schedule has 5",
        ]
    );
    assert_eq!(parse(t).unwrap_err().hint(), Some("Did you mean `state-dir`?"));
}

#[test]
fn a_section_of_the_wrong_shape_is_one_problem() {
    assert_eq!(
        refused("version = 1\ndatabases = 'postgres://me:hunter2@h'\n"),
        ["2:13: `databases` takes a table, not text"]
    );
    assert_eq!(refused("version = 1\n[[vaults]]\nurl = 'x'\n"), ["2:1: `vaults` takes a table, not a list"]);
    let t = small_with("[databases.a]", "[databases.a]\nmembers = 'db1'");
    assert_eq!(refused(&t), ["3:11: `members` takes a list, not text"]);
    let t = small_with("version = 1", "version = '1'");
    assert_eq!(refused(&t), ["1:11: `version` takes a whole number, not text"]);
}

#[test]
fn syntax_errors_have_a_place() {
    let shown = refused("version = 1\n[vaults.local\nurl = 3\n");
    assert!(shown[0].starts_with("2:14: "), "{shown:?}");
    let shown = refused("version = 1\n\n[a]\nx = \"hunter2\n");
    assert!(shown[0].starts_with("4:") && !shown[0].contains("hunter2"), "{shown:?}");
    let shown = refused("version = 1\nversion = 1\n");
    assert_eq!(shown, ["2:1: duplicate key"]);
    assert_eq!(
        hints("version = 1\nversion = 1\n"),
        ["Keep one of them: a key or section may stand only once."]
    );
    assert!(!refused("\u{0}").is_empty());
}

#[test]
fn another_version_is_the_only_problem() {
    assert_eq!(
        refused("version = 2\nfuture = true\n"),
        ["1:11: version 2 of the policy file is not known here"]
    );
    assert_eq!(refused(""), ["1:1: `version` is missing"]);
}

#[test]
fn columns_count_characters() {
    let t = small_with("[policies.p]", "[policies.p]\nwal = { keep = \"é\", required = \"ü\" }");
    assert_eq!(
        refused(&t),
        ["9:16: `é` is not a span of time", "9:32: `ü` does not say how many vaults are required"]
    );
    assert_eq!(refused(&t.replace('\n', "\r\n")), refused(&t));
}

fn database<'a>(name: &'a DatabaseName) -> NewDatabase<'a> {
    NewDatabase {
        name,
        source: "postgresql:///?host=/run/postgresql&user=postgres",
        policy: None,
        data_directory: Some("/var/lib/postgresql/18/main"),
        bin_dir: None,
    }
}

#[test]
fn a_new_policy_is_a_sound_one() {
    let name: DatabaseName = "or.ders".parse().unwrap();
    let text = render_new(&NewPolicy {
        database: database(&name),
        vault_name: "local",
        vault_url: "file:///var/lib/holdfast/va\"ult",
        key_file: "/etc/holdfast/va'ult.key",
        state_dir: None,
    });
    let p = parse(&text).unwrap();
    let db = &p.databases[&name];
    assert_eq!(db.data_directory.as_deref(), Some(Path::new("/var/lib/postgresql/18/main")));
    assert_eq!((db.policy.as_str(), db.vaults()), ("standard", &["local".to_string()][..]));
    assert_eq!(p.vaults["local"].key_file.as_deref(), Some(Path::new("/etc/holdfast/va'ult.key")));
    // The same objectives as the example.
    let example = parse(SETTLED).unwrap().policies.remove("standard").unwrap();
    assert_eq!(p.policies["standard"], Plan { copies: BTreeMap::new(), ..example });
    assert!(text.lines().all(|l| l.len() <= 110), "{text}");
}

#[test]
fn a_database_is_added_and_nothing_else_changes() {
    let origin = Path::new("/etc/holdfast/holdfast.toml");
    let name: DatabaseName = "b".parse().unwrap();
    for before in [
        SMALL.to_string(),
        SMALL.trim_end().to_string(),
        format!("{SMALL}# end"),
        SMALL.replace('\n', "\r\n"),
    ] {
        let after = add_database(&before, origin, &database(&name), &|_| None).unwrap();
        assert!(after.starts_with(&before));
        assert_eq!(after.contains("\r\n"), before.contains("\r\n"));
        assert_eq!(after.matches("\r\n").count() % after.matches('\n').count(), 0, "{after:?}");
        let p = parse(&after).unwrap();
        assert_eq!(p.databases.len(), 2);
        assert_eq!(p.databases[&name].policy, "p", "the only one there is");
        let again = add_database(&after, origin, &database(&name), &|_| None).unwrap_err();
        assert!(again.to_string().ends_with(": database `b` is already here"), "{again}");
    }
    let p = small_with("[policies.p]", "[policies.p]\n[policies.q]");
    let e = add_database(&p, origin, &database(&name), &|_| None).unwrap_err();
    assert!(e.to_string().contains("which policy"), "{e}");
    assert!(
        add_database(&p, origin, &NewDatabase { policy: Some("q"), ..database(&name) }, &|_| None).is_ok()
    );
    let inline = "version = 1\ndatabases = {}\nvaults = {v = {url = 'file:///v', key-file = 'k'}}\npolicies = {p = {}}\n";
    assert!(add_database(inline, origin, &database(&name), &|_| None).is_err());
    let secret = NewDatabase { source: "host=h password=hunter2", ..database(&name) };
    let e = add_database(SMALL, origin, &secret, &|_| None).unwrap_err();
    assert!(!format!("{e:?}").contains("hunter2"));
}

#[test]
fn the_guide_names_every_key_and_its_example_is_sound() {
    let guide = concat!(
        include_str!("../../../../docs/guide/policy.md"),
        include_str!("../../../../docs/guide/managed.md")
    );
    let example = guide.split("```toml\n").nth(1).and_then(|t| t.split("```").next()).unwrap();
    parse(example).unwrap();
    // serde lists the keys of a section when it meets one that it does not know.
    for section in [
        "x=1",
        "databases.d.x=1",
        "vaults.v.x=1",
        "vaults.v.lock.x=1",
        "policies.p.x=1",
        "policies.p.wal.x=1",
        "tuning.x=1",
        "policies.p.tiers.t.x=1",
        "policies.p.tiers.t.keep.x=1",
        "policies.p.copies.c.x=1",
        "policies.p.verify.x=1",
        "prices.x=1",
        "prices.s3.x=1",
        "prices.s3.retrieval.glacier.bulk.x=1",
        "policies.p.pitr.x=1",
        "policies.p.pitr.replicate.x=1",
        "policies.p.objectives.x=1",
        "policies.p.objectives.region.x=1",
        "policies.p.drills.d.x=1",
        "policies.p.data.d.x=1",
        "databases.d.connect.x=1",
        "databases.d.checks.c.x=1",
        "databases.d.places.p.x=1",
        "databases.d.places.p.capacity.x=1",
        "databases.d.places.p.isolated.x=1",
        "databases.d.alarms.a.x=1",
        "[[databases.d.cutover]]\nx=1",
    ] {
        let text = format!("version = 1\n{section}\n");
        let reading = file::read(&text, &|_| None);
        let hint = reading.mistakes[0].hint.clone().unwrap();
        assert!(hint.starts_with("The keys known here are"), "{hint}");
        for key in hint.split('`').skip(1).step_by(2) {
            let named = guide.contains(&format!("`{key}`"))
                || guide.contains(&format!("[{key}"))
                || guide.contains(&format!(".{key}"));
            assert!(named, "`{key}` is not in the guide");
        }
    }
}

#[test]
fn locks_are_for_s3() {
    let with = |url: &str, lock: &str| {
        let text = SETTLED.replacen(
            "url = \"file:///var/lib/holdfast/vault\"",
            &format!("url = \"{url}\"\nlock = {lock}"),
            1,
        );
        assert!(text.contains("lock = "), "{text}");
        parse(&text)
    };
    let good = with("s3://b/p", "{ mode = \"compliance\", for = \"30d\" }").unwrap();
    let lock = good.vaults["local"].lock.unwrap();
    assert_eq!((lock.mode, lock.period), (LockMode::Compliance, Duration(30 * 86_400)));
    for (url, lock) in [
        ("file:///v", "{ mode = \"governance\", for = \"30d\" }"),
        ("s3://b/p", "{ for = \"30d\" }"),
        ("s3://b/p", "{ mode = \"governance\" }"),
        ("s3://b/p", "{ mode = \"soft\", for = \"30d\" }"),
    ] {
        assert!(with(url, lock).is_err(), "{url} {lock}");
    }
}

#[test]
fn storage_classes_are_for_s3() {
    let with = |url: &str, class: &str| {
        let text = SETTLED.replacen(
            "url = \"file:///var/lib/holdfast/vault\"",
            &format!("url = \"{url}\"\nstorage-class = \"{class}\""),
            1,
        );
        assert!(text.contains("storage-class"), "{text}");
        parse(&text)
    };
    let good = with("s3://b/p", "standard-ia").unwrap();
    assert_eq!(good.vaults["local"].storage_class, Some(StorageClass::StandardIa));
    assert_eq!(good.vaults["dr"].storage_class, None);
    for (url, class, hint) in [
        ("file:///v", "standard-ia", "other stores"),
        ("gs://b/p", "standard-ia", "other stores"),
        ("az://b/p", "glacier-ir", "other stores"),
        ("s3://b/p", "standard-aa", "Did you mean `standard-ia`?"),
        ("s3://b/p", "cold", "`deep-archive`"),
    ] {
        let e = with(url, class).unwrap_err();
        let p = &e.problems[0];
        assert_eq!(p.line, 7, "{p}");
        assert!(p.hint.as_ref().unwrap().contains(hint), "{p:?}");
    }
}

#[test]
fn cold_vaults_take_copies_only() {
    let with = |tier: &str| {
        let cold = "[vaults.cold]\nurl = \"s3://b/c\"\nkey-file = \"k\"\nstorage-class = \"deep-archive\"\n";
        let copies = "[policies.standard.copies.cold]\nto = \"cold\"\nkeep = { yearly = 7 }\n";
        SETTLED.replacen("vaults = [\"local\"]\n", tier, 1) + cold + copies
    };
    let vaults = |p: &Policy| p.databases[&"orders".parse().unwrap()].vaults().to_vec();
    // Who names no vaults means those that backups can go to.
    let p = parse(&with("")).unwrap();
    assert!(p.vaults["cold"].is_cold() && !p.vaults["dr"].is_cold());
    assert_eq!(vaults(&p), ["dr", "local", "cold"]);
    assert_eq!(p.policies["standard"].tiers["daily"].vaults, ["dr", "local"]);
    let bad = with("vaults = [\"local\", \"cold\"]\n");
    let (shown, hint) = (refused(&bad), hints(&bad));
    assert!(shown.len() == 1 && shown[0].starts_with("18:20: vault `cold` is cold"), "{shown:?}");
    assert!(hint[0].contains("[policies.standard.copies.cold]"), "{hint:?}");
    // Without tiers a database uses all that backups can go to, and none that is cold unasked.
    let class = "key-file = \"k\"\nstorage-class = \"glacier\"\n";
    let cold =
        SMALL.replace("url = \"file:///v\"", "url = \"s3://b/v\"").replace("key-file = \"k\"\n", class);
    assert!(refused(&cold)[0].contains("there is no vault for this database"), "{:?}", refused(&cold));
    let two = format!("{cold}[vaults.z]\nurl = \"file:///z\"\nkey-file = \"k\"\n");
    assert_eq!(parse(&two).unwrap().databases.values().next().unwrap().vaults(), ["z"]);
}

#[test]
fn no_damage_panics_or_loses_its_place() {
    let lines = SETTLED.lines().count();
    let check = |text: &str| {
        if let Err(e) = parse(text) {
            assert!(!e.problems.is_empty());
            for p in e.problems {
                assert!((1..=lines + 1).contains(&p.line) && p.column >= 1, "{p}\n{text}");
                assert!(!p.message.is_empty() && !p.message.contains('\n'), "{p}");
            }
        }
    };
    for (i, c) in SETTLED.char_indices() {
        check(&SETTLED[..i]);
        let rest = &SETTLED[i + c.len_utf8()..];
        for by in ["", "\"", "[", "=", "é", "1", "\n"] {
            // A new line would move the end of the file.
            if by != "\n" || c == '\n' {
                check(&format!("{}{by}{rest}", &SETTLED[..i]));
            }
        }
    }
    for skip in 0..lines {
        let kept: Vec<&str> =
            SETTLED.lines().enumerate().filter(|(i, _)| *i != skip).map(|(_, l)| l).collect();
        check(&kept.join("\n"));
    }
}

#[test]
fn an_option_may_stand_in_one_place_only() {
    let t = SETTLED.replace("key-file = \"dr.key\"", "key-file = \"dr.key\"\noptions.Region = \"x\"");
    assert_eq!(refused(&t), ["11:9: option `region` is given twice"]);
}

#[test]
fn the_example_to_the_letter_lacks_only_its_second_vault() {
    let start = SETTLED.find("[vaults.dr]").unwrap();
    let end = SETTLED.find("[policies.standard]").unwrap();
    let t = format!("{}{}", &SETTLED[..start], &SETTLED[end..]);
    assert_eq!(refused(&t), ["18:6: there is no vault `dr`"]);
}

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
    use managed::*;
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
    assert_eq!(m.cutover[0].to, Move::Proxy { name: "shop-proxy".into(), target_group: "default".into() });
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
fn limits_and_prices_can_be_overridden() {
    let with = |lines: &str| format!("{SMALL}{lines}\n");
    let p = parse(&with("[limits]\nmanual-snapshots = 300\npitr-lag = \"1m\"\n[prices.managed.us-west-1]\nrds-backup = 0.105\n[prices.managed.all]\ntransfer = 1")).unwrap();
    assert_eq!(p.limits.get(crate::limits::Limit::ManualSnapshots), 300);
    assert_eq!(p.limits.span(crate::limits::Limit::PitrLag), Duration(60));
    assert_eq!(p.prices.managed.get(crate::prices::Price::RdsBackup, "us-west-1"), 0.105);
    assert_eq!(p.prices.managed.get(crate::prices::Price::Transfer, "us-west-1"), 1.0);
    for (lines, message) in [
        ("[limits]\nmanual-snapshot = 1", "10:1: there is no limit `manual-snapshot`"),
        ("[limits]\nmanual-snapshots = \"many\"", "10:20: `many` is no value for `manual-snapshots`"),
        ("[limits]\npitr-lag = 5", "10:12: `5` is no value for `pitr-lag`"),
        ("[prices.managed.all]\nrds-bakcup = 1", "10:1: there is no price `rds-bakcup`"),
        ("[prices.managed.all]\nrds-backup = -1", "10:14: this is not a price"),
        ("[prices.managed.all]\nrds-backup = \"1\"", "10:14: `rds-backup` takes a number, not text"),
    ] {
        assert_eq!(refused(&with(lines)), [message]);
    }
}

#[test]
fn variables_have_a_place_and_are_no_secrets() {
    let lookup = |n: &str| (n == "HOST").then(|| "/run/postgresql".to_string());
    let with = |v: &str| {
        let t = small_with("host=/run/postgresql", v);
        Policy::parse_with(&t, Path::new("/etc/holdfast/holdfast.toml"), &lookup)
    };
    let p = with("host=${HOST} port=${PORT:-5433}").unwrap();
    assert_eq!(p.databases.values().next().unwrap().source.to_string(), "host=/run/postgresql port=5433");
    for (v, says) in [
        ("host=${NOWHERE}", "3:10: the variable `NOWHERE` is not set"),
        ("host=${HOST} password=${DB_PASSWORD}", "3:10: `DB_PASSWORD` looks like a secret"),
        ("host=${HOST} password=${PW:-hunter2}", "3:10: a password does not belong in the policy file"),
    ] {
        let e = with(v).unwrap_err();
        assert!(e.to_string().contains(says) && !format!("{e:?}").contains("hunter2"), "{v}: {e}");
    }
    // Without an environment defaults count.
    assert!(parse(&small_with("host=/run/postgresql", "host=${HOST}")).is_err());
}
