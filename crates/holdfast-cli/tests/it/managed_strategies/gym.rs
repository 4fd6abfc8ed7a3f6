//! Gym: RDS and AWS Backup: plans that run by themselves, locked vaults, copies in another region, RDS Proxy.

use super::{DAY, PASSWORD, World, id_of};
use serde_json::{Value, json};

const HOME: &str = "us-west-1";
const AWAY: &str = "us-east-1";
const SOURCE: &str = "prod-gym-app-db";
const VAULT: &str = "prod-gym-app-vault";
const VAULT_DR: &str = "gym-app-vault-dr";
const CONTENT: &str = "create table events(id int primary key, created_at timestamptz); \
    insert into events select g, now() - interval '1 hour' from generate_series(1, 60) g";

fn world(name: &str) -> World {
    let seed = |id: &str| {
        json!({ "region": HOME, "instances": [{ "DBInstanceIdentifier": id, "age": 10 * DAY,
            "StorageEncrypted": true, "BackupRetentionPeriod": 7 }] })
    };
    let mut w = World::new(name, 40, &[seed(SOURCE), seed("somebody-elses")]);
    let found = w.customer(&format!(
        "subnets('{HOME}', 'holdfast-verify')\nsubnets('{AWAY}', 'gym-app-dr')\n\
         for r in ['{HOME}', '{AWAY}']:\n  secret(r, 'gym/holdfast-check', '{PASSWORD}')\n  client('rds', \
         r).create_db_parameter_group(DBParameterGroupName='gym-app-pg16', DBParameterGroupFamily='postgres' + \
         instance('{HOME}', '{SOURCE}')['EngineVersion'].split('.')[0], Description='gym')\n  client('rds', \
         r).create_db_proxy(DBProxyName='prod-gym-app-proxy', EngineFamily='POSTGRESQL', \
         Auth=[{{'AuthScheme': 'SECRETS', 'SecretArn': 'arn:aws:secretsmanager:' + r + ':123456789012:secret:gym'}}], \
         RoleArn='arn:aws:iam::123456789012:role/proxy', VpcSubnetIds=[s['SubnetId'] for s in client('ec2', \
         r).describe_subnets()['Subnets']])\n\
         out['group'] = group('{AWAY}', 'gym')\nout['resource'] = instance('{HOME}', '{SOURCE}')['DbiResourceId']"
    ));
    w.settle();
    let _ = w.customer(&format!(
        "client('rds', '{HOME}').register_db_proxy_targets(DBProxyName='prod-gym-app-proxy', \
         DBInstanceIdentifiers=['{SOURCE}'])"
    ));
    w.settle();
    let text = |k: &str| found[k].as_str().expect("text").to_string();
    let health = w.well();
    w.policy(
        "gym",
        &[("sg-0fedcba9876543210", &text("group")), ("https://api.gym.example.com/health", &health)],
        &[("GYM_RESOURCE_ID", &text("resource"))],
    );
    w
}

/// Instances behind the proxy of a region.
fn targets(w: &World, region: &str) -> Value {
    let found = w.customer(&format!(
        "out['t'] = [t['RdsResourceId'] for t in client('rds', '{region}').describe_db_proxy_targets(\
         DBProxyName='prod-gym-app-proxy')['Targets']]"
    ));
    found["t"].clone()
}

