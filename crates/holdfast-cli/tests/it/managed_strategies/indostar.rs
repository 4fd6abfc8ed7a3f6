//! IndoStar: RDS whose automated backups are replicated, and an application on Kubernetes.

use super::{DAY, PASSWORD, World, id_of};
use holdfast_testkit::K8s;
use serde_json::{Value, json};

const HOME: &str = "us-east-1";
const AWAY: &str = "us-west-2";
const SOURCE: &str = "indostar-production";
const CONTENT: &str = "create table orders(id int primary key, created_at timestamptz); \
    insert into orders select g, now() - interval '1 hour' from generate_series(1, 30) g";

#[test]
fn indostar() {
    let seed = json!({ "region": HOME, "instances": [{ "DBInstanceIdentifier": SOURCE, "age": 10 * DAY,
        "StorageEncrypted": true, "AllocatedStorage": 100, "MultiAZ": true }] });
    let mut w = World::new("strategy-indostar", 3, &[seed]);
    let found = w.customer(&format!(
        "subnets('{HOME}', 'holdfast-verify')\nsubnets('{AWAY}', 'indostar-dr')\n\
         out['group'] = group('{AWAY}', 'indostar')\nout['key'] = key('{AWAY}', 'alias/indostar-backup')\n\
         i = instance('{HOME}', '{SOURCE}')\nout['resource'] = i['DbiResourceId']\n\
         out['host'] = i['Endpoint']['Address']\n\
         out['zone'] = zone('indostarnaturals.com', 'db.indostarnaturals.com', out['host'])"
    ));
    let text = |k: &str| found[k].as_str().expect("text").to_string();
    let health = w.well();
    w.policy(
        "indostar",
        &[
            ("sg-0123456789abcdef0", &text("group")),
            ("Z1234567890ABC", &text("zone")),
            ("https://api.indostarnaturals.com/health", &health),
        ],
        &[("INDOSTAR_RESOURCE_ID", &text("resource")), ("INDOSTAR_CHECK_PASSWORD", PASSWORD)],
    );
    let pg = w.postgres(&[SOURCE], "indostar_naturals", CONTENT);
    let k8s = K8s::start(&w.scratch);
    let _ = k8s.control(
        "seed",
        Some(
            json!({ "kind": "Deployment", "namespace": "indostar-naturals", "name": "backend", "replicas": 1,
            "env": { "app": { "DATABASE_HOST": text("host"), "PORT": "8080" } } }),
        ),
    );
    w.hf = w.hf.clone().envs(k8s.env());

    // X26: automated backups are kept, and replicated: that is what brings any second back.
    let _ = w.brought_to_the_policy(&[]);
    let replicas = w.customer(&format!(
        "out['n'] = [b['Status'] for b in client('rds', \
         '{AWAY}').describe_db_instance_automated_backups()['DBInstanceAutomatedBackups']]"
    ));
    assert_eq!(replicas["n"].as_array().map(Vec::len), Some(1), "{replicas:#}");

    let daily = id_of(&w.run(0, &["backup", "indostar", "--tier", "daily"]));
    let done = w.run(0, &["copy", "indostar"]);
    assert_eq!(done["copies"][0]["report"]["arrived"].as_array().map(Vec::len), Some(1), "{done:#}");
    assert_eq!(w.snapshots(AWAY).len(), 1);
    // X27, X28: a month of days, and one of each month before; whatever the names say.
    let older = w.older(HOME, SOURCE, &daily, "a-indostar", 70, DAY);
    let others = w.others(HOME, SOURCE, "indostar-production-daily");
    w.to_the_present();
    let _ = w.run(0, &["expire", "indostar", "--apply"]);
    let left = w.snapshots(HOME);
    let ours = left.difference(&others).count();
    assert!((31..=34).contains(&ours), "30 days and the months: {ours} {left:?}");
    assert!(others.is_subset(&left) && left.contains(&daily) && left.contains(&older[27]), "{left:?}");
    assert!(w.snapshots(AWAY).contains(&daily));

    let _ = w.verified("indostar", &[]);

    // The region is gone. Its snapshot is three days old; the replicated backups reach to the last minutes.
    w.goes_down(HOME);
    let args = ["recover", "indostar", "--scenario", "region-loss", "--to-id", "indostar-west", "--yes"];
    let restored = w.run(0, &args);
    assert_eq!(restored["ways"][0]["from"]["from"], "automated", "{restored:#}");
    assert_eq!(restored["restore"]["endpoint"]["host"], "localhost", "{restored:#}");
    assert!(!w.database(AWAY, "indostar-west")["restored_to"].is_null());
    let made = w.customer(&format!("out.update(instance('{AWAY}', 'indostar-west'))"));
    assert_eq!(made["DBSubnetGroup"]["DBSubnetGroupName"], "indostar-dr", "X17: {made:#}");
    assert_eq!(w.content(&pg, &restored, "indostar_naturals", "select count(*) from orders"), "30");

    let cut = ["cutover", "indostar", "--to-id", "indostar-west", "--region", AWAY, "--lost", "--yes"];
    let done = w.run(0, &cut);
    assert_eq!(done["cutover"]["rolled_back"], Value::Null, "{done:#}");
    assert_eq!(w.record("db.indostarnaturals.com"), "localhost");
    let pods = k8s.control("state", None).to_string();
    assert!(pods.contains("localhost") && !pods.contains(&text("host")), "{pods}");
    w.comes_back();
    w.nothing_is_left_but(&["us-west-2/indostar-west"]);
}
