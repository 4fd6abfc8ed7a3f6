"""Requests are judged by the service models, and answers are what clients parse."""

import http.client
import unittest
import urllib.parse

from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials as Credentials_
from botocore.exceptions import ClientError
from harness import ACCOUNT, EAST, Case, url

FORM = "application/x-www-form-urlencoded"


def raw(method, path, body, service="rds", content_type=FORM, sign=True, secret="test", **extra):
    """What no SDK would send, signed as every SDK signs."""
    connection = http.client.HTTPConnection(urllib.parse.urlparse(url()).netloc)
    headers = {"Content-Type": content_type}
    if sign:
        request = AWSRequest(method, url() + path, headers, body)
        SigV4Auth(Credentials_("test", secret), service, EAST).add_auth(request)
        headers = dict(request.headers.items())
    headers.update(extra)
    connection.request(method, path, body, headers)
    answer = connection.getresponse()
    text = answer.read().decode()
    connection.close()
    return answer.status, text


def form(**members):
    return urllib.parse.urlencode({"Version": "2014-10-31", **members})


class Query(Case):
    def test_unknown_action(self):
        status, text = raw("POST", "/", form(Action="PutBackupVaultPolicy"))  # X36
        self.assertEqual(status, 400)
        self.assertIn("<Code>InvalidAction</Code>", text)

    def test_wrong_version(self):
        _, text = raw("POST", "/", "Action=DescribeDBInstances&Version=2010-01-01")
        self.assertIn("InvalidAction", text)

    def test_unknown_member_is_refused(self):
        # X37: a point-in-time restore of a cluster has no Engine. X26: modify has no such member.
        _, text = raw("POST", "/", form(Action="RestoreDBClusterToPointInTime", DBClusterIdentifier="x", Engine="aurora-postgresql"))
        self.assertIn("<Code>MalformedInput</Code>", text)
        self.assertIn("Engine", text)
        _, text = raw("POST", "/", form(Action="ModifyDBInstance", DBInstanceIdentifier="x", EnableCloudwatchLogsExports="postgresql"))
        self.assertIn("MalformedInput", text)

    def test_bad_types_are_refused(self):
        for member, value in (("MaxRecords", "many"), ("IncludeShared", "perhaps")):
            _, text = raw("POST", "/", form(Action="DescribeDBSnapshots", **{member: value}))
            self.assertIn("<Code>MalformedInput</Code>", text, member)
        _, text = raw("POST", "/", form(Action="RestoreDBInstanceToPointInTime", TargetDBInstanceIdentifier="x", RestoreTime="yesterday"))
        self.assertIn("MalformedInput", text)
        _, text = raw("POST", "/", form(Action="CreateDBSnapshot", DBInstanceIdentifier="x", DBSnapshotIdentifier="y", Tags="plain"))
        self.assertIn("MalformedInput", text)

    def test_missing_member(self):
        message = self.refused("MissingParameter", self.rds.create_db_snapshot, DBInstanceIdentifier="x")
        self.assertIn("DBSnapshotIdentifier", message)

    def test_docdb_is_the_same_endpoint(self):
        self.seed(clusters=[{"DBClusterIdentifier": "d1", "Engine": "docdb"}, {"DBClusterIdentifier": "a1"}])
        found = self.client("docdb").describe_db_clusters()["DBClusters"]
        self.assertEqual({c["Engine"] for c in found}, {"docdb", "aurora-postgresql"})
        filtered = self.rds.describe_db_clusters(Filters=[{"Name": "engine", "Values": ["docdb"]}])["DBClusters"]
        self.assertEqual([c["DBClusterIdentifier"] for c in filtered], ["d1"])

    def test_unknown_filter(self):
        self.refused("InvalidParameterValue", self.rds.describe_db_clusters, Filters=[{"Name": "colour", "Values": ["red"]}])

    def test_awkward_text_survives(self):
        self.seed(instances=[{"DBInstanceIdentifier": "db1"}])
        note = "before migration @ 3:00 = a_b/c+d ü"
        self.rds.add_tags_to_resource(ResourceName=self.arn("db", "db1"), Tags=[{"Key": "note", "Value": note}])
        self.assertEqual(self.rds.list_tags_for_resource(ResourceName=self.arn("db", "db1"))["TagList"], [{"Key": "note", "Value": note}])
        self.refused("InvalidParameterValue", self.rds.add_tags_to_resource, ResourceName=self.arn("db", "db1"), Tags=[{"Key": "n", "Value": "a<b>&c"}])

    def test_what_is_not_modelled_says_so(self):
        self.assertIn("does not model", self.refused("NotImplemented", self.rds.describe_export_tasks))
        self.assertIn("does not serve", self.refused("NotImplemented", self.client("dynamodb").list_tables))


