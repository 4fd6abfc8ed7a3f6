//! A second opinion: the verbs against plain moto, which is not ours and more lenient.
//!
//! What moto lacks is not here: AWS Backup's jobs and points, replicated backups, windows that refuse a moment.

use crate::managed::boto;
use holdfast_testkit::{Aws, Holdfast, Scratch};
use serde_json::{Value, json};

const AWAY: &str = "us-west-2";
const POLICY: &str = r#"
version = 1
[databases.shop]
source = "SOURCE"
policy = "standard"
PROXY
[[databases.shop.cutover]]
secret = "shop/db"
keys = { host = "{endpoint}", port = "{port}" }
[[databases.shop.cutover]]
route53 = "ZONE"
record = "db.example.com"
health = "HEALTH"
[vaults.west]
url = "snapshots://us-west-2"
kms-key = "KEY"
[policies.standard]
rpo = "1d"
rto = "4h"
[policies.standard.tiers.daily]
schedule = "0 12 * * *"
keep = { last = 1, at-least = 1 }
[policies.standard.copies.dr]
to = "west"
keep = { last = 7, at-least = 1 }
"#;

/// The database `shop`, a proxy for it, and what leads to it.
const CUSTOMER: &str = r#"
rds, engine = boto3.client('rds'), 'ENGINE'
ids = [s['SubnetId'] for s in boto3.client('ec2').describe_subnets()['Subnets']]
rds.create_db_subnet_group(DBSubnetGroupName='net', DBSubnetGroupDescription='x', SubnetIds=ids[:2])
master = dict(Engine=engine, MasterUsername='postgres', MasterUserPassword='correct-horse')
if engine == 'postgres':
    rds.create_db_instance(DBInstanceIdentifier='shop', DBInstanceClass='db.t3.medium', AllocatedStorage=20,
        DBSubnetGroupName='net', StorageEncrypted=True, **master)
    host = rds.describe_db_instances()['DBInstances'][0]['Endpoint']['Address']
    rds.create_db_proxy(DBProxyName='shop', EngineFamily='POSTGRESQL', RoleArn='arn:aws:iam::123456789012:role/p',
        Auth=[{'AuthScheme': 'SECRETS', 'SecretArn': 'arn:aws:secretsmanager:us-east-1:123456789012:secret:x'}],
        VpcSubnetIds=ids[:2])
    rds.register_db_proxy_targets(DBProxyName='shop', DBInstanceIdentifiers=['shop'])
else:
    group = boto3.client('ec2').create_security_group(GroupName='shop', Description='x')['GroupId']
    rds.create_db_cluster(DBClusterIdentifier='shop', DBSubnetGroupName='net', StorageEncrypted=True,
        VpcSecurityGroupIds=[group], **master)
    rds.create_db_instance(DBInstanceIdentifier='shop-1', DBClusterIdentifier='shop', Engine=engine,
        DBInstanceClass='db.r6g.large')
    host = rds.describe_db_clusters()['DBClusters'][0]['Endpoint']
r53 = boto3.client('route53')
zone = r53.create_hosted_zone(Name='example.com', CallerReference='1')['HostedZone']['Id'].split('/')[-1]
r53.change_resource_record_sets(HostedZoneId=zone, ChangeBatch={'Changes': [{'Action': 'CREATE',
    'ResourceRecordSet': {'Name': 'db.example.com', 'Type': 'CNAME', 'TTL': 60, 'ResourceRecords': [{'Value': host}]}}]})
boto3.client('secretsmanager').create_secret(Name='shop/db', SecretString=json.dumps({'host': host, 'port': 5432}))
key = boto3.client('kms', region_name='us-west-2').create_key()['KeyMetadata']['Arn']
print(json.dumps({'zone': zone, 'key': key}))
"#;

/// What moto has.
const LOOK: &str = r#"
def names(region):
    rds = boto3.client('rds', region_name=region)
    if 'ENGINE' == 'postgres':
        all = rds.describe_db_snapshots(SnapshotType='manual')['DBSnapshots']
        return sorted(s['DBSnapshotIdentifier'] for s in all)
    all = rds.describe_db_cluster_snapshots(SnapshotType='manual')['DBClusterSnapshots']
    return sorted(s['DBClusterSnapshotIdentifier'] for s in all)
