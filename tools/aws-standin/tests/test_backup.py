"""AWS Backup: vaults and locks, plans, jobs, recovery points, copies, restores, legal holds."""

import json
import unittest
from datetime import datetime, timedelta, timezone

from harness import ACCOUNT, EAST, WEST, Case

DAY = 86400
ROLE = f"arn:aws:iam::{ACCOUNT}:role/backup"


class WithDatabases(Case):
    def setUp(self):
        super().setUp()
        tags = [{"Key": "backup", "Value": "daily"}]
        self.seed(
            role="backup",
            instances=[{"DBInstanceIdentifier": "db1", "age": 10 * DAY, "StorageEncrypted": True, "Tags": tags}],
            clusters=[{"DBClusterIdentifier": "c1", "age": 10 * DAY, "members": 1}, {"DBClusterIdentifier": "d1", "Engine": "docdb", "age": 10 * DAY}],
        )
        self.backup.create_backup_vault(BackupVaultName="main")
        self.backup_west.create_backup_vault(BackupVaultName="dr")
        self.db = self.arn("db", "db1")
        self.dr = f"arn:aws:backup:{WEST}:{ACCOUNT}:backup-vault:dr"

    def start(self, **more):
        return self.backup.start_backup_job(**{"BackupVaultName": "main", "ResourceArn": self.db, "IamRoleArn": ROLE, **more})["BackupJobId"]

    def job(self, name):
        return self.backup.describe_backup_job(BackupJobId=name)

    def point(self, **more):
        name = self.start(**more)
        self.until("COMPLETED", lambda: self.job(name), "State")
        return self.job(name)["RecoveryPointArn"]

    def points(self, vault="main", backup=None):
        return (backup or self.backup).list_recovery_points_by_backup_vault(BackupVaultName=vault)["RecoveryPoints"]

    def delete(self, point, vault="main"):
        return self.backup.delete_recovery_point(BackupVaultName=vault, RecoveryPointArn=point)


