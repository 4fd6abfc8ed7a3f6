"""Instances: creation, settings, modification, deletion, automated backups."""

import unittest
from datetime import timedelta

from harness import ACCOUNT, EAST, WEST, Case

DAY = 86400
NEW = {
    "DBInstanceIdentifier": "db1", "Engine": "postgres", "DBInstanceClass": "db.t3.micro", "AllocatedStorage": 20,
    "MasterUsername": "postgres", "MasterUserPassword": "correct-horse",
}


class Create(Case):
    def test_states_and_defaults(self):
        made = self.rds.create_db_instance(**NEW)["DBInstance"]
        self.assertEqual(made["DBInstanceStatus"], "creating")
        self.assertNotIn("Endpoint", made)
        self.assertEqual(made["BackupRetentionPeriod"], 1)
        self.post("config", {"polls": {"create": 4}})
        self.rds.create_db_instance(**{**NEW, "DBInstanceIdentifier": "db2"})
        self.assertEqual(self.until("available", lambda: self.instance("db2")), ["creating", "creating", "backing-up", "backing-up"])
        found = self.instance("db2")
        self.assertEqual(found["Endpoint"]["Port"], 5432)
        self.assertEqual(found["DBSubnetGroup"]["DBSubnetGroupName"], "default")
        self.assertEqual(found["DBParameterGroups"][0]["DBParameterGroupName"], "default.postgres17")
        self.assertTrue(found["VpcSecurityGroups"][0]["VpcSecurityGroupId"].startswith("sg-"))
        # Nothing to restore from before the lag has passed.
        self.assertNotIn("LatestRestorableTime", found)
        self.advance(301)
        self.assertIn("LatestRestorableTime", self.instance("db2"))

    def test_waiter(self):
        self.rds.create_db_instance(**NEW)
        self.rds.get_waiter("db_instance_available").wait(DBInstanceIdentifier="db1", WaiterConfig={"Delay": 0.01, "MaxAttempts": 10})

    def test_refusals(self):
        def refused(code, **change):
            return self.refused(code, self.rds.create_db_instance, **{**NEW, **change})
        refused("InvalidParameterValue", DBInstanceClass="db.t9.micro")
        refused("InvalidParameterValue", DBInstanceClass="db.r6g.micro")
        refused("InvalidParameterCombination", DBInstanceClass="db.serverless")
        refused("InvalidParameterCombination", EngineVersion="17.99")
        refused("InvalidParameterValue", Engine="dbase")
        refused("InvalidParameterCombination", AllocatedStorage=5)
        refused("InvalidParameterValue", BackupRetentionPeriod=36)
        refused("InvalidParameterValue", BackupRetentionPeriod=99)
        refused("InvalidParameterValue", MasterUserPassword="short")
        refused("InvalidParameterValue", DBInstanceIdentifier="1db")
        refused("InvalidParameterValue", DBInstanceIdentifier="a--b")
        refused("InvalidParameterValue", PreferredBackupWindow="3:00-4:00")
        refused("InvalidParameterValue", PreferredBackupWindow="03:00-03:20")
        refused("InvalidParameterValue", PreferredMaintenanceWindow="xyz:03:00-xyz:04:00")
        refused("InvalidParameterValue", PreferredBackupWindow="03:00-04:00", PreferredMaintenanceWindow="sun:03:30-sun:04:30")
        refused("DBSubnetGroupNotFoundFault", DBSubnetGroupName="nowhere")
        refused("DBParameterGroupNotFound", DBParameterGroupName="nothing")
        refused("OptionGroupNotFoundFault", OptionGroupName="nothing")
        refused("InvalidParameterValue", VpcSecurityGroupIds=["sg-nothing"])
        refused("KMSKeyNotAccessibleFault", StorageEncrypted=True, KmsKeyId="no-such-key")
        refused("InvalidParameterCombination", KmsKeyId="alias/aws/rds")
        self.assertEqual(self.rds.describe_db_instances()["DBInstances"], [])

    def test_no_overlap_across_midnight_and_week(self):
        # The window 23:45 to 00:15 of Saturday runs into Sunday's maintenance.
        self.refused("InvalidParameterValue", self.rds.create_db_instance, **NEW, PreferredBackupWindow="23:45-00:15", PreferredMaintenanceWindow="mon:00:00-mon:01:00")
        self.rds.create_db_instance(**NEW, PreferredBackupWindow="23:45-00:15", PreferredMaintenanceWindow="mon:00:15-mon:01:00")

    def test_duplicate_and_quota(self):
        self.rds.create_db_instance(**NEW)
        self.refused("DBInstanceAlreadyExists", self.rds.create_db_instance, **{**NEW, "DBInstanceIdentifier": "DB1"})
        self.post("config", {"quotas": {"instances": 1}})
        self.refused("InstanceQuotaExceeded", self.rds.create_db_instance, **{**NEW, "DBInstanceIdentifier": "db2"})

    def test_groups_that_exist(self):
        subnets = [s["SubnetId"] for s in self.client("ec2").describe_subnets()["Subnets"]]
        self.refused("DBSubnetGroupDoesNotCoverEnoughAZs", self.rds.create_db_subnet_group, DBSubnetGroupName="one", DBSubnetGroupDescription="d", SubnetIds=subnets[:1])
        self.refused("InvalidSubnet", self.rds.create_db_subnet_group, DBSubnetGroupName="bad", DBSubnetGroupDescription="d", SubnetIds=["subnet-x"])
        self.rds.create_db_subnet_group(DBSubnetGroupName="isolated", DBSubnetGroupDescription="d", SubnetIds=subnets[:2])
        self.rds.create_db_parameter_group(DBParameterGroupName="tuned", DBParameterGroupFamily="postgres17", Description="d")
        self.rds.create_db_parameter_group(DBParameterGroupName="old", DBParameterGroupFamily="postgres13", Description="d")
        self.refused("InvalidParameterValue", self.rds.create_db_instance, **NEW, DBParameterGroupName="old")
        made = self.rds.create_db_instance(**NEW, DBParameterGroupName="tuned", DBSubnetGroupName="isolated")["DBInstance"]
        self.assertEqual(made["DBParameterGroups"][0]["DBParameterGroupName"], "tuned")
        self.refused("InvalidDBSubnetGroupStateFault", self.rds.delete_db_subnet_group, DBSubnetGroupName="isolated")


