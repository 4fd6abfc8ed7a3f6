//! The services that are called by hand: EC2, Route 53, Secrets Manager, KMS; and proxies, quotas, identity.

use crate::common::{World, client, home, op, source};
use holdfast_core::Secret;
use holdfast_core::managed::{
    Account, Databases, Dns, DnsRecord, ErrorKind, Keys, Networks, NewSecurityGroup, Peer, Secrets, Tags,
    tags,
};
use holdfast_testkit::{Aws, Scratch};
use std::process::Command;

/// Prepares what our client cannot make, with boto3.
fn boto(aws: &Aws, script: &str) -> String {
    let mut command = Command::new(holdfast_testkit::tools::python());
    command.args(["-c", &format!("import boto3\n{script}")]);
    for (k, v) in aws.env() {
        command.env(k, v);
    }
    let done = holdfast_testkit::proc::run(&mut command, &[], std::time::Duration::from_secs(300));
    assert_eq!(done.code, 0, "{}", String::from_utf8_lossy(&done.stderr));
    String::from_utf8(done.stdout).unwrap().trim().to_string()
}

#[tokio::test]
async fn an_isolated_group_lets_one_in() {
    let w = World::new("groups").await;
    let vpc = boto(&w.aws, "print(boto3.client('ec2').describe_vpcs()['Vpcs'][0]['VpcId'])");
    let new = NewSecurityGroup {
        region: home(),
        vpc: vpc.clone(),
        name: "holdfast-verify-1".into(),
        description: "verification, may be removed".into(),
        tags: Tags::default().with(tags::EXPIRES, "2026-12-01T00:00:00Z"),
    };
    let group = w.cloud.create_group(&new, &op("verify-1")).await.unwrap();
    assert_eq!(w.cloud.create_group(&new, &op("verify-1")).await.unwrap().id, group.id);
    let other = w.cloud.create_group(&new, &op("verify-2")).await.unwrap_err();
    assert_eq!(other.kind, ErrorKind::AlreadyExists, "{other}");
    let peer = Peer::Cidr("10.1.2.3/32".into());
    w.cloud.allow_in(&home(), &group.id, &peer, 5432).await.unwrap();
    w.cloud.allow_in(&home(), &group.id, &peer, 5432).await.unwrap();
    let rules = boto(
        &w.aws,
        &format!(
            "g = boto3.client('ec2').describe_security_groups(GroupIds=['{}'])['SecurityGroups'][0]\n\
             i = g['IpPermissions']\n\
             print(len(i), i[0]['FromPort'], i[0]['IpRanges'][0]['CidrIp'], len(g['IpPermissionsEgress']))",
            group.id
        ),
    );
    assert_eq!(rules, "1 5432 10.1.2.3/32 0");
    let own = w.cloud.own_groups(&home()).await.unwrap();
    assert_eq!(own.len(), 1);
    assert_eq!((own[0].id.as_str(), own[0].vpc.as_deref()), (group.id.as_str(), Some(vpc.as_str())));
    assert!(own[0].tags.expires().is_some());
    w.cloud.delete_group(&home(), &group.id).await.unwrap();
    w.cloud.delete_group(&home(), &group.id).await.unwrap();
    assert!(w.cloud.own_groups(&home()).await.unwrap().is_empty());
}

#[tokio::test]
async fn a_record_is_replaced_and_put_back() {
    let w = World::new("dns").await;
    let zone = boto(
        &w.aws,
        "r = boto3.client('route53')\n\
         z = r.create_hosted_zone(Name='example.com', CallerReference='1')['HostedZone']['Id']\n\
         s = {'Name': 'alias.example.com', 'Type': 'A', 'AliasTarget': {'HostedZoneId': 'Z1', 'DNSName': 'x.example.com', 'EvaluateTargetHealth': False}}\n\
         r.change_resource_record_sets(HostedZoneId=z, ChangeBatch={'Changes': [{'Action': 'CREATE', 'ResourceRecordSet': s}]})\n\
         print(z)",
    );
    assert_eq!(w.cloud.record(&zone, "db.example.com", "CNAME").await.unwrap(), None);
    let mut record = DnsRecord {
        name: "db.example.com".into(),
        kind: "CNAME".into(),
        ttl: 30,
        values: vec!["old.example.com".into()],
    };
    let change = w.cloud.upsert_record(&zone, &record).await.unwrap();
    w.cloud.upsert_record(&zone, &record).await.unwrap();
    w.cloud.dns_change(&change.id).await.unwrap();
    assert_eq!(w.cloud.record(&zone, "db.example.com", "CNAME").await.unwrap(), Some(record.clone()));
    record.values = vec!["new.example.com".into()];
    w.cloud.upsert_record(&zone, &record).await.unwrap();
    assert_eq!(w.cloud.record(&zone, "db.example.com", "CNAME").await.unwrap(), Some(record.clone()));
    let alias = w.cloud.record(&zone, "alias.example.com", "A").await.unwrap_err();
    assert_eq!(alias.kind, ErrorKind::InvalidRequest, "{alias}");
    w.cloud.delete_record(&zone, &record).await.unwrap();
    assert_eq!(w.cloud.record(&zone, "db.example.com", "CNAME").await.unwrap(), None);
}