class Vaults(WithDatabases):
    def lock(self, vault="main", **more):
        return self.backup.put_backup_vault_lock_configuration(BackupVaultName=vault, **more)

    def test_names(self):
        self.refused("AlreadyExistsException", self.backup.create_backup_vault, BackupVaultName="main")
        self.refused("ResourceNotFoundException", self.backup.describe_backup_vault, BackupVaultName="nope")
        found = self.backup.describe_backup_vault(BackupVaultName="main")
        self.assertEqual((found["BackupVaultArn"], found["Locked"]), (f"arn:aws:backup:{EAST}:{ACCOUNT}:backup-vault:main", False))
        self.refused("InvalidParameterValueException", self.backup.create_backup_vault, BackupVaultName="v2", EncryptionKeyArn=f"arn:aws:kms:{EAST}:{ACCOUNT}:key/nope")

    def test_pages(self):
        for number in range(25):
            self.backup.create_backup_vault(BackupVaultName=f"v{number:02d}")
        self.post("config", {"page_size": 20})
        pages = list(self.backup.get_paginator("list_backup_vaults").paginate())
        self.assertEqual([len(p["BackupVaultList"]) for p in pages], [20, 6])

    def test_governance_lock_can_be_removed(self):  # X8
        point = self.point()
        self.lock(MinRetentionDays=7, MaxRetentionDays=365)
        found = self.backup.describe_backup_vault(BackupVaultName="main")
        self.assertEqual((found["Locked"], found["MinRetentionDays"]), (True, 7))
        self.assertNotIn("LockDate", found)
        self.assertIn("vault lock", self.refused("InvalidRequestException", self.delete, point=point))
        self.advance(400 * DAY)
        self.backup.delete_backup_vault_lock_configuration(BackupVaultName="main")
        self.delete(point)

    def test_compliance_lock_becomes_immutable(self):
        self.refused("InvalidParameterValueException", self.lock, ChangeableForDays=2)
        self.lock(MinRetentionDays=7, ChangeableForDays=3)
        date = self.backup.describe_backup_vault(BackupVaultName="main")["LockDate"]
        self.assertAlmostEqual((date - datetime.now(timezone.utc)).total_seconds(), 3 * DAY, delta=60)
        self.lock(MinRetentionDays=5, ChangeableForDays=3)
        self.backup.delete_backup_vault_lock_configuration(BackupVaultName="main")
        self.lock(MinRetentionDays=7, ChangeableForDays=3)
        self.advance(3 * DAY + 1)
        self.refused("InvalidRequestException", self.lock, MinRetentionDays=1)
        self.refused("InvalidRequestException", self.backup.delete_backup_vault_lock_configuration, BackupVaultName="main")

    def test_seeded_lock_is_immutable(self):
        self.seed(locks={"vault": "main", "min": 7, "date_age": 3600})
        self.refused("InvalidRequestException", self.backup.delete_backup_vault_lock_configuration, BackupVaultName="main")
        self.seed(locks={"vault": "main", "min": 7})
        self.backup.delete_backup_vault_lock_configuration(BackupVaultName="main")

    def test_lock_values(self):
        self.refused("InvalidParameterValueException", self.lock, MinRetentionDays=10, MaxRetentionDays=5)
        self.refused("InvalidParameterValueException", self.lock, MinRetentionDays=0)

    def test_retention_outside_of_the_lock_fails_the_job(self):
        self.lock(MinRetentionDays=7, MaxRetentionDays=30)
        for days in (3, 60, None):
            more = {"Lifecycle": {"DeleteAfterDays": days}} if days else {}
            found = self.job(self.start(**more))
            self.assertEqual(found["State"], "FAILED", days)
            self.assertIn("Retention", found["StatusMessage"])
        point = self.point(Lifecycle={"DeleteAfterDays": 14})
        self.refused("InvalidRequestException", self.backup.update_recovery_point_lifecycle, BackupVaultName="main", RecoveryPointArn=point, Lifecycle={"DeleteAfterDays": 8})
        self.backup.update_recovery_point_lifecycle(BackupVaultName="main", RecoveryPointArn=point, Lifecycle={"DeleteAfterDays": 20})

    def test_a_full_vault_is_not_deleted(self):
        point = self.point()
        self.refused("InvalidRequestException", self.backup.delete_backup_vault, BackupVaultName="main")
        self.delete(point)
        self.backup.delete_backup_vault(BackupVaultName="main")

    def test_access_policy(self):
        self.refused("ResourceNotFoundException", self.backup.get_backup_vault_access_policy, BackupVaultName="main")
        self.refused("InvalidParameterValueException", self.backup.put_backup_vault_access_policy, BackupVaultName="main", Policy="{")
        policy = {"Version": "2012-10-17", "Statement": [{"Effect": "Deny", "Principal": "*", "Action": "backup:DeleteRecoveryPoint", "Resource": "*"}]}
        point = self.point()
        self.backup.put_backup_vault_access_policy(BackupVaultName="main", Policy=json.dumps(policy))
        self.assertIn("resource-based policy", self.refused("AccessDeniedException", self.delete, point=point))
        self.assertEqual(json.loads(self.backup.get_backup_vault_access_policy(BackupVaultName="main")["Policy"]), policy)
        self.backup.delete_backup_vault_access_policy(BackupVaultName="main")
        self.delete(point)