class Modify(Case):
    def setUp(self):
        super().setUp()
        self.seed(instances=[{"DBInstanceIdentifier": "db1", "age": 10 * DAY, "AllocatedStorage": 100}])

    def modify(self, **change):
        return self.rds.modify_db_instance(DBInstanceIdentifier="db1", **change)["DBInstance"]

    def test_retention_range(self):
        self.refused("InvalidParameterValue", self.modify, BackupRetentionPeriod=99)
        self.refused("InvalidParameterValue", self.modify, BackupRetentionPeriod=-1)

    def test_retention_changes_show_modifying(self):
        self.assertEqual(self.modify(BackupRetentionPeriod=14)["DBInstanceStatus"], "available")
        self.assertEqual(self.until("available", lambda: self.instance("db1")), ["modifying", "modifying"])
        self.assertEqual(self.instance("db1")["BackupRetentionPeriod"], 14)

    def test_only_when_available(self):
        self.modify(BackupRetentionPeriod=14)
        self.refused("InvalidDBInstanceState", self.modify, BackupRetentionPeriod=15)

    def test_retention_zero_removes_automated_backups(self):
        self.assertEqual(len(self.rds.describe_db_snapshots(SnapshotType="automated")["DBSnapshots"]), 8)
        self.modify(BackupRetentionPeriod=0)
        self.post("settle")
        # Between zero and more it waits for the window unless it is to be applied at once.
        self.assertEqual(self.instance("db1")["PendingModifiedValues"], {"BackupRetentionPeriod": 0})
        self.modify(BackupRetentionPeriod=0, ApplyImmediately=True)
        self.until("available", lambda: self.instance("db1"))
        self.assertEqual(self.rds.describe_db_snapshots(SnapshotType="automated")["DBSnapshots"], [])
        self.assertEqual(self.rds.describe_db_instance_automated_backups()["DBInstanceAutomatedBackups"], [])
        self.refused("PointInTimeRestoreNotEnabled", self.rds.restore_db_instance_to_point_in_time, SourceDBInstanceIdentifier="db1", TargetDBInstanceIdentifier="n", UseLatestRestorableTime=True)

    def test_windows(self):
        self.refused("InvalidParameterValue", self.modify, PreferredBackupWindow="10:00-10:30")  # the maintenance window
        self.modify(PreferredBackupWindow="03:00-04:00")
        self.post("settle")
        self.assertEqual(self.instance("db1")["PreferredBackupWindow"], "03:00-04:00")

    def test_storage(self):
        self.refused("InvalidParameterCombination", self.modify, AllocatedStorage=50, ApplyImmediately=True)
        self.modify(AllocatedStorage=101, ApplyImmediately=True)
        self.post("settle")
        self.assertEqual(self.instance("db1")["AllocatedStorage"], 110)

    def test_deferred_changes_stay_pending(self):
        self.assertEqual(self.modify(DBInstanceClass="db.t3.large")["PendingModifiedValues"], {"DBInstanceClass": "db.t3.large"})
        self.assertEqual(self.instance("db1")["DBInstanceClass"], "db.t3.medium")
        self.modify(DBInstanceClass="db.t3.large", ApplyImmediately=True)
        self.until("available", lambda: self.instance("db1"))
        self.assertEqual(self.instance("db1")["DBInstanceClass"], "db.t3.large")

    def test_versions_never_go_back(self):
        self.refused("InvalidParameterCombination", self.modify, EngineVersion="16.8", ApplyImmediately=True)
        self.refused("InvalidParameterCombination", self.modify, EngineVersion="18.1", ApplyImmediately=True)

    def test_rename(self):
        old = self.instance("db1")
        self.seed(instances=[{"DBInstanceIdentifier": "taken"}])
        self.refused("DBInstanceAlreadyExists", self.modify, NewDBInstanceIdentifier="taken", ApplyImmediately=True)
        self.modify(NewDBInstanceIdentifier="db1-old", ApplyImmediately=True)
        self.assertEqual(self.instance("db1")["DBInstanceStatus"], "renaming")
        self.post("settle")
        self.refused("DBInstanceNotFound", self.instance, name="db1")
        new = self.instance("db1-old")
        self.assertEqual(new["DbiResourceId"], old["DbiResourceId"])
        self.assertNotEqual(new["Endpoint"], old["Endpoint"])
        backup = self.rds.describe_db_instance_automated_backups(DbiResourceId=old["DbiResourceId"])["DBInstanceAutomatedBackups"][0]
        self.assertEqual(backup["DBInstanceIdentifier"], "db1-old")


