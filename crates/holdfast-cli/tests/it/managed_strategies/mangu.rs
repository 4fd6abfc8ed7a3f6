//! Mangu: RDS with a copy of every daily snapshot in another region, which is where it comes back.

use super::{DAY, PASSWORD, World, id_of};
use serde_json::{Value, json};

const HOME: &str = "us-east-1";
const AWAY: &str = "us-west-2";
const SOURCE: &str = "mangu-publishing-db-production";
const CONTENT: &str = "create table books(id int primary key, title text); \
    insert into books select g, 'b' || g from generate_series(1, 40) g";

#[test]
fn mangu() {
    let seed = json!({ "region": HOME, "instances": [{ "DBInstanceIdentifier": SOURCE, "age": 10 * DAY,
        "StorageEncrypted": true, "AllocatedStorage": 100 }] });
    let mut w = World::new("strategy-mangu", 0, &[seed]);
    let found = w.customer(&format!(
        "subnets('{HOME}', 'holdfast-verify')\nsubnets('{AWAY}', 'mangu-dr')\n\
         for r in ['{HOME}', '{AWAY}']: secret(r, 'mangu/holdfast-check', '{PASSWORD}')\n\
         out['group'] = group('{AWAY}', 'mangu')\nout['key'] = key('{AWAY}', 'alias/mangu-backup')\n\
         i = instance('{HOME}', '{SOURCE}')\nout['resource'] = i['DbiResourceId']\n\
         out['zone'] = zone('mangu.example.com', 'db.mangu.example.com', i['Endpoint']['Address'])"
    ));
    let text = |k: &str| found[k].as_str().expect("text").to_string();
    let health = w.well();
    w.policy(
        "mangu",
        &[
            ("sg-0123456789abcdef0", &text("group")),
            ("Z1234567890ABC", &text("zone")),
            ("https://mangu.example.com/health", &health),
        ],
        &[("MANGU_RESOURCE_ID", &text("resource")), ("BACKUP_RETENTION_DAYS", "10")],
    );
    let pg = w.postgres(&[SOURCE], "mangu_publishing", CONTENT);
    let _ = w.brought_to_the_policy(&[]);
    let i = w.customer(&format!("out.update(instance('{HOME}', '{SOURCE}'))"));
    assert_eq!(i["BackupRetentionPeriod"], 10, "the variable of the document is heard");

    let newest = id_of(&w.run(0, &["backup", "mangu", "--tier", "daily"]));
    // A fortnight of them; ten days stay, here and there.
    let older = w.older(HOME, SOURCE, &newest, &format!("{SOURCE}-old"), 14, DAY);
    let others = w.others(HOME, SOURCE, &format!("{SOURCE}-2020"));
    let done = w.run(0, &["copy", "mangu"]);
    assert_eq!(done["copies"][0]["report"]["failed"], json!([]), "{done:#}");
    let there = w.snapshots(AWAY);
    assert!((10..=11).contains(&there.len()), "what the target would let go is not sent: {there:?}");
    // X6, X24: with the key of that region.
    let keys = w.customer(&format!(
        "out['keys'] = sorted({{s.get('KmsKeyId') for s in client('rds', \
         '{AWAY}').describe_db_snapshots()['DBSnapshots']}}, key=str)"
    ));
    assert_eq!(keys["keys"], json!([text("key")]), "{keys:#}");

    let _ = w.run(0, &["expire", "mangu", "--apply"]);
    let left = w.snapshots(HOME);
    assert!(others.is_subset(&left) && left.contains(&newest), "{left:?}");
    let ours = left.difference(&others).count();
    assert!((10..=11).contains(&ours), "{left:?}");
    assert!(left.contains(&older[0]) && !left.contains(&older[13]), "{left:?}");
    assert_eq!(w.snapshots(AWAY), there);

    let _ = w.verified("mangu", &[]);
    // X34: what is there can really be restored there.
    let _ = w.verified("mangu", &["--region", AWAY, "--subnet-group", "mangu-dr"]);

    // X34, X42: the region is gone. Nothing there is asked, and what was copied comes back.
    w.goes_down(HOME);
    let asked = w.asked(HOME);
    let args = ["recover", "mangu", "--scenario", "region-loss", "--to-id", "mangu-west", "--yes"];
    let restored = w.run(0, &args);
    assert_eq!(w.asked(HOME), asked, "a region that is lost is not waited for");
    assert_eq!(restored["restore"]["endpoint"]["host"], "localhost", "{restored:#}");
    let copy_of_newest = w.database(AWAY, "mangu-west")["origin"].to_string();
    assert!(copy_of_newest.contains(&newest), "the newest: {copy_of_newest}");
    let made = w.customer(&format!("out.update(instance('{AWAY}', 'mangu-west'))"));
    assert_eq!(made["DBSubnetGroup"]["DBSubnetGroupName"], "mangu-dr", "X17: {made:#}");
    assert_eq!(made["VpcSecurityGroups"][0]["VpcSecurityGroupId"], text("group").as_str());
    assert_eq!(made["DBInstanceClass"], "db.t4g.medium");
    assert_eq!(w.content(&pg, &restored, "mangu_publishing", "select count(*) from books"), "40");

    let cut = ["cutover", "mangu", "--to-id", "mangu-west", "--region", AWAY, "--lost", "--yes"];
    let done = w.run(0, &cut);
    assert_eq!(done["cutover"]["rolled_back"], Value::Null, "{done:#}");
    assert_eq!(w.record("db.mangu.example.com"), "localhost");
    w.comes_back();
    w.nothing_is_left_but(&["us-west-2/mangu-west"]);
}