class RestJson(Case):
    def test_unknown_route(self):
        status, text = raw("PUT", "/backup-vaults/v1/vault-policy", "{}", "backup", "application/json")
        self.assertEqual(status, 404)
        self.assertIn("UnknownOperation", text)

    def test_unknown_and_wrong_members(self):
        _, text = raw("PUT", "/backup-vaults/vault1", '{"Colour": "red"}', "backup", "application/json")
        self.assertIn("InvalidParameterValueException", text)
        _, text = raw("PUT", "/backup-vaults/vault1/vault-lock", '{"MinRetentionDays": "seven"}', "backup", "application/json")
        self.assertIn("SerializationException", text)
        _, text = raw("PUT", "/backup-vaults/vault1", "{not json", "backup", "application/json")
        self.assertIn("SerializationException", text)
        _, text = raw("GET", "/backup-jobs/?state=RUNNING&colour=red", "", "backup", "application/json")
        self.assertIn("InvalidParameterValueException", text)
        _, text = raw("GET", "/backup-jobs/?state=SLEEPING", "", "backup", "application/json")
        self.assertIn("InvalidParameterValueException", text)

    def test_missing_member(self):
        self.refused("MissingParameterValueException", self.backup.start_backup_job, BackupVaultName="v1")

    def test_vault_name_pattern(self):
        self.refused("InvalidParameterValueException", self.backup.create_backup_vault, BackupVaultName="a b")

    def test_maximum_page(self):
        self.refused("InvalidParameterValueException", self.backup.list_backup_vaults, MaxResults=5000)