class Jobs(WithDatabases):
    def test_states_and_point(self):
        name = self.start(Lifecycle={"DeleteAfterDays": 30}, RecoveryPointTags={"made-by": "holdfast"})
        self.assertEqual(self.instance("db1")["DBInstanceStatus"], "backing-up")
        self.assertEqual(self.until("COMPLETED", lambda: self.job(name), "State"), ["RUNNING"])
        found = self.job(name)
        point = self.backup.describe_recovery_point(BackupVaultName="main", RecoveryPointArn=found["RecoveryPointArn"])
        self.assertEqual((point["Status"], point["ResourceType"], point["StorageClass"]), ("COMPLETED", "RDS", "WARM"))
        self.assertEqual(point["CalculatedLifecycle"]["DeleteAt"] - point["CreationDate"], timedelta(days=30))
        # It is a snapshot of RDS, and has its tags there; AWS Backup lists none of what it does not manage wholly.
        tags = self.rds.list_tags_for_resource(ResourceName=found["RecoveryPointArn"])["TagList"]
        self.assertEqual({t["Key"]: t["Value"] for t in tags}, {"backup": "daily", "made-by": "holdfast"})
        self.refused("InvalidParameterValueException", self.backup.list_tags, ResourceArn=found["RecoveryPointArn"])
        snapshot = self.rds.describe_db_snapshots(SnapshotType="awsbackup")["DBSnapshots"][0]
        self.assertEqual(snapshot["DBSnapshotArn"], found["RecoveryPointArn"])
        self.assertTrue(snapshot["DBSnapshotIdentifier"].startswith("awsbackup:job-"))

    def test_clusters(self):
        aurora, docdb = self.point(ResourceArn=self.arn("cluster", "c1")), self.point(ResourceArn=self.arn("cluster", "d1"))
        self.assertEqual({p["RecoveryPointArn"]: p["ResourceType"] for p in self.points()}, {aurora: "Aurora", docdb: "DocumentDB"})

    def test_refusals(self):
        self.refused("ResourceNotFoundException", self.start, BackupVaultName="nope")
        self.refused("InvalidParameterValueException", self.start, StartWindowMinutes=30)
        self.refused("InvalidParameterValueException", self.start, StartWindowMinutes=60, CompleteWindowMinutes=60)
        self.refused("InvalidParameterValueException", self.start, IamRoleArn=f"arn:aws:iam::{ACCOUNT}:role/nobody")
        self.refused("InvalidParameterValueException", self.start, IamRoleArn="backup")
        self.refused("InvalidParameterValueException", self.start, ResourceArn="db1")
        self.refused("InvalidParameterValueException", self.start, Lifecycle={"MoveToColdStorageAfterDays": 30, "DeleteAfterDays": 90})  # X6

    def test_role_must_trust_the_service(self):
        self.client("iam").create_role(RoleName="untrusted", AssumeRolePolicyDocument='{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"Service":"ec2.amazonaws.com"},"Action":"sts:AssumeRole"}]}')
        self.assertIn("cannot be assumed", self.refused("InvalidParameterValueException", self.start, IamRoleArn=f"arn:aws:iam::{ACCOUNT}:role/untrusted"))

    def test_cold_storage_is_silently_ignored(self):  # X7
        point = self.point(Lifecycle={"MoveToColdStorageAfterDays": 30, "DeleteAfterDays": 365})
        self.advance(100 * DAY)
        found = self.backup.describe_recovery_point(BackupVaultName="main", RecoveryPointArn=point)
        self.assertEqual(found["StorageClass"], "WARM")
        self.assertNotIn("MoveToColdStorageAt", found["CalculatedLifecycle"])

    def test_missing_database_fails_the_job(self):
        found = self.job(self.start(ResourceArn=self.arn("db", "nope")))
        self.assertEqual(found["State"], "FAILED")

    def test_waits_in_the_start_window_then_expires(self):  # X5
        self.rds.stop_db_instance(DBInstanceIdentifier="db1")
        self.post("settle")
        name = self.start(StartWindowMinutes=60)
        self.assertEqual(self.job(name)["State"], "CREATED")
        self.advance(3601)
        self.assertEqual(self.job(name)["State"], "EXPIRED")
        late = self.start(StartWindowMinutes=60)
        self.rds.start_db_instance(DBInstanceIdentifier="db1")
        self.post("settle")
        self.until("COMPLETED", lambda: self.job(late), "State")

    def test_scripted_ends(self):
        for state in ("FAILED", "ABORTED", "PARTIAL", "EXPIRED"):
            self.post("faults", {"kind": "fail", "operation": "backup-job", "state": state, "message": "as scripted"})
            name = self.start()
            self.until(state, lambda: self.job(name), "State")
            self.assertEqual(self.job(name)["StatusMessage"], "as scripted")
        self.assertEqual([p["Status"] for p in self.points()], ["PARTIAL"])
        self.assertEqual(len(self.rds.describe_db_snapshots(SnapshotType="awsbackup")["DBSnapshots"]), 1)
        listed = self.backup.list_backup_jobs(ByState="ABORTED")["BackupJobs"]
        self.assertEqual(len(listed), 1)

    def test_role_without_permission(self):
        self.post("faults", {"kind": "deny", "action": "rds:CreateDBSnapshot", "principal": ROLE})
        found = self.job(self.start())
        self.assertEqual(found["State"], "FAILED")
        self.assertIn("rds:CreateDBSnapshot", found["StatusMessage"])

    def test_idempotency_token(self):
        self.assertEqual(self.start(IdempotencyToken="a"), self.start(IdempotencyToken="a"))
        self.assertEqual(len(self.backup.list_backup_jobs()["BackupJobs"]), 1)

    def test_cannot_be_stopped(self):
        self.refused("InvalidRequestException", self.backup.stop_backup_job, BackupJobId=self.start())