#[test]
fn gym() {
    let w = world("strategy-gym");
    let pg = w.postgres(&[SOURCE], "gymapp", CONTENT);
    // X8: locks that nobody can take back are named, or they are not made.
    let _ = w.run(0, &["plan"]);
    let _ = w.brought_to_the_policy(&["primary", "dr"]);
    let locks = w.customer(&format!(
        "for r, v in [('{HOME}', '{VAULT}'), ('{AWAY}', '{VAULT_DR}')]:\n  d = client('backup', \
         r).describe_backup_vault(BackupVaultName=v)\n  out[v] = [d.get('Locked'), d.get('LockDate') is not None, \
         d.get('MinRetentionDays'), d.get('MaxRetentionDays')]"
    ));
    for vault in [VAULT, VAULT_DR] {
        assert_eq!(locks[vault], json!([true, true, 30, 366]), "{locks:#}");
    }

    // Somebody else's points lie in the same vault.
    let other =
        json!({ "region": HOME, "points": { "source": "somebody-elses", "vault": VAULT, "count": 2 } });
    let _ = w.aws.control("seed", Some(other));
    let others = w.points(HOME, VAULT);
    assert_eq!(others.len(), 2);

    // Forty days of the plan, which AWS Backup runs and clears away by age.
    for _ in 0..40 {
        w.advance(DAY);
        w.settle();
    }
    w.to_the_present();
    w.settle();
    let here = w.points(HOME, VAULT);
    // 30 daily, 6 weekly, one or two monthly ones.
    let ours = here.difference(&others).count();
    assert!((35..=40).contains(&ours), "{ours}");
    assert!(others.is_subset(&here), "{here:?}");
    // X10: the daily and the monthly ones are there as well, and the weekly ones are not.
    let away = w.points(AWAY, VAULT_DR);
    assert!((30..=34).contains(&away.len()), "{}", away.len());
    let list = w.run(0, &["list", "gym"]);
    let kept = list["managed"]["databases"][0]["kept"].as_array().expect("kept");
    let copies = kept.iter().filter(|k| k["region"] == AWAY).count();
    assert_eq!(copies, away.len(), "{copies}");

    // One more on demand, for the same tier and under the same lock; a snapshot by hand.
    let point = id_of(&w.run(0, &["backup", "gym", "--tier", "daily"]));
    assert!(w.points(HOME, VAULT).contains(&point));
    let manual = id_of(&w.run(0, &["backup", "gym", "--note", "before v2"]));
    assert!(w.snapshots(HOME).contains(&manual));
    // Nothing that AWS Backup keeps is expired by anybody else.
    let _ = w.run(0, &["expire", "gym", "--apply"]);
    assert!(w.points(HOME, VAULT).contains(&point) && w.snapshots(HOME).contains(&manual));

    let _ = w.verified("gym", &[]);
    let _ = w.verified("gym", &["--from-point", &point]);

    // X34: the region is gone; its copies come back in the other, behind the proxy of that region.
    w.goes_down(HOME);
    let restored = w.run(0, &["recover", "gym", "--scenario", "region-loss", "--to-id", "gym-east", "--yes"]);
    assert_eq!(restored["restore"]["endpoint"]["host"], "localhost", "{restored:#}");
    let made = w.customer(&format!("out.update(instance('{AWAY}', 'gym-east'))"));
    assert_eq!(made["DBSubnetGroup"]["DBSubnetGroupName"], "gym-app-dr", "X17: {made:#}");
    assert_eq!(made["DBParameterGroups"][0]["DBParameterGroupName"], "gym-app-pg16");
    let cut = ["cutover", "gym", "--to-id", "gym-east", "--region", AWAY, "--lost", "--yes"];
    let done = w.run(0, &cut);
    assert_eq!(done["cutover"]["rolled_back"], Value::Null, "{done:#}");
    assert_eq!(targets(&w, AWAY), json!(["gym-east"]));
    assert_eq!(w.content(&pg, &restored, "gymapp", "select count(*) from events"), "60");
    w.comes_back();
    w.nothing_is_left_but(&["us-east-1/gym-east"]);
}

/// Somebody with rights deletes the database, its backups and its snapshots. The locked vault he cannot empty.
#[test]
fn gym_is_deleted_by_somebody_with_rights() {
    let w = world("strategy-gym-malicious");
    let _pg = w.postgres(&[SOURCE], "gymapp", CONTENT);
    let _ = w.run(0, &["apply", "--yes", "--confirm-lock", "primary", "--confirm-lock", "dr"]);
    for _ in 0..9 {
        w.advance(DAY);
        w.settle();
    }
    let manual = id_of(&w.run(0, &["backup", "gym", "--note", "before v2"]));
    w.to_the_present();
    w.settle();
    let there = w.points(HOME, VAULT);
    let done = w.customer(&format!(
        "rds, backup = client('rds', '{HOME}'), client('backup', '{HOME}')\n\
         rds.modify_db_instance(DBInstanceIdentifier='{SOURCE}', DeletionProtection=False, ApplyImmediately=True)\n\
         rds.delete_db_snapshot(DBSnapshotIdentifier='{manual}')\n\
         rds.delete_db_instance(DBInstanceIdentifier='{SOURCE}', SkipFinalSnapshot=True, \
         DeleteAutomatedBackups=True)\n\
         out['refused'] = 0\n\
         def refused(call, **how):\n\
         \x20   try: call(**how)\n\
         \x20   except Exception: out['refused'] += 1\n\
         for p in backup.list_recovery_points_by_backup_vault(BackupVaultName='{VAULT}')['RecoveryPoints']:\n\
         \x20   refused(backup.delete_recovery_point, BackupVaultName='{VAULT}', \
         RecoveryPointArn=p['RecoveryPointArn'])\n\
         refused(backup.delete_backup_vault_lock_configuration, BackupVaultName='{VAULT}')"
    ));
    w.settle();
    assert_eq!(done["refused"], json!(there.len() + 1), "X8: the lock holds");
    assert_eq!(w.points(HOME, VAULT), there);
    let at = "2020-01-01T00:00:00Z";
    let none = w.raw(&["recover", "gym", "--scenario", "malicious-deletion", "--at", at]);
    assert_eq!(none.code, 10, "nothing is so old: {}", none.transcript());
    let at = w.customer(
        "import datetime\nout['at'] = datetime.datetime.now(datetime.timezone.utc).strftime('%Y-%m-%dT%H:%M:%SZ')",
    );
    let at = at["at"].as_str().expect("a time");
    let args = [
        "recover",
        "gym",
        "--scenario",
        "malicious-deletion",
        "--at",
        at,
        "--to-id",
        "gym-back",
        "--region",
        HOME,
        "--yes",
    ];
    let done = w.run(0, &args);
    assert_eq!(done["ways"][0]["lock"], "compliance", "{done:#}");
    assert_eq!(done["restore"]["endpoint"]["host"], "localhost", "{done:#}");
    // X9: the proxy leads to it, under its own name.
    let done = w.run(0, &["cutover", "gym", "--to-id", "gym-back", "--lost", "--yes"]);
    assert_eq!(done["cutover"]["rolled_back"], Value::Null, "{done:#}");
    assert_eq!(targets(&w, HOME), json!(["gym-back"]));
    w.nothing_is_left_but(&["us-west-1/gym-back"]);
}
