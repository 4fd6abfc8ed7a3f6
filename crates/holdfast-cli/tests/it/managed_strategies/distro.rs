//! Distro Nation: Aurora Serverless v2 under AWS Backup, and DocumentDB under snapshots, each with copies in the west.

use super::{DAY, PASSWORD, World, id_of};
use crate::tls::issue;
use holdfast_testkit::DocumentServer;
use serde_json::{Value, json};
use std::os::unix::fs::PermissionsExt;

const HOME: &str = "us-east-1";
const AWAY: &str = "us-west-2";
const AURORA: &str = "database-2";
const DOCUMENTS: &str = "your-docdb-cluster";
const VAULT: &str = "distro-nation";
const CONTENT: &str = "create table users(id int primary key); insert into users select generate_series(1, 20); \
    create table payouts(id int primary key, created_at timestamptz); \
    insert into payouts select g, now() - interval '2 hours' from generate_series(1, 20) g; \
    create table audit_log(id int primary key, created_at timestamptz); \
    insert into audit_log select g, now() - interval '1 hour' from generate_series(1, 20) g";

fn world(name: &str, days: u64) -> World {
    let seed = json!({ "region": HOME, "clusters": [
        { "DBClusterIdentifier": AURORA, "Engine": "aurora-postgresql", "age": 10 * DAY, "members": 1,
          "StorageEncrypted": true, "ServerlessV2ScalingConfiguration": { "MinCapacity": 0.5, "MaxCapacity": 16.0 } },
        { "DBClusterIdentifier": DOCUMENTS, "Engine": "docdb", "age": 10 * DAY, "members": 1,
          "StorageEncrypted": true },
    ] });
    let mut w = World::new(name, days, &[seed]);
    let program = w.scratch.write(
        "point-lambda",
        "#!/bin/sh\necho \"$1 $HOLDFAST_NEW_ENDPOINT\" >> \"$(dirname \"$0\")/moves\"\n",
    );
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).expect("chmod");
    let found = w.customer(&format!(
        "subnets('{HOME}', 'holdfast-verify')\nsubnets('{AWAY}', 'distro-dr', 'distro-docs-dr')\n\
         for r in ['{HOME}', '{AWAY}']:\n  secret(r, 'distro/holdfast-check', '{PASSWORD}')\n  secret(r, \
         'distro/docdb-check', '{PASSWORD}')\n  secret(r, 'distro/documents', {{'host': 'old'}})\n\
         a = cluster('{HOME}', '{AURORA}')\n\
         client('rds', '{AWAY}').create_db_cluster_parameter_group(DBClusterParameterGroupName='distro-aurora-pg15', \
         DBParameterGroupFamily='aurora-postgresql' + a['EngineVersion'].split('.')[0], Description='distro')\n\
         out['group'] = group('{AWAY}', 'distro')\nout['key'] = key('{AWAY}', 'alias/distro-backup')\n\
         out['resource'] = a['DbClusterResourceId']\n\
         out['zone'] = zone('distro.example.com', 'db.distro.example.com', a['Endpoint'])"
    ));
    let text = |k: &str| found[k].as_str().expect("text").to_string();
    w.policy(
        "distro-nation",
        &[
            ("sg-0123456789abcdef0", &text("group")),
            ("Z1234567890ABC", &text("zone")),
            ("/usr/local/bin/distro-point-lambda", &program.display().to_string()),
        ],
        &[("AURORA_RESOURCE_ID", &text("resource"))],
    );
    w
}

#[test]
fn distro_aurora() {
    let w = world("strategy-distro-aurora", 10);
    let pg = w.postgres(&[AURORA], "distro", CONTENT);
    let _ = w.brought_to_the_policy(&["aws-backup-west"]);
    // Ten days of the plan: seven points stay here and there, by age.
    for _ in 0..10 {
        w.advance(DAY);
        w.settle();
    }
    w.to_the_present();
    w.settle();
    let (here, there) = (w.points(HOME, VAULT), w.points(AWAY, VAULT));
    assert!(
        (6..=8).contains(&here.len()) && (6..=8).contains(&there.len()),
        "{} {}",
        here.len(),
        there.len()
    );

    // X38: the snapshot before a change: one command with a note, which ends when it is there.
    let manual = id_of(&w.run(0, &["backup", "aurora", "--note", "v2 schema"]));
    assert!(manual.starts_with("pre-maintenance-v2-schema-20"), "{manual}");
    let others = w.others(HOME, AURORA, "pre-maintenance");
    let _ = w.run(0, &["expire", "aurora", "--apply"]);
    let left = w.snapshots(HOME);
    assert!(left.contains(&manual) && others.is_subset(&left), "{left:?}");
    assert_eq!(w.points(HOME, VAULT), here, "what AWS Backup keeps goes by age alone");

    // X39, X40: a cluster with an instance, asked with count(*), and gone afterwards.
    let done = w.verified("aurora", &[]);
    assert_eq!(done["verify"]["evidence"]["asked"].as_array().map(Vec::len), Some(3), "{done:#}");

    // X37: the region is gone; a cluster of Serverless v2 with its instance comes back in the other.
    w.goes_down(HOME);
    let args = ["recover", "aurora", "--scenario", "region-loss", "--to-id", "database-west", "--yes"];
    let restored = w.run(0, &args);
    assert_eq!(restored["restore"]["endpoint"]["host"], "localhost", "{restored:#}");
    let c = w.customer(&format!("out.update(cluster('{AWAY}', 'database-west'))"));
    assert_eq!(c["ServerlessV2ScalingConfiguration"]["MinCapacity"], json!(2.0), "{c:#}");
    assert_eq!(c["EngineMode"], "provisioned");
    assert_eq!(
        (&c["DBSubnetGroup"], &c["DBClusterParameterGroup"]),
        (&json!("distro-dr"), &json!("distro-aurora-pg15"))
    );
    assert_eq!(c["DBClusterMembers"].as_array().map(Vec::len), Some(1), "{c:#}");
    assert_eq!(w.content(&pg, &restored, "distro", "select count(*) from users"), "20");

    let cut = ["cutover", "aurora", "--to-id", "database-west", "--region", AWAY, "--lost", "--yes"];
    let done = w.run(0, &cut);
    assert_eq!(done["cutover"]["rolled_back"], Value::Null, "{done:#}");
    assert_eq!(w.record("db.distro.example.com"), "localhost");
    let moves = std::fs::read_to_string(w.path("moves")).expect("the program ran");
    assert_eq!(moves, "new localhost\n");
    w.comes_back();
    w.nothing_is_left_but(&["us-west-2/database-west", "us-west-2/database-west-1"]);
}