class Points(WithDatabases):
    def test_expiry(self):
        self.point(Lifecycle={"DeleteAfterDays": 2})
        self.advance(2 * DAY - 3600)
        self.assertEqual(len(self.points()), 1)
        self.advance(7200)
        self.assertEqual(self.points(), [])
        self.assertEqual(self.rds.describe_db_snapshots(SnapshotType="awsbackup")["DBSnapshots"], [])

    def test_legal_hold(self):
        point = self.point(Lifecycle={"DeleteAfterDays": 2})
        hold = self.backup.create_legal_hold(Title="case 1", Description="d", RecoveryPointSelection={"VaultNames": ["main"]})
        self.assertEqual(hold["Status"], "ACTIVE")
        self.assertIn("legal hold", self.refused("InvalidRequestException", self.delete, point=point))
        self.advance(10 * DAY)
        self.assertEqual(len(self.points()), 1)
        self.assertEqual(self.backup.list_recovery_points_by_legal_hold(LegalHoldId=hold["LegalHoldId"])["RecoveryPoints"][0]["RecoveryPointArn"], point)
        self.backup.cancel_legal_hold(LegalHoldId=hold["LegalHoldId"], CancelDescription="over")
        self.assertEqual(self.points(), [])
        self.assertEqual(self.backup.get_legal_hold(LegalHoldId=hold["LegalHoldId"])["Status"], "CANCELED")

    def test_lists(self):
        self.seed(points={"source": "db1", "vault": "main", "count": 250})
        self.assertEqual(len(self.backup.get_paginator("list_recovery_points_by_backup_vault").paginate(BackupVaultName="main").build_full_result()["RecoveryPoints"]), 250)
        self.assertEqual(len(self.points()), 100)
        times = [p["CreationDate"] for p in self.points()]
        self.point()
        # The newest comes wherever its name puts it (X11).
        self.assertEqual(len(self.backup.list_recovery_points_by_resource(ResourceArn=self.db, MaxResults=10)["RecoveryPoints"]), 10)
        self.assertNotEqual(times, sorted(times))
        self.assertEqual(self.backup.list_protected_resources()["Results"][0]["ResourceArn"], self.db)

    def test_tags(self):
        vault = self.backup.describe_backup_vault(BackupVaultName="main")["BackupVaultArn"]
        self.backup.tag_resource(ResourceArn=vault, Tags={"a": "b", "c": "d"})
        self.backup.untag_resource(ResourceArn=vault, TagKeyList=["c"])
        self.assertEqual(self.backup.list_tags(ResourceArn=vault)["Tags"], {"a": "b"})
        self.refused("ResourceNotFoundException", self.backup.list_tags, ResourceArn=vault + "x")
        point = self.point()
        for call, more in ((self.backup.tag_resource, {"Tags": {"a": "b"}}), (self.backup.untag_resource, {"TagKeyList": ["a"]})):
            self.refused("InvalidParameterValueException", call, ResourceArn=point, **more)