class Credentials(Case):
    def test_unsigned(self):
        status, text = raw("POST", "/", form(Action="DescribeDBInstances"), sign=False)
        self.assertEqual(status, 403)
        self.assertIn("MissingAuthenticationToken", text)

    def test_incomplete_signature(self):
        _, text = raw("POST", "/", form(Action="DescribeDBInstances"), Authorization="AWS4-HMAC-SHA256 Credential=test")
        self.assertIn("IncompleteSignature", text)

    def test_wrong_signature(self):
        body = form(Action="DescribeDBInstances")
        self.assertEqual(raw("POST", "/", body)[0], 200)
        status, text = raw("POST", "/", body, secret="guessed")
        self.assertEqual(status, 403)
        self.assertIn("SignatureDoesNotMatch", text)
        signed = raw("GET", "/backup-vaults/?maxResults=5&nextToken=", "", "backup", "application/json")
        self.assertNotIn("SignatureDoesNotMatch", signed[1])
        self.post("config", {"signatures": False})
        self.assertEqual(raw("POST", "/", body, secret="guessed")[0], 200)
        self.post("config", {"signatures": True})
        self.post("keys", {"access_key": "strong", "secret": "other"})
        self.refused("SignatureDoesNotMatch", self.client("rds", key="strong").describe_db_instances)

    def test_names_with_odd_characters_are_signed_alike(self):
        s3 = self.client("s3")
        s3.create_bucket(Bucket="odd-names")
        for key in ("a b+c", "ü/ö~", "x//y", "a%2Fb", "q?&="):
            s3.put_object(Bucket="odd-names", Key=key, Body=b"x")
            self.assertEqual(s3.get_object(Bucket="odd-names", Key=key)["Body"].read(), b"x", key)

    def test_unknown_key(self):
        self.refused("InvalidClientTokenId", self.client("rds", key="nobody").describe_db_instances)
        self.refused("UnrecognizedClientException", self.client("backup", key="nobody").list_backup_vaults)
        self.refused("InvalidClientTokenId", self.client("sts", key="nobody").get_caller_identity)

    def test_expired_key(self):
        self.post("keys", {"access_key": "old", "expires_in": 60})
        self.client("rds", key="old").describe_db_instances()
        self.advance(61)
        self.refused("ExpiredToken", self.client("rds", key="old").describe_db_instances)
        self.refused("ExpiredTokenException", self.client("backup", key="old").list_backup_vaults)

    def test_caller_identity_and_assumed_roles(self):
        identity = self.client("sts").get_caller_identity()
        self.assertEqual(identity["Arn"], f"arn:aws:iam::{ACCOUNT}:user/test")
        role = self.seed(role={"name": "backup", "trusts": [ACCOUNT]})["role"]
        self.refused("AccessDenied", self.client("sts").assume_role, RoleArn=f"{role}-other", RoleSessionName="s")
        session = self.client("sts").assume_role(RoleArn=role, RoleSessionName="s")["Credentials"]
        secret = session["SecretAccessKey"]
        rds = self.client("rds", key=session["AccessKeyId"], token=session["SessionToken"], secret=secret)
        self.assertEqual(rds.describe_db_instances()["DBInstances"], [])
        self.refused("InvalidClientTokenId", self.client("rds", key=session["AccessKeyId"], token="wrong", secret=secret).describe_db_instances)

    def test_a_role_of_another_account_trusts_who_may_assume_it(self):
        self.post("keys", {"access_key": "other", "account": "210987654321"})
        self.seed(key="other", role={"name": "vault", "trusts": [ACCOUNT]})
        self.seed(key="other", role={"name": "own", "trusts": ["210987654321"]})
        sts, role = self.client("sts"), "arn:aws:iam::210987654321:role/"
        self.refused("AccessDenied", sts.assume_role, RoleArn=f"{role}own", RoleSessionName="s")
        session = sts.assume_role(RoleArn=f"{role}vault", RoleSessionName="s")["Credentials"]
        there = self.client("sts", key=session["AccessKeyId"], token=session["SessionToken"], secret=session["SecretAccessKey"])
        self.assertEqual(there.get_caller_identity()["Account"], "210987654321")

    def test_regions_and_accounts_are_apart(self):
        self.seed(instances=[{"DBInstanceIdentifier": "db1"}])
        self.assertEqual(self.rds_west.describe_db_instances()["DBInstances"], [])
        self.post("keys", {"access_key": "other", "account": "210987654321"})
        self.assertEqual(self.client("rds", key="other").describe_db_instances()["DBInstances"], [])

    def test_identity_policies(self):
        policy = {"Version": "2012-10-17", "Statement": [
            {"Effect": "Allow", "Action": ["rds:Describe*", "rds:CreateDBSnapshot"], "Resource": "*"},
            {"Effect": "Allow", "Action": "rds:AddTagsToResource", "Resource": "arn:aws:rds:*:*:snapshot:*",
             "Condition": {"StringEquals": {"aws:RequestTag/holdfast": "yes"}}},
            {"Effect": "Allow", "Action": "rds:DeleteDBSnapshot", "Resource": "*", "Condition": {"StringEquals": {"aws:ResourceTag/holdfast": "yes"}}},
            {"Effect": "Deny", "Action": "*", "Resource": "*", "Condition": {"StringNotEquals": {"aws:RequestedRegion": EAST}}},
        ]}
        self.post("keys", {"access_key": "limited", "policies": [policy]})
        self.seed(instances=[{"DBInstanceIdentifier": "db1"}])
        limited = self.client("rds", key="limited")
        message = self.refused("AccessDenied", limited.delete_db_instance, DBInstanceIdentifier="db1", SkipFinalSnapshot=True)
        self.assertEqual(message, (
            f"User: arn:aws:iam::{ACCOUNT}:user/limited is not authorized to perform: rds:DeleteDBInstance on resource: "
            f"{self.arn('db', 'db1')} because no identity-based policy allows the rds:DeleteDBInstance action"
        ))
        arguments = {"DBInstanceIdentifier": "db1", "DBSnapshotIdentifier": "s1"}
        message = self.refused("AccessDenied", limited.create_db_snapshot, **arguments, Tags=[{"Key": "a", "Value": "b"}])
        self.assertIn("rds:AddTagsToResource", message)
        limited.create_db_snapshot(**arguments, Tags=[{"Key": "holdfast", "Value": "yes"}])
        self.post("settle")
        limited.create_db_snapshot(DBInstanceIdentifier="db1", DBSnapshotIdentifier="s2")
        self.post("settle")
        self.refused("AccessDenied", limited.delete_db_snapshot, DBSnapshotIdentifier="s2")
        limited.delete_db_snapshot(DBSnapshotIdentifier="s1")
        message = self.refused("AccessDenied", self.client("rds", "us-west-2", key="limited").describe_db_instances)
        self.assertIn("with an explicit deny", message)

    def test_keys_need_a_grant(self):
        key = self.client("kms").create_key()["KeyMetadata"]["Arn"]
        policy = {"Statement": [{"Effect": "Allow", "Action": "rds:*", "Resource": "*"}]}
        self.post("keys", {"access_key": "limited", "policies": [policy]})
        self.seed(instances=[{"DBInstanceIdentifier": "db1", "StorageEncrypted": True}])
        self.new_snapshot()
        limited = self.client("rds", key="limited")
        arguments = {"SourceDBSnapshotIdentifier": "s1", "TargetDBSnapshotIdentifier": "c1", "KmsKeyId": key}
        self.assertIn("kms:CreateGrant", self.refused("KMSKeyNotAccessibleFault", limited.copy_db_snapshot, **arguments))
        policy["Statement"].append({
            "Effect": "Allow", "Action": ["kms:CreateGrant", "kms:DescribeKey"], "Resource": "arn:aws:kms:*:*:key/*",
            "Condition": {"StringLike": {"kms:ViaService": "rds.*.amazonaws.com"}, "Bool": {"kms:GrantIsForAWSResource": "true"}},
        })
        self.post("keys", {"access_key": "limited", "policies": [policy]})
        limited.copy_db_snapshot(**arguments)
        # Through RDS only.
        self.refused("AccessDeniedException", self.client("kms", key="limited").describe_key, KeyId=key)

    def test_policies_of_the_services_around(self):
        tagged = {"Null": {"aws:ResourceTag/made-by": "false"}}
        policy = {"Statement": [
            {"Effect": "Allow", "Action": "ec2:CreateSecurityGroup", "Resource": ["arn:aws:ec2:*:*:security-group/*", "arn:aws:ec2:*:*:vpc/*"]},
            {"Effect": "Allow", "Action": "ec2:CreateTags", "Resource": "arn:aws:ec2:*:*:security-group/*", "Condition": {"StringEquals": {"ec2:CreateAction": "CreateSecurityGroup"}}},
            {"Effect": "Allow", "Action": "ec2:DeleteSecurityGroup", "Resource": "arn:aws:ec2:*:*:security-group/*", "Condition": tagged},
            {"Effect": "Allow", "Action": "route53:ListResourceRecordSets", "Resource": "arn:aws:route53:::hostedzone/*"},
            {"Effect": "Allow", "Action": "secretsmanager:GetSecretValue", "Resource": "arn:aws:secretsmanager:*:*:secret:db-*"},
        ]}
        self.post("keys", {"access_key": "limited", "policies": [policy]})
        ec2, limited = self.client("ec2"), self.client("ec2", key="limited")
        vpc = ec2.describe_vpcs()["Vpcs"][0]["VpcId"]
        arguments = {"Description": "d", "VpcId": vpc}
        tags = [{"ResourceType": "security-group", "Tags": [{"Key": "made-by", "Value": "us"}]}]
        plain = limited.create_security_group(GroupName="plain", **arguments)["GroupId"]
        ours = limited.create_security_group(GroupName="ours", TagSpecifications=tags, **arguments)["GroupId"]
        self.refused("UnauthorizedOperation", limited.create_tags, Resources=[plain], Tags=tags[0]["Tags"])
        self.refused("UnauthorizedOperation", limited.delete_security_group, GroupId=plain)
        limited.delete_security_group(GroupId=ours)
        zone = self.client("route53").create_hosted_zone(Name="example.org.", CallerReference="1")["HostedZone"]["Id"]
        dns = self.client("route53", key="limited")
        dns.list_resource_record_sets(HostedZoneId=zone)
        self.refused("AccessDenied", dns.get_hosted_zone, Id=zone)
        for name in ("db-shop", "other"):
            self.client("secretsmanager").create_secret(Name=name, SecretString="x")
        secrets = self.client("secretsmanager", key="limited")
        secrets.get_secret_value(SecretId="db-shop")
        self.refused("AccessDeniedException", secrets.get_secret_value, SecretId="other")

    def test_a_copy_is_allowed_by_both_regions(self):
        policy = {"Statement": [{"Effect": "Allow", "Action": "*", "Resource": "*", "Condition": {"StringEquals": {"aws:RequestedRegion": "us-west-2"}}}]}
        self.post("keys", {"access_key": "limited", "policies": [policy]})
        self.seed(instances=[{"DBInstanceIdentifier": "db1"}])
        self.new_snapshot()
        arguments = {"SourceDBSnapshotIdentifier": self.arn("snapshot", "s1"), "TargetDBSnapshotIdentifier": "c1"}
        limited = self.client("rds", "us-west-2", key="limited")
        self.refused("AccessDenied", limited.copy_db_snapshot, **arguments)
        policy["Statement"][0]["Condition"]["StringEquals"]["aws:RequestedRegion"] = ["us-west-2", EAST]
        self.post("keys", {"access_key": "limited", "policies": [policy]})
        limited.copy_db_snapshot(**arguments)

    def test_policies_with_unknown_conditions_are_refused(self):
        policy = {"Statement": [{"Effect": "Allow", "Action": "*", "Resource": "*", "Condition": {"IpAddress": {"aws:SourceIp": "10.0.0.0/8"}}}]}
        self.post("keys", {"access_key": "limited", "policies": [policy]}, expect=400)