#[test]
fn distro_documents() {
    let w = world("strategy-distro-documents", 0);
    let (crt, key) = issue(&w.scratch, &w.issuer, "server", "localhost");
    let root = w.path("root.crt");
    let server = DocumentServer::start(&w.scratch, (&crt, &key, &root), "holdfast_check", PASSWORD);
    // X41: more than a first batch.
    let _ = server.script(
        "c.distro.users.insert_many([{'n': i, 'createdAt': now} for i in range(250)])\n\
         c.distro.payouts.insert_many([{'n': i, 'createdAt': now} for i in range(150)])",
    );
    w.answers(DOCUMENTS, server.port());
    let _ = w.brought_to_the_policy(&["aws-backup-west"]);

    let daily = id_of(&w.run(0, &["backup", "documents", "--tier", "daily"]));
    let six = id_of(&w.run(0, &["backup", "documents", "--tier", "six-hourly"]));
    let old_daily = w.older(HOME, DOCUMENTS, &daily, "docs-daily", 3, DAY);
    let old_six = w.older(HOME, DOCUMENTS, &six, "docs-six", 10, 6 * 3600);
    let others = w.others(HOME, DOCUMENTS, "docs-daily");
    let done = w.run(0, &["copy", "documents"]);
    assert_eq!(done["copies"][0]["report"]["failed"], json!([]), "{done:#}");
    let there = w.snapshots(AWAY);
    assert!(there.len() == 4 && there.contains(&daily), "the daily ones only: {there:?}");
    let _ = w.run(0, &["expire", "documents", "--apply"]);
    let left = w.snapshots(HOME);
    let mut want: std::collections::BTreeSet<String> = others;
    want.extend([daily.clone(), six.clone(), old_daily[0].clone()]);
    want.extend(old_six[..7].iter().cloned());
    assert_eq!(left, want, "two daily, eight six-hourly ones, and everybody else's");
    assert_eq!(w.snapshots(AWAY), there);

    let done = w.verified("documents", &[]);
    assert!(done.to_string().contains("250"), "{done:#}");

    // X15: with the cluster its automated backups are gone. What is left are snapshots, here and there.
    let _ = w.customer(&format!(
        "rds = client('docdb', '{HOME}')\nrds.modify_db_cluster(DBClusterIdentifier='{DOCUMENTS}', \
         DeletionProtection=False, ApplyImmediately=True)\n\
         rds.delete_db_instance(DBInstanceIdentifier='{DOCUMENTS}-1')\n\
         rds.delete_db_cluster(DBClusterIdentifier='{DOCUMENTS}', SkipFinalSnapshot=True)"
    ));
    w.settle();
    let args = ["recover", "documents", "--scenario", "complete-loss", "--to-id", "docs-risen", "--yes"];
    let done = w.run(0, &args);
    assert_eq!(done["ways"][0]["from"]["from"], "snapshot", "{done:#}");
    assert_eq!(done["restore"]["endpoint"]["host"], "localhost", "{done:#}");
    let c = w.customer(&format!("out.update(client('docdb', '{HOME}').describe_db_clusters(DBClusterIdentifier='docs-risen')['DBClusters'][0])"));
    assert_eq!(c["DBClusterMembers"].as_array().map(Vec::len), Some(1), "X41: with an instance: {c:#}");
    let done = w.run(0, &["cutover", "documents", "--to-id", "docs-risen", "--lost", "--yes"]);
    assert_eq!(done["cutover"]["rolled_back"], Value::Null, "{done:#}");
    let secret = w.customer(&format!(
        "out.update(json.loads(client('secretsmanager', '{HOME}').get_secret_value(SecretId='distro/documents')['SecretString']))"
    ));
    assert_eq!(secret["host"], "localhost");

    // And in the other region, where a copy is.
    w.goes_down(HOME);
    let args = ["recover", "documents", "--scenario", "region-loss", "--to-id", "docs-west", "--yes"];
    let done = w.run(0, &args);
    assert_eq!(done["ways"][0]["region"], AWAY, "{done:#}");
    let c = w.customer(&format!("out.update(client('docdb', '{AWAY}').describe_db_clusters(DBClusterIdentifier='docs-west')['DBClusters'][0])"));
    assert_eq!(
        (&c["DBSubnetGroup"], c["DBClusterMembers"].as_array().map(Vec::len)),
        (&json!("distro-docs-dr"), Some(1))
    );
    w.comes_back();
    w.nothing_is_left_but(&[
        "us-east-1/docs-risen",
        "us-east-1/docs-risen-1",
        "us-west-2/docs-west",
        "us-west-2/docs-west-1",
    ]);
}