class Copies(WithDatabases):
    def copy(self, point, **more):
        arguments = {"RecoveryPointArn": point, "SourceBackupVaultName": "main", "DestinationBackupVaultArn": self.dr, "IamRoleArn": ROLE, **more}
        return self.backup.start_copy_job(**arguments)["CopyJobId"]

    def job_of(self, name):
        return self.backup.describe_copy_job(CopyJobId=name)["CopyJob"]

    def test_other_region(self):
        point = self.point()
        name = self.copy(point, Lifecycle={"DeleteAfterDays": 90})
        self.refused("InvalidRequestException", self.delete, point=point)
        self.until("COMPLETED", lambda: self.job_of(name), "State")
        copy = self.points("dr", self.backup_west)[0]
        self.assertEqual(copy["RecoveryPointArn"], self.job_of(name)["DestinationRecoveryPointArn"])
        self.assertIn(f":{WEST}:", copy["RecoveryPointArn"])
        self.assertIn(f":{WEST}:", copy["EncryptionKeyArn"])
        self.assertEqual(copy["CalculatedLifecycle"]["DeleteAt"] - copy["CreationDate"], timedelta(days=90))
        self.delete(point)

    def test_refusals(self):
        point = self.point()
        wrong = f"arn:aws:backup:{WEST}:{ACCOUNT}:vault/dr"  # X10
        self.refused("InvalidParameterValueException", self.copy, point=point, DestinationBackupVaultArn=wrong)
        self.refused("ResourceNotFoundException", self.copy, point=point, DestinationBackupVaultArn=self.dr + "2")
        self.refused("ResourceNotFoundException", self.copy, point=point + "2")

    def test_lock_of_the_destination(self):
        self.backup_west.put_backup_vault_lock_configuration(BackupVaultName="dr", MinRetentionDays=30)
        found = self.job_of(self.copy(self.point(), Lifecycle={"DeleteAfterDays": 7}))
        self.assertEqual(found["State"], "FAILED")

    def test_key_of_the_destination(self):
        kms = self.client("kms", WEST)
        key = kms.create_key()["KeyMetadata"]
        self.backup_west.create_backup_vault(BackupVaultName="dr2", EncryptionKeyArn=key["Arn"])
        kms.disable_key(KeyId=key["KeyId"])
        found = self.job_of(self.copy(self.point(), DestinationBackupVaultArn=self.dr + "2"))
        self.assertEqual(found["State"], "FAILED")

    def test_failure_on_the_way(self):
        self.post("faults", {"kind": "fail", "operation": "copy-job", "message": "no network"})
        name = self.copy(self.point())
        self.until("FAILED", lambda: self.job_of(name), "State")
        self.assertEqual(self.points("dr", self.backup_west), [])
        self.assertEqual(self.rds_west.describe_db_snapshots(SnapshotType="awsbackup")["DBSnapshots"], [])