class Delete(Case):
    def setUp(self):
        super().setUp()
        self.seed(instances=[{"DBInstanceIdentifier": "db1", "age": 10 * DAY, "Tags": [{"Key": "a", "Value": "b"}]}])
        self.resource = self.instance("db1")["DbiResourceId"]

    def gone(self):
        self.rds.get_waiter("db_instance_deleted").wait(DBInstanceIdentifier="db1", WaiterConfig={"Delay": 0.01, "MaxAttempts": 10})

    def delete(self, **more):
        return self.rds.delete_db_instance(DBInstanceIdentifier="db1", **more)

    def test_final_snapshot_must_be_decided(self):  # X16
        self.refused("InvalidParameterCombination", self.delete)
        self.refused("InvalidParameterCombination", self.delete, SkipFinalSnapshot=True, FinalDBSnapshotIdentifier="f")
        self.assertEqual(self.instance("db1")["DBInstanceStatus"], "available")

    def test_protection(self):
        self.rds.modify_db_instance(DBInstanceIdentifier="db1", DeletionProtection=True)
        self.refused("InvalidParameterCombination", self.delete, SkipFinalSnapshot=True)

    def test_takes_automated_backups_along(self):  # X15, X32
        self.delete(FinalDBSnapshotIdentifier="final")
        self.assertEqual(self.instance("db1")["DBInstanceStatus"], "deleting")
        self.refused("InvalidDBInstanceState", self.delete, SkipFinalSnapshot=True)
        self.gone()
        self.assertEqual(self.rds.describe_db_instance_automated_backups()["DBInstanceAutomatedBackups"], [])
        self.assertEqual([s["DBSnapshotIdentifier"] for s in self.rds.describe_db_snapshots()["DBSnapshots"]], ["final"])
        self.refused("DBInstanceNotFound", self.rds.restore_db_instance_to_point_in_time, SourceDBInstanceIdentifier="db1", TargetDBInstanceIdentifier="n", UseLatestRestorableTime=True)
        self.refused("DBInstanceAutomatedBackupNotFound", self.rds.restore_db_instance_to_point_in_time, SourceDbiResourceId=self.resource, TargetDBInstanceIdentifier="n", UseLatestRestorableTime=True)

    def test_retained_backups_restore_and_expire(self):
        self.delete(SkipFinalSnapshot=True, DeleteAutomatedBackups=False)
        self.gone()
        backup = self.rds.describe_db_instance_automated_backups()["DBInstanceAutomatedBackups"][0]
        self.assertEqual(backup["Status"], "retained")
        self.refused("DBInstanceNotFound", self.rds.restore_db_instance_to_point_in_time, SourceDBInstanceIdentifier="db1", TargetDBInstanceIdentifier="n", UseLatestRestorableTime=True)
        self.rds.restore_db_instance_to_point_in_time(SourceDbiResourceId=self.resource, TargetDBInstanceIdentifier="n1", UseLatestRestorableTime=True)
        self.rds.restore_db_instance_to_point_in_time(
            SourceDBInstanceAutomatedBackupsArn=backup["DBInstanceAutomatedBackupsArn"], TargetDBInstanceIdentifier="n2", RestoreTime=backup["RestoreWindow"]["LatestTime"] - timedelta(hours=1)
        )
        self.advance(8 * DAY)
        self.assertNotIn("retained", [b["Status"] for b in self.rds.describe_db_instance_automated_backups()["DBInstanceAutomatedBackups"]])

    def test_retained_quota_and_removal(self):
        self.post("config", {"quotas": {"retained-backups": 0}})
        self.refused("DBInstanceAutomatedBackupQuotaExceeded", self.delete, SkipFinalSnapshot=True, DeleteAutomatedBackups=False)
        self.post("config", {"quotas": {"retained-backups": 40}})
        self.refused("InvalidDBInstanceAutomatedBackupState", self.rds.delete_db_instance_automated_backup, DbiResourceId=self.resource)
        self.delete(SkipFinalSnapshot=True, DeleteAutomatedBackups=False)
        self.rds.delete_db_instance_automated_backup(DbiResourceId=self.resource)
        self.refused("DBInstanceAutomatedBackupNotFound", self.rds.describe_db_instance_automated_backups, DbiResourceId=self.resource)

    def test_no_final_snapshot_of_what_is_not_there_yet(self):
        self.rds.create_db_instance(**{**NEW, "DBInstanceIdentifier": "db2"})
        self.refused("InvalidDBInstanceState", self.rds.delete_db_instance, DBInstanceIdentifier="db2", FinalDBSnapshotIdentifier="f")
        self.rds.delete_db_instance(DBInstanceIdentifier="db2", SkipFinalSnapshot=True)

    def test_final_snapshot_counts_for_the_quota_and_keeps_tags_if_asked(self):
        self.post("config", {"quotas": {"manual-snapshots": 0}})
        self.refused("SnapshotQuotaExceeded", self.delete, FinalDBSnapshotIdentifier="f")
        self.post("config", {"quotas": {"manual-snapshots": 1}})
        self.rds.modify_db_instance(DBInstanceIdentifier="db1", CopyTagsToSnapshot=True)
        self.delete(FinalDBSnapshotIdentifier="f")
        self.assertEqual(self.snapshot("f")["TagList"], [{"Key": "a", "Value": "b"}])