rds, r53 = boto3.client('rds'), boto3.client('route53')
zone = r53.list_hosted_zones()['HostedZones'][0]['Id'].split('/')[-1]
sets = r53.list_resource_record_sets(HostedZoneId=zone)['ResourceRecordSets']
proxies = rds.describe_db_proxy_targets(DBProxyName='shop')['Targets'] if 'ENGINE' == 'postgres' else []
print(json.dumps({
    'here': names('us-east-1'), 'there': names('us-west-2'),
    'secret': json.loads(boto3.client('secretsmanager').get_secret_value(SecretId='shop/db')['SecretString']),
    'record': [s['ResourceRecords'][0]['Value'] for s in sets if s['Type'] == 'CNAME'][0],
    'proxy': [t['RdsResourceId'] for t in proxies],
    'instances': {i['DBInstanceIdentifier']: i.get('DBClusterIdentifier') for i in rds.describe_db_instances()['DBInstances']},
    'clusters': {c['DBClusterIdentifier']: c['Endpoint'] for c in rds.describe_db_clusters()['DBClusters']},
    'hosts': {i['DBInstanceIdentifier']: i['Endpoint']['Address'] for i in rds.describe_db_instances()['DBInstances']},
}))
"#;

fn from_backup_to_cutover(name: &str, source: &str, engine: &str) {
    let scratch = Scratch::new(name);
    let aws = Aws::moto(&scratch);
    let made: Value = serde_json::from_str(&boto(&aws, &CUSTOMER.replace("ENGINE", engine))).expect("json");
    let text = |k: &str| made[k].as_str().expect("text").to_string();
    let look =
        || -> Value { serde_json::from_str(&boto(&aws, &LOOK.replace("ENGINE", engine))).expect("json") };
    let proxy = match engine {
        "postgres" => "[[databases.shop.cutover]]\nproxy = \"shop\"",
        _ => "",
    };
    let policy = POLICY
        .replace("SOURCE", source)
        .replace("PROXY", proxy)
        .replace("ZONE", &text("zone"))
        .replace("KEY", &text("key"))
        .replace("HEALTH", &format!("{}/moto-api/", aws.endpoint()));
    let hf = Holdfast::new(&scratch, scratch.write("holdfast.toml", policy))
        .env("HOLDFAST_POLL", "0.05")
        // What moto does not know it answers as a fault of its own, which one would try again.
        .env("AWS_MAX_ATTEMPTS", "1")
        .envs(aws.env());
    let run = |args: &[&str]| hf.run(&[&["--json"], args].concat()).ok().json();
    let backup = || run(&["backup", "shop", "--tier", "daily"])["id"].as_str().expect("id").to_string();

    let first = backup();
    // The names have seconds in them.
    std::thread::sleep(std::time::Duration::from_millis(1100));
    let second = backup();
    assert_eq!(look()["here"], json!([first, second]));
    let done = run(&["copy", "shop"]);
    assert_eq!(done["copies"][0]["report"]["arrived"].as_array().map(Vec::len), Some(2), "{done:#}");
    assert_eq!(look()["there"], json!([first, second]));
    let _ = run(&["expire", "shop", "--apply"]);
    let now = look();
    assert_eq!((&now["here"], &now["there"]), (&json!([second]), &json!([first, second])));
    // moto has no automated backups of clusters, and `list` says so.
    let code = if engine == "aurora-postgresql" { 3 } else { 0 };
    let list = hf.run(&["--json", "list", "shop"]).expect_code(code).json();
    let kept = list["managed"]["databases"][0]["kept"].as_array().expect("kept");
    let copies = kept.iter().filter(|k| k["kind"] == "copy" && k["region"] == AWAY).count();
    assert_eq!(copies, 2, "{kept:#?}");

    let done = run(&["restore", "shop", "--to-id", "shop-new", "--from-snapshot", &second, "--yes"]);
    let host = done["restore"]["endpoint"]["host"].as_str().expect("an endpoint").to_string();
    let done = run(&["cutover", "shop", "--to-id", "shop-new", "--yes"]);
    assert_eq!(done["cutover"]["rolled_back"], Value::Null, "{done:#}");
    let now = look();
    assert_eq!((&now["record"], &now["secret"]["host"]), (&json!(host), &json!(host)), "{now:#}");
    match engine {
        "postgres" => {
            assert_eq!((&now["proxy"], &now["hosts"]["shop-new"]), (&json!(["shop-new"]), &json!(host)))
        }
        _ => assert_eq!(
            (&now["instances"]["shop-new-1"], &now["clusters"]["shop-new"]),
            (&json!("shop-new"), &json!(host))
        ),
    }
}

#[test]
fn an_instance_against_moto() {
    from_backup_to_cutover("moto-rds", "rds://us-east-1/shop", "postgres");
}

#[test]
fn an_aurora_cluster_against_moto() {
    from_backup_to_cutover("moto-aurora", "aurora://us-east-1/shop", "aurora-postgresql");
}

#[test]
fn a_documentdb_cluster_against_moto() {
    from_backup_to_cutover("moto-docdb", "docdb://us-east-1/shop", "docdb");
}
