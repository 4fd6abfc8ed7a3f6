//! Bibidi: RDS in one region; snapshots every six hours; a loss that the automated backups outlive, and a corruption.

use super::{DAY, PASSWORD, World, id_of};
use serde_json::json;

const HOME: &str = "ca-central-1";
const SOURCE: &str = "production-bibidi-postgres";
const CONTENT: &str = "create table users(id int primary key, name text); \
    insert into users select g, 'u' || g from generate_series(1, 50) g";

fn world(name: &str) -> World {
    let seed = json!({ "region": HOME, "instances": [{ "DBInstanceIdentifier": SOURCE, "age": 10 * DAY,
        "StorageEncrypted": true, "AllocatedStorage": 100, "BackupRetentionPeriod": 1 }] });
    let mut w = World::new(name, 0, &[seed]);
    let found = w.customer(&format!(
        "subnets('{HOME}', 'holdfast-verify')\nsecret('{HOME}', 'bibidi/holdfast-check', '{PASSWORD}')\n\
         i = instance('{HOME}', '{SOURCE}')\nsecret('{HOME}', 'bibidi/database', {{'host': i['Endpoint']['Address'], \
         'port': 5432}})\nout['resource'] = i['DbiResourceId']"
    ));
    let health = w.well();
    let resource = found["resource"].as_str().expect("a resource id");
    w.policy(
        "bibidi",
        &[("https://bibidi.example.com/health", &health)],
        &[("BIBIDI_RESOURCE_ID", resource)],
    );
    w
}

/// Host of the application's secret.
fn host(w: &World) -> String {
    let out = w.customer(&format!(
        "out['host'] = json.loads(client('secretsmanager', '{HOME}').get_secret_value(SecretId='bibidi/database')\
         ['SecretString'])['host']"
    ));
    out["host"].as_str().expect("a host").to_string()
}

#[test]
fn bibidi() {
    let w = world("strategy-bibidi");
    let pg = w.postgres(&[SOURCE], "bibidi", CONTENT);
    let _ = w.brought_to_the_policy(&[]);
    // X14: what the provider has is UTC.
    let i = w.customer(&format!("out.update(instance('{HOME}', '{SOURCE}'))"));
    assert_eq!(
        (&i["BackupRetentionPeriod"], &i["PreferredBackupWindow"]),
        (&json!(7), &json!("08:00-09:00"))
    );
    assert_eq!(i["DeletionProtection"], true);

    // X16, X20: names that are drawn once, and a snapshot that is waited for.
    let manual = id_of(&w.run(0, &["backup", "bibidi", "--note", "before the migration"]));
    assert!(manual.starts_with("bibidi-manual-snapshot-20"), "{manual}");
    let tier = id_of(&w.run(0, &["backup", "bibidi", "--tier", "six-hourly"]));
    assert!(tier.starts_with("bibidi-scheduled-20"), "{tier}");

    // X19: 33 of its own are there, and three of others with such names; 30 of its own stay.
    let others = w.others(HOME, SOURCE, "bibidi-scheduled-2020");
    let older = w.older(HOME, SOURCE, &tier, "bibidi-scheduled-old", 32, 6 * 3600);
    let _ = w.hf.run(&["expire", "bibidi"]).ok().says("3 would be removed");
    let _ = w.run(0, &["expire", "bibidi", "--apply"]);
    let left = w.snapshots(HOME);
    assert_eq!(left.len(), 30 + 1 + 3, "{left:?}");
    assert!(others.is_subset(&left) && left.contains(&manual) && left.contains(&tier), "{left:?}");
    assert!(older[29..].iter().all(|id| !left.contains(id)), "the oldest go: {left:?}");

    // X21, X39: looked into; and an empty table does not pass.
    let done = w.verified("bibidi", &[]);
    assert_eq!(done["verify"]["evidence"]["asked"].as_array().map(Vec::len), Some(1), "{done:#}");

    // X15: the instance is deleted, and its name finds nothing; the automated backups outlived it.
    let _ = w.customer(&format!(
        "rds = client('rds', '{HOME}')\nrds.modify_db_instance(DBInstanceIdentifier='{SOURCE}', \
         DeletionProtection=False, ApplyImmediately=True)\nrds.delete_db_instance(DBInstanceIdentifier='{SOURCE}', \
         SkipFinalSnapshot=True, DeleteAutomatedBackups=False)"
    ));
    w.settle();
    let plan = w.run(0, &["recover", "bibidi", "--scenario", "complete-loss"]);
    let ways = plan["ways"].as_array().expect("ways");
    let n = ways.iter().position(|w| w["from"]["from"] == "automated").expect("the retained backup") + 1;
    let mut args = vec!["recover", "bibidi", "--scenario", "complete-loss", "--to-id", "bibidi-risen"];
    let n = n.to_string();
    args.extend(["--way", &n, "--yes"]);
    let restored = w.run(0, &args);
    assert_eq!(restored["restore"]["endpoint"]["host"], "localhost", "{restored:#}");
    let risen = w.database(HOME, "bibidi-risen");
    assert!(risen["restored_to"].is_string() || risen["restored_to"].is_number(), "{risen:#}");
    assert_eq!(w.content(&pg, &restored, "bibidi", "select count(*) from users"), "50");

    let before = host(&w);
    let refused = w.raw(&["cutover", "bibidi", "--to-id", "bibidi-risen", "--yes"]);
    assert_ne!(refused.code, 0, "that it is lost must be said");
    let done = w.run(0, &["cutover", "bibidi", "--to-id", "bibidi-risen", "--lost", "--yes"]);
    assert_eq!(done["cutover"]["rolled_back"], json!(null), "{done:#}");
    assert_ne!(host(&w), before);
    assert_eq!(host(&w), "localhost");
    w.nothing_is_left_but(&["ca-central-1/bibidi-risen"]);
}