class Restores(WithDatabases):
    def restore(self, point, metadata, backup=None, **more):
        return (backup or self.backup).start_restore_job(**{"RecoveryPointArn": point, "Metadata": metadata, "IamRoleArn": ROLE, **more})["RestoreJobId"]

    def job_of(self, name, backup=None):
        return (backup or self.backup).describe_restore_job(RestoreJobId=name)

    def metadata(self, point, vault="main"):
        return self.backup.get_recovery_point_restore_metadata(BackupVaultName=vault, RecoveryPointArn=point)["RestoreMetadata"]

    def test_instance(self):
        point = self.point()
        metadata = {**self.metadata(point), "DBInstanceIdentifier": "new", "DBInstanceClass": "db.t3.micro"}
        name = self.restore(point, metadata, CopySourceTagsToRestoredResource=True)
        self.assertEqual(self.until("COMPLETED", lambda: self.job_of(name), "Status"), ["RUNNING", "RUNNING"])
        self.assertEqual(self.job_of(name)["CreatedResourceArn"], self.arn("db", "new"))
        self.assertEqual(self.instance("new")["DBInstanceClass"], "db.t3.micro")
        self.assertEqual(self.instance("new")["TagList"], [{"Key": "backup", "Value": "daily"}])

    def test_cluster_without_instances(self):
        point = self.point(ResourceArn=self.arn("cluster", "c1"))
        name = self.restore(point, {**self.metadata(point), "DBClusterIdentifier": "new"})
        self.until("COMPLETED", lambda: self.job_of(name), "Status")
        self.assertEqual(self.cluster("new")["DBClusterMembers"], [])

    def test_refusals(self):
        point = self.point()
        self.refused("InvalidParameterValueException", self.restore, point=point, metadata={})
        self.refused("InvalidParameterValueException", self.restore, point=point, metadata={"DBInstanceIdentifier": "n", "Colour": "red"})
        self.refused("InvalidParameterValueException", self.restore, point=point, metadata={"DBInstanceIdentifier": "n", "MultiAZ": "perhaps"})
        self.refused("InvalidParameterValueException", self.backup.start_restore_job, RecoveryPointArn=point, Metadata={"DBInstanceIdentifier": "n"})
        self.refused("ResourceNotFoundException", self.restore, point=point + "x", metadata={"DBInstanceIdentifier": "n"})

    def test_what_rds_refuses_fails_the_job(self):
        point = self.point()
        found = self.job_of(self.restore(point, {"DBInstanceIdentifier": "db1"}))
        self.assertEqual(found["Status"], "FAILED")
        self.assertIn("already exists", found["StatusMessage"])
        self.post("faults", {"kind": "deny", "action": "rds:RestoreDBInstanceFromDBSnapshot", "principal": ROLE})
        self.assertEqual(self.job_of(self.restore(point, {"DBInstanceIdentifier": "n"}))["Status"], "FAILED")