class Automated(Case):
    def test_daily_snapshots_and_their_expiry(self):
        self.seed(instances=[{"DBInstanceIdentifier": "db1", "BackupRetentionPeriod": 3}])
        self.advance(10 * DAY)
        found = self.rds.describe_db_snapshots(SnapshotType="automated")["DBSnapshots"]
        # One more than days: the oldest second of the window needs a snapshot before it.
        self.assertEqual(len(found), 4)
        self.assertTrue(all(s["DBSnapshotIdentifier"].startswith("rds:db1-") for s in found))
        self.refused("InvalidDBSnapshotState", self.rds.delete_db_snapshot, DBSnapshotIdentifier=found[0]["DBSnapshotIdentifier"])

    def test_window_follows_time(self):
        self.seed(instances=[{"DBInstanceIdentifier": "db1", "age": 10 * DAY}])
        window = self.rds.describe_db_instance_automated_backups()["DBInstanceAutomatedBackups"][0]["RestoreWindow"]
        self.assertAlmostEqual((window["LatestTime"] - window["EarliestTime"]).total_seconds(), 7 * DAY - 300, delta=5)
        self.advance(DAY)
        later = self.rds.describe_db_instance_automated_backups()["DBInstanceAutomatedBackups"][0]["RestoreWindow"]
        self.assertAlmostEqual((later["LatestTime"] - window["LatestTime"]).total_seconds(), DAY, delta=5)

    def test_no_backups_while_stopped(self):
        self.seed(instances=[{"DBInstanceIdentifier": "db1"}])
        self.rds.stop_db_instance(DBInstanceIdentifier="db1")
        self.until("stopped", lambda: self.instance("db1"))
        before = len(self.rds.describe_db_snapshots()["DBSnapshots"])
        self.advance(2 * DAY)
        self.assertEqual(len(self.rds.describe_db_snapshots()["DBSnapshots"]), before)
        self.refused("InvalidDBInstanceState", self.rds.create_db_snapshot, DBInstanceIdentifier="db1", DBSnapshotIdentifier="s")

    def test_snapshot_during_the_automated_window(self):  # X23
        self.seed(instances=[{"DBInstanceIdentifier": "db1"}])
        self.post("window", {"id": "db1"})
        self.refused("InvalidDBInstanceState", self.rds.create_db_snapshot, DBInstanceIdentifier="db1", DBSnapshotIdentifier="s")
        self.assertEqual(self.until("available", lambda: self.instance("db1")), ["backing-up", "backing-up"])
        self.rds.create_db_snapshot(DBInstanceIdentifier="db1", DBSnapshotIdentifier="s")