/// The other way: it runs, and what is in it is wrong. The old one goes only after its quarantine, with a final snapshot.
#[test]
fn bibidi_is_corrupted() {
    let w = world("strategy-bibidi-corrupt");
    let _pg = w.postgres(&[SOURCE], "bibidi", CONTENT);
    let at = w.customer(
        "import datetime\nout['at'] = (datetime.datetime.now(datetime.timezone.utc) - \
         datetime.timedelta(hours=1)).strftime('%Y-%m-%dT%H:%M:%SZ')",
    );
    let at = at["at"].as_str().expect("a time");
    // X18: the time of the incident, not "ten minutes ago".
    let args =
        ["recover", "bibidi", "--scenario", "corruption", "--at", at, "--to-id", "bibidi-good", "--yes"];
    let done = w.run(0, &args);
    assert_eq!(done["restore"]["endpoint"]["host"], "localhost", "{done:#}");
    let to = w.database(HOME, "bibidi-good")["restored_to"].clone();
    assert!(!to.is_null());
    let done = w.run(0, &["cutover", "bibidi", "--to-id", "bibidi-good", "--yes"]);
    assert_eq!(done["cutover"]["rolled_back"], json!(null), "{done:#}");
    assert_eq!(host(&w), "localhost");

    // X32: quarantined, and nobody's to delete before its time.
    let old = w.database(HOME, SOURCE);
    assert_eq!(old["tags"]["holdfast:state"], "quarantine", "{old:#}");
    let path = w.path("holdfast.toml");
    let text = std::fs::read_to_string(&path).expect("policy");
    let now = text.replace(&format!("{HOME}/{SOURCE}\""), &format!("{HOME}/bibidi-good\""));
    let now = now.replace("${BIBIDI_RESOURCE_ID:-db-WRITEYOUROWNHERE}", "db-WRITEYOUROWNHERE");
    std::fs::write(&path, now).expect("policy");
    let early = w.raw(&["retire", SOURCE, "--yes"]);
    assert_ne!(early.code, 0, "{}", early.transcript());
    let _ = w.customer(&format!(
        "rds = client('rds', '{HOME}')\nrds.add_tags_to_resource(ResourceName=instance('{HOME}', \
         '{SOURCE}')['DBInstanceArn'], Tags=[{{'Key': 'holdfast:quarantined-until', 'Value': '2020-01-01T00:00:00Z'}}])"
    ));
    let before = w.snapshots(HOME);
    let _ = w.run(0, &["retire", SOURCE, "--yes"]);
    let last: Vec<String> = w.snapshots(HOME).difference(&before).cloned().collect();
    assert!(last.len() == 1 && last[0].starts_with("bibidi-final-20"), "X16: {last:?}");
    assert!(!w.databases().contains(&format!("{HOME}/{SOURCE}")));
    w.nothing_is_left_but(&["ca-central-1/bibidi-good"]);
}