class Moto(Case):
    def test_services_around(self):
        self.client("s3").create_bucket(Bucket="bucket1")
        self.client("s3").put_object(Bucket="bucket1", Key="a/b c.txt", Body=b"hello")
        self.assertEqual(self.client("s3").get_object(Bucket="bucket1", Key="a/b c.txt")["Body"].read(), b"hello")
        self.client("secretsmanager").create_secret(Name="db", SecretString="geheim")
        self.assertEqual(self.client("secretsmanager").get_secret_value(SecretId="db")["SecretString"], "geheim")
        zone = self.client("route53").create_hosted_zone(Name="example.org.", CallerReference="1")["HostedZone"]["Id"]
        change = {"Action": "UPSERT", "ResourceRecordSet": {"Name": "db.example.org", "Type": "CNAME", "TTL": 60, "ResourceRecords": [{"Value": "x"}]}}
        self.client("route53").change_resource_record_sets(HostedZoneId=zone, ChangeBatch={"Changes": [change]})
        self.client("sns").create_topic(Name="alerts")
        self.client("ec2").describe_security_groups()
        self.client("cloudwatch").put_metric_data(Namespace="n", MetricData=[{"MetricName": "m", "Value": 1}])

    def test_a_security_group_in_use_stays(self):
        ec2 = self.client("ec2")
        vpc = ec2.describe_vpcs()["Vpcs"][0]["VpcId"]
        group = ec2.create_security_group(GroupName="isolated", Description="d", VpcId=vpc)["GroupId"]
        self.seed(instances=[{"DBInstanceIdentifier": "db1", "VpcSecurityGroupIds": [group]}])
        self.refused("DependencyViolation", ec2.delete_security_group, GroupId=group)
        self.rds.delete_db_instance(DBInstanceIdentifier="db1", SkipFinalSnapshot=True)
        self.post("settle")
        ec2.delete_security_group(GroupId=group)

    def test_disabled_keys_do_not_work(self):
        kms = self.client("kms")
        key = kms.create_key()["KeyMetadata"]["Arn"]
        kms.create_alias(AliasName="alias/k", TargetKeyId=key)
        blob = kms.encrypt(KeyId="alias/k", Plaintext=b"x")["CiphertextBlob"]
        kms.disable_key(KeyId=key)
        self.refused("DisabledException", kms.decrypt, CiphertextBlob=blob)
        self.refused("DisabledException", kms.encrypt, KeyId="alias/k", Plaintext=b"x")
        kms.enable_key(KeyId=key)
        self.assertEqual(kms.decrypt(CiphertextBlob=blob)["Plaintext"], b"x")
        for unknown in ("alias/none", "no-such-key"):
            self.refused("NotFoundException", kms.describe_key, KeyId=unknown)
            self.refused("NotFoundException", kms.encrypt, KeyId=unknown, Plaintext=b"x")
        kms.schedule_key_deletion(KeyId=key, PendingWindowInDays=7)
        self.refused("KMSInvalidStateException", kms.decrypt, CiphertextBlob=blob)

    def test_reset_empties_them(self):
        self.client("secretsmanager").create_secret(Name="db", SecretString="geheim")
        self.post("reset")
        with self.assertRaises(ClientError):
            self.client("secretsmanager").get_secret_value(SecretId="db")


if __name__ == "__main__":
    unittest.main()