class Replicated(Case):
    def setUp(self):
        super().setUp()
        self.seed(instances=[{"DBInstanceIdentifier": "db1", "age": 10 * DAY, "StorageEncrypted": True}])
        self.key = self.client("kms", WEST).create_key()["KeyMetadata"]["Arn"]
        self.source = self.arn("db", "db1")

    def replicate(self, **more):
        return self.rds_west.start_db_instance_automated_backups_replication(SourceDBInstanceArn=self.source, **more)["DBInstanceAutomatedBackup"]

    def backups(self):
        return self.rds_west.describe_db_instance_automated_backups()["DBInstanceAutomatedBackups"]

    def test_needs_a_key_of_the_destination(self):
        self.refused("InvalidParameterCombination", self.replicate)
        here = self.client("kms").create_key()["KeyMetadata"]["Arn"]
        self.refused("KMSKeyNotAccessibleFault", self.replicate, KmsKeyId=here)

    def test_survives_the_source(self):
        made = self.replicate(KmsKeyId=self.key, BackupRetentionPeriod=5)
        self.assertEqual(made["Status"], "pending")
        self.assertEqual(self.until("replicating", lambda: self.backups()[0], "Status"), ["pending", "pending"])
        self.assertEqual(self.instance("db1")["DBInstanceAutomatedBackupsReplications"][0]["DBInstanceAutomatedBackupsArn"], made["DBInstanceAutomatedBackupsArn"])
        live = self.rds.describe_db_instance_automated_backups()["DBInstanceAutomatedBackups"][0]
        self.assertEqual(live["DBInstanceAutomatedBackupsReplications"], [{"DBInstanceAutomatedBackupsArn": made["DBInstanceAutomatedBackupsArn"]}])
        self.refused("InvalidDBInstanceAutomatedBackupState", self.replicate, KmsKeyId=self.key)
        restore = {"SourceDBInstanceAutomatedBackupsArn": made["DBInstanceAutomatedBackupsArn"], "TargetDBInstanceIdentifier": "dr", "UseLatestRestorableTime": True}
        self.refused("InvalidRestoreFault", self.rds_west.restore_db_instance_to_point_in_time, **restore)
        self.advance(3600)
        self.rds.delete_db_instance(DBInstanceIdentifier="db1", SkipFinalSnapshot=True)
        self.post("settle")
        self.assertEqual(self.backups()[0]["Status"], "retained")
        self.assertEqual(self.backups()[0]["Region"], EAST)
        self.rds_west.restore_db_instance_to_point_in_time(**restore)
        self.until("available", lambda: self.instance("dr", self.rds_west))
        self.assertEqual(self.instance("dr", self.rds_west)["KmsKeyId"], self.key)

    def test_quota_and_end(self):
        self.post("config", {"quotas": {"replicated-backups": 0}})
        self.refused("DBInstanceAutomatedBackupQuotaExceeded", self.replicate, KmsKeyId=self.key)
        self.post("config", {"quotas": {"replicated-backups": 20}})
        self.replicate(KmsKeyId=self.key)
        self.post("settle")
        self.rds_west.stop_db_instance_automated_backups_replication(SourceDBInstanceArn=self.source)
        self.assertEqual(self.backups()[0]["Status"], "retained")
        self.assertNotIn("DBInstanceAutomatedBackupsReplications", [k for k, v in self.instance("db1").items() if v])