class Plans(WithDatabases):
    def rule(self, **more):
        return {"RuleName": "daily", "TargetBackupVaultName": "main", "ScheduleExpression": "cron(0 3 * * ? *)", "StartWindowMinutes": 60, **more}

    def plan(self, *rules, name="p"):
        return self.backup.create_backup_plan(BackupPlan={"BackupPlanName": name, "Rules": list(rules)})["BackupPlanId"]

    def select(self, plan, **more):
        selection = {"SelectionName": "s", "IamRoleArn": ROLE, **more}
        return self.backup.create_backup_selection(BackupPlanId=plan, BackupSelection=selection)["SelectionId"]

    def test_refusals(self):
        def refused(**change):
            plan = {"BackupPlanName": "p", "Rules": [self.rule(**change)]}
            return self.refused("InvalidParameterValueException", self.backup.create_backup_plan, BackupPlan=plan)
        refused(StartWindowMinutes=30)
        refused(Lifecycle={"MoveToColdStorageAfterDays": 30, "DeleteAfterDays": 90})  # X6
        refused(TargetBackupVaultName="nope")
        refused(ScheduleExpression="0 3 * * *")
        refused(ScheduleExpression="cron(0 3 * * * *)")
        refused(ScheduleExpression="cron(0 25 * * ? *)")
        refused(ScheduleExpressionTimezone="Mars/Olympus")
        refused(EnableContinuousBackup=True)
        refused(EnableContinuousBackup=True, Lifecycle={"DeleteAfterDays": 36})
        refused(CopyActions=[{"DestinationBackupVaultArn": f"arn:aws:backup:{WEST}:{ACCOUNT}:vault/dr"}])  # X10

    def test_runs_when_its_time_comes(self):
        plan = self.plan(self.rule(Lifecycle={"DeleteAfterDays": 5}, CopyActions=[{"DestinationBackupVaultArn": self.dr, "Lifecycle": {"DeleteAfterDays": 10}}]))
        self.select(plan, ListOfTags=[{"ConditionType": "STRINGEQUALS", "ConditionKey": "backup", "ConditionValue": "daily"}])
        self.advance(8 * DAY)
        jobs = self.backup.list_backup_jobs()["BackupJobs"]
        self.assertEqual(len(jobs), 8)
        self.assertEqual({j["CreatedBy"]["BackupPlanId"] for j in jobs}, {plan})
        self.assertEqual({j["CreationDate"].astimezone(timezone.utc).hour for j in jobs}, {3})
        self.post("settle")
        self.assertEqual(len(self.points()), 5)
        self.assertEqual(len(self.points("dr", self.backup_west)), 8)
        self.assertIn("LastExecutionDate", self.backup.get_backup_plan(BackupPlanId=plan))

    def test_selection_by_arn_and_removal(self):
        plan = self.plan(self.rule())
        self.refused("InvalidParameterValueException", self.select, plan=plan)
        self.refused("InvalidParameterValueException", self.select, plan=plan, Resources=["db1"])
        selection = self.select(plan, Resources=["arn:aws:rds:*:*:cluster:*"], NotResources=[self.arn("cluster", "d1")])
        self.post("run-plans", {})
        self.assertEqual([j["ResourceArn"] for j in self.backup.list_backup_jobs()["BackupJobs"]], [self.arn("cluster", "c1")])
        self.refused("InvalidRequestException", self.backup.delete_backup_plan, BackupPlanId=plan)
        self.backup.delete_backup_selection(BackupPlanId=plan, SelectionId=selection)
        self.backup.delete_backup_plan(BackupPlanId=plan)
        self.refused("ResourceNotFoundException", self.backup.get_backup_plan, BackupPlanId=plan)
        self.advance(3 * DAY)
        self.assertEqual(len(self.backup.list_backup_jobs()["BackupJobs"]), 1)

    def test_update_replaces_the_schedule(self):
        plan = self.plan(self.rule())
        self.select(plan, Resources=[self.db])
        before = self.backup.get_backup_plan(BackupPlanId=plan)["VersionId"]
        self.backup.update_backup_plan(BackupPlanId=plan, BackupPlan={"BackupPlanName": "p", "Rules": [self.rule(ScheduleExpression="cron(0 4 1 * ? *)")]})
        self.assertNotEqual(self.backup.get_backup_plan(BackupPlanId=plan)["VersionId"], before)
        self.advance(62 * DAY)
        days = [j["CreationDate"].astimezone(timezone.utc).day for j in self.backup.list_backup_jobs()["BackupJobs"]]
        self.assertIn(days, ([1, 1], [1, 1, 1]))

    def test_continuous(self):
        plan = self.plan(self.rule(EnableContinuousBackup=True, Lifecycle={"DeleteAfterDays": 14}))
        self.select(plan, Resources=[self.db])
        self.post("run-plans", {})
        self.post("run-plans", {})
        point = self.points()[0]
        self.assertEqual((len(self.points()), point["Status"]), (1, "AVAILABLE"))
        found = self.instance("db1")
        self.assertEqual((found["BackupRetentionPeriod"], found["AwsBackupRecoveryPointArn"]), (14, point["RecoveryPointArn"]))
        # Its settings belong to AWS Backup now.
        self.refused("InvalidParameterCombination", self.rds.modify_db_instance, DBInstanceIdentifier="db1", BackupRetentionPeriod=7)
        self.refused("InvalidRequestException", self.backup.update_recovery_point_lifecycle, BackupVaultName="main", RecoveryPointArn=point["RecoveryPointArn"], Lifecycle={"DeleteAfterDays": 7})
        # One per database.
        self.backup.create_backup_vault(BackupVaultName="second")
        other = self.plan(self.rule(EnableContinuousBackup=True, Lifecycle={"DeleteAfterDays": 14}, TargetBackupVaultName="second"), name="q")
        self.select(other, Resources=[self.db])
        self.post("run-plans", {})
        self.assertIn("FAILED", [j["State"] for j in self.backup.list_backup_jobs()["BackupJobs"]])
        # A restore to a second needs one.
        metadata = {**self.backup.get_recovery_point_restore_metadata(BackupVaultName="main", RecoveryPointArn=point["RecoveryPointArn"])["RestoreMetadata"], "DBInstanceIdentifier": "new"}
        start = lambda **m: self.backup.start_restore_job(RecoveryPointArn=point["RecoveryPointArn"], Metadata={**metadata, **m}, IamRoleArn=ROLE)["RestoreJobId"]
        state = lambda name: self.backup.describe_restore_job(RestoreJobId=name)["Status"]
        self.assertEqual(state(start()), "FAILED")
        self.assertEqual(state(start(RestoreTime="1999-01-01T00:00:00Z")), "FAILED")
        self.assertEqual(state(start(UseLatestRestorableTime="true")), "RUNNING")
        # A copy of it is a snapshot.
        copy = self.backup.start_copy_job(RecoveryPointArn=point["RecoveryPointArn"], SourceBackupVaultName="main", DestinationBackupVaultArn=self.dr, IamRoleArn=ROLE)["CopyJobId"]
        self.post("settle")
        self.assertIn(":snapshot:awsbackup:", self.backup.describe_copy_job(CopyJobId=copy)["CopyJob"]["DestinationRecoveryPointArn"])
        # Given back, RDS keeps the retention; deleted, there is no automated backup any more.
        self.backup.disassociate_recovery_point(BackupVaultName="main", RecoveryPointArn=point["RecoveryPointArn"])
        self.assertEqual(self.instance("db1")["BackupRetentionPeriod"], 14)
        self.assertNotIn("AwsBackupRecoveryPointArn", self.instance("db1"))