#[tokio::test]
async fn a_secret_has_versions_and_does_not_print() {
    let w = World::new("secrets").await;
    boto(
        &w.aws,
        "boto3.client('secretsmanager').create_secret(Name='shop/db', SecretString='{\"password\": \"hunter2\"}')",
    );
    let old = w.cloud.secret(&home(), "shop/db").await.unwrap();
    assert_eq!(old.value.expose_bytes(), b"{\"password\": \"hunter2\"}");
    assert!(!format!("{old:?}").contains("hunter2"));
    let value = Secret::new("{\"password\": \"hunter3\"}");
    let put = w.cloud.put_secret(&home(), "shop/db", &value, &op("cut-1")).await.unwrap();
    let again = w.cloud.put_secret(&home(), "shop/db", &value, &op("cut-1")).await.unwrap();
    assert_eq!(put.version, again.version);
    assert_eq!(w.cloud.secret(&home(), "shop/db").await.unwrap().value, value);
    let before = w.cloud.secret_version(&home(), "shop/db", &old.version).await.unwrap();
    assert_eq!(before.value, old.value);
    assert!(!format!("{:?}", w.log.changes()).contains("hunter3"));
    assert!(w.cloud.secret(&home(), "nothing").await.unwrap_err().is_not_found());
}

#[tokio::test]
async fn keys_quotas_and_who_we_are() {
    let w = World::new("account").await;
    let arn = boto(&w.aws, "print(boto3.client('kms').create_key()['KeyMetadata']['Arn'])");
    let key = w.cloud.key(&home(), &arn).await.unwrap();
    assert_eq!(
        (key.arn.as_str(), &key.state, key.aws_managed),
        (arn.as_str(), &holdfast_core::managed::KeyState::Enabled, false)
    );
    boto(&w.aws, &format!("boto3.client('kms').schedule_key_deletion(KeyId='{arn}', PendingWindowInDays=7)"));
    let key = w.cloud.key(&home(), &arn).await.unwrap();
    assert_eq!(key.state, holdfast_core::managed::KeyState::PendingDeletion);
    assert!(key.deletion.unwrap() > jiff::Timestamp::now());
    assert!(w.cloud.key(&home(), "00000000-0000-0000-0000-000000000000").await.unwrap_err().is_not_found());

    let quotas = w.cloud.quotas(&home()).await.unwrap();
    let manual = quotas.iter().find(|q| q.name == "ManualSnapshots").unwrap();
    assert_eq!(manual.max, 100);
    let who = w.cloud.identity().await.unwrap();
    assert_eq!((who.account.as_str(), who.partition()), ("123456789012", "aws"));
}

#[tokio::test]
async fn a_proxy_gets_another_target() {
    use holdfast_core::managed::Proxies;
    let w = World::new("proxy").await;
    let shop = source("rds://us-east-1/shop");
    let subnets = "[s['SubnetId'] for s in boto3.client('ec2').describe_subnets()['Subnets'][:2]]";
    boto(
        &w.aws,
        &format!(
            "boto3.client('rds').create_db_proxy(DBProxyName='front', EngineFamily='POSTGRESQL', Auth=[{{'AuthScheme': 'SECRETS', 'SecretArn': 'arn:aws:secretsmanager:us-east-1:123456789012:secret:x-AAAAAA'}}], RoleArn='{}', VpcSubnetIds={subnets})",
            w.role()
        ),
    );
    assert!(!w.cloud.proxy_endpoint(&home(), "front").await.unwrap().is_empty());
    let begun = std::time::Instant::now();
    loop {
        match w.cloud.register_target("front", &shop).await {
            // A proxy is `creating` for a while.
            Err(e) if e.is_wrong_state() && begun.elapsed().as_secs() < 30 => {
                w.cloud.proxy_endpoint(&home(), "front").await.unwrap();
            }
            other => break other.unwrap(),
        }
    }
    w.cloud.register_target("front", &shop).await.unwrap();
    let targets = w.cloud.proxy_targets(&home(), "front").await.unwrap();
    assert_eq!(targets.iter().map(|t| t.id.as_str()).collect::<Vec<_>>(), ["shop"]);
    w.cloud.deregister_target("front", &shop).await.unwrap();
    w.cloud.deregister_target("front", &shop).await.unwrap();
    assert!(w.cloud.proxy_targets(&home(), "front").await.unwrap().is_empty());
    assert!(w.cloud.proxy_endpoint(&home(), "nothing").await.unwrap_err().is_not_found());
    w.cloud.describe(&shop).await.unwrap();
}

/// Plain moto speaks the same: we do not only agree with ourselves.
#[tokio::test]
async fn small_services_work_against_moto() {
    let scratch = Scratch::new("small-moto");
    let aws = Aws::moto(&scratch);
    let (cloud, _) = client(&aws, "test").await;
    let vpc = boto(&aws, "print(boto3.client('ec2').describe_vpcs()['Vpcs'][0]['VpcId'])");
    let new = NewSecurityGroup {
        region: home(),
        vpc,
        name: "g".into(),
        description: "d".into(),
        tags: Tags::default(),
    };
    let group = cloud.create_group(&new, &op("v")).await.unwrap();
    cloud.allow_in(&home(), &group.id, &Peer::Group(group.id.clone()), 5432).await.unwrap();
    cloud.delete_group(&home(), &group.id).await.unwrap();
    let arn = boto(&aws, "print(boto3.client('kms').create_key()['KeyMetadata']['Arn'])");
    assert_eq!(cloud.key(&home(), &arn).await.unwrap().arn, arn);
    assert_eq!(cloud.identity().await.unwrap().account, "123456789012");
}