class Account(Case):
    def test_quotas(self):
        self.seed(instances=[{"DBInstanceIdentifier": "db1"}])
        self.new_snapshot()
        quotas = {q["AccountQuotaName"]: q for q in self.rds.describe_account_attributes()["AccountQuotas"]}
        self.assertEqual((quotas["ManualSnapshots"]["Used"], quotas["ManualSnapshots"]["Max"]), (1, 100))

    def test_catalogue(self):
        versions = self.rds.describe_db_engine_versions(Engine="postgres")["DBEngineVersions"]
        self.assertIn("17.6", [v["EngineVersion"] for v in versions])
        classes = self.rds.describe_orderable_db_instance_options(Engine="docdb", EngineVersion="5.0.0")["OrderableDBInstanceOptions"]
        self.assertNotIn("db.t3.micro", [c["DBInstanceClass"] for c in classes])

    def test_events(self):
        self.seed(instances=[{"DBInstanceIdentifier": "db1"}])
        self.new_snapshot()
        found = self.rds.describe_events(SourceType="db-snapshot", Duration=60)["Events"]
        self.assertEqual(found[0]["SourceIdentifier"], "s1")
        self.refused("InvalidParameterCombination", self.rds.describe_events, SourceIdentifier="s1")

    def test_arn_of_another_region_is_not_found(self):
        self.seed(instances=[{"DBInstanceIdentifier": "db1"}])
        self.assertEqual(self.instance(self.arn("db", "db1"))["DBInstanceIdentifier"], "db1")
        self.refused("DBInstanceNotFound", self.instance, name=f"arn:aws:rds:{WEST}:{ACCOUNT}:db:db1")


if __name__ == "__main__":
    unittest.main()