class Schedules(unittest.TestCase):
    def after(self, text, moment, zone=None):
        import sys

        from harness import ROOT
        sys.path.insert(0, ROOT)
        from aws_standin.backup.schedule import Schedule
        start = datetime.fromisoformat(moment).replace(tzinfo=timezone.utc).timestamp()
        return datetime.fromtimestamp(Schedule(text, zone).after(start), timezone.utc).strftime("%Y-%m-%d %H:%M")

    def test_next_times(self):
        for text, zone, expected in (
            ("cron(0 3 * * ? *)", None, "2026-11-23 03:00"),
            ("cron(0 4 ? * SUN *)", None, "2026-11-22 04:00"),
            ("cron(0 5 1 * ? *)", None, "2026-12-01 05:00"),
            ("cron(0 2 ? * 1#1 *)", None, "2026-12-06 02:00"),  # the first Sunday
            ("cron(30 6 L * ? *)", None, "2026-11-30 06:30"),
            ("cron(0 0/6 * * ? *)", None, "2026-11-22 06:00"),
            ("cron(0 3 * * ? *)", "America/New_York", "2026-11-22 08:00"),
            ("cron(15 1-3,22 ? JAN MON-FRI 2027)", None, "2027-01-01 01:15"),
        ):
            self.assertEqual(self.after(text, "2026-11-22T03:30:00", zone), expected, text)


if __name__ == "__main__":
    unittest.main()
