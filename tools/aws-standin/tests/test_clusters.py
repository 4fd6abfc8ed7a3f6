"""Clusters: Aurora, DocumentDB, Multi-AZ; and RDS Proxy."""

import unittest
from datetime import timedelta

from harness import WEST, Case

DAY = 86400
NEW = {"DBClusterIdentifier": "c1", "Engine": "aurora-postgresql", "MasterUsername": "postgres", "MasterUserPassword": "correct-horse"}
V2 = {"MinCapacity": 0.5, "MaxCapacity": 4}


class Create(Case):
    def test_a_cluster_comes_without_instances(self):
        made = self.rds.create_db_cluster(**NEW)["DBCluster"]
        self.assertEqual((made["Status"], made["DBClusterMembers"], made["EngineMode"]), ("creating", [], "provisioned"))
        member = {"DBInstanceIdentifier": "i1", "DBInstanceClass": "db.r6g.large", "Engine": "aurora-postgresql", "DBClusterIdentifier": "c1"}
        self.refused("InvalidDBClusterStateFault", self.rds.create_db_instance, **member)
        self.until("available", lambda: self.cluster("c1"), "Status")
        self.rds.create_db_instance(**member)
        self.until("available", lambda: self.instance("i1"))
        self.assertEqual([m["DBInstanceIdentifier"] for m in self.cluster("c1")["DBClusterMembers"]], ["i1"])
        self.assertEqual(self.instance("i1")["DBClusterIdentifier"], "c1")

    def test_refusals(self):
        def refused(code, **change):
            return self.refused(code, self.rds.create_db_cluster, **{**NEW, **change})
        refused("InvalidParameterValue", BackupRetentionPeriod=0)
        refused("InvalidParameterValue", BackupRetentionPeriod=36)
        refused("InvalidParameterCombination", EngineVersion="12.1")
        refused("InvalidParameterCombination", AllocatedStorage=100)
        refused("InvalidParameterValue", ServerlessV2ScalingConfiguration={"MinCapacity": 4, "MaxCapacity": 1})
        self.assertIn("provisioned", refused("InvalidParameterCombination", EngineMode="serverless", ServerlessV2ScalingConfiguration=V2))  # X37
        refused("InvalidParameterCombination", EngineMode="serverless")
        refused("DBClusterParameterGroupNotFound", DBClusterParameterGroupName="nothing")

    def test_members(self):
        self.seed(clusters=[{"DBClusterIdentifier": "c1"}, {"DBClusterIdentifier": "d1", "Engine": "docdb"}, {"DBClusterIdentifier": "v2", "ServerlessV2ScalingConfiguration": V2, "members": 1}])
        self.assertEqual(self.instance("v2-1")["DBInstanceClass"], "db.serverless")

        def refused(code, **change):
            arguments = {"DBInstanceIdentifier": "i", "DBInstanceClass": "db.r6g.large", "Engine": "aurora-postgresql", "DBClusterIdentifier": "c1"}
            return self.refused(code, self.rds.create_db_instance, **{**arguments, **change})
        refused("InvalidParameterCombination", DBInstanceClass="db.serverless")  # no scaling configuration
        refused("InvalidParameterCombination", DBInstanceClass="db.t3.micro")
        refused("InvalidParameterCombination", DBClusterIdentifier="d1", DBInstanceClass="db.serverless", Engine="docdb")
        refused("InvalidParameterCombination", BackupRetentionPeriod=7)
        refused("InvalidParameterCombination", Engine="docdb")
        refused("DBClusterNotFoundFault", DBClusterIdentifier="nope")
        message = self.refused("InvalidParameterCombination", self.rds.create_db_snapshot, DBInstanceIdentifier="v2-1", DBSnapshotIdentifier="s")
        self.assertIn("CreateDBClusterSnapshot", message)

    def test_multi_az_cluster_brings_its_instances(self):
        arguments = {**NEW, "Engine": "postgres", "DBClusterInstanceClass": "db.r6g.large", "AllocatedStorage": 100}
        self.refused("InvalidParameterCombination", self.rds.create_db_cluster, **{**NEW, "Engine": "postgres"})
        self.assertEqual(len(self.rds.create_db_cluster(**arguments)["DBCluster"]["DBClusterMembers"]), 3)
        self.post("settle")
        self.refused("InvalidDBInstanceState", self.rds_west.start_db_instance_automated_backups_replication, SourceDBInstanceArn=self.arn("db", "c1-instance-1"))
        self.rds.delete_db_cluster(DBClusterIdentifier="c1", SkipFinalSnapshot=True)
        self.post("settle")
        self.assertEqual(self.rds.describe_db_instances()["DBInstances"], [])


class Backups(Case):
    def setUp(self):
        super().setUp()
        self.seed(clusters=[{"DBClusterIdentifier": "c1", "age": 10 * DAY, "members": 1, "StorageEncrypted": True}, {"DBClusterIdentifier": "d1", "Engine": "docdb", "age": 10 * DAY, "members": 1}])

    def shot(self, name, rds=None):
        return (rds or self.rds).describe_db_cluster_snapshots(DBClusterSnapshotIdentifier=name)["DBClusterSnapshots"][0]

    def take(self, name="s1", source="c1"):
        self.rds.create_db_cluster_snapshot(DBClusterIdentifier=source, DBClusterSnapshotIdentifier=name)
        self.until("available", lambda: self.shot(name), "Status")

    def test_window(self):
        found = self.cluster("c1")
        self.assertAlmostEqual((found["LatestRestorableTime"] - found["EarliestRestorableTime"]).total_seconds(), 7 * DAY - 300, delta=5)
        self.rds.create_db_cluster(**{**NEW, "DBClusterIdentifier": "young"})
        self.assertNotIn("EarliestRestorableTime", self.cluster("young"))

    def test_snapshot(self):
        self.rds.create_db_cluster_snapshot(DBClusterIdentifier="c1", DBClusterSnapshotIdentifier="s1")
        self.refused("InvalidDBClusterStateFault", self.rds.create_db_cluster_snapshot, DBClusterIdentifier="c1", DBClusterSnapshotIdentifier="s2")
        self.refused("InvalidDBClusterSnapshotStateFault", self.rds.restore_db_cluster_from_snapshot, DBClusterIdentifier="n", SnapshotIdentifier="s1", Engine="aurora-postgresql")
        self.rds.get_waiter("db_cluster_snapshot_available").wait(DBClusterSnapshotIdentifier="s1", WaiterConfig={"Delay": 0.01, "MaxAttempts": 10})
        self.refused("DBClusterSnapshotAlreadyExistsFault", self.rds.create_db_cluster_snapshot, DBClusterIdentifier="c1", DBClusterSnapshotIdentifier="s1")
        self.refused("DBClusterNotFoundFault", self.rds.create_db_cluster_snapshot, DBClusterIdentifier="x", DBClusterSnapshotIdentifier="s2")
        self.refused("DBClusterSnapshotNotFoundFault", self.shot, name="s2")
        self.post("config", {"quotas": {"manual-cluster-snapshots": 1}})
        self.refused("SnapshotQuotaExceeded", self.rds.create_db_cluster_snapshot, DBClusterIdentifier="d1", DBClusterSnapshotIdentifier="s2")

    def test_copy(self):
        self.take()
        key = self.client("kms", WEST).create_key()["KeyMetadata"]["Arn"]
        arguments = {"SourceDBClusterSnapshotIdentifier": self.arn("cluster-snapshot", "s1"), "TargetDBClusterSnapshotIdentifier": "c"}
        self.refused("InvalidParameterValue", self.rds_west.copy_db_cluster_snapshot, **arguments)
        self.post("config", {"quotas": {"cluster-copies-in-flight": 1}})
        self.rds_west.copy_db_cluster_snapshot(**arguments, KmsKeyId=key)
        self.refused("SnapshotQuotaExceeded", self.rds_west.copy_db_cluster_snapshot, **{**arguments, "TargetDBClusterSnapshotIdentifier": "c2"}, KmsKeyId=key)
        self.assertEqual(self.until("available", lambda: self.shot("c", self.rds_west), "Status"), ["copying", "copying"])

    def test_not_across_regions_and_accounts_at_once(self):
        self.take("s1", "d1")
        self.rds.modify_db_cluster_snapshot_attribute(DBClusterSnapshotIdentifier="s1", AttributeName="restore", ValuesToAdd=["210987654321"])
        self.post("keys", {"access_key": "other", "account": "210987654321"})
        arguments = {"SourceDBClusterSnapshotIdentifier": self.arn("cluster-snapshot", "s1"), "TargetDBClusterSnapshotIdentifier": "mine"}
        self.refused("InvalidParameterValue", self.client("rds", WEST, key="other").copy_db_cluster_snapshot, **arguments)
        self.client("rds", key="other").copy_db_cluster_snapshot(**arguments)

    def test_restored_cluster_has_no_instances(self):
        self.take()
        arguments = {"DBClusterIdentifier": "n", "SnapshotIdentifier": "s1", "Engine": "aurora-postgresql"}
        self.refused("InvalidParameterCombination", self.rds.restore_db_cluster_from_snapshot, **{**arguments, "Engine": "docdb"})
        self.refused("InvalidParameterCombination", self.rds.restore_db_cluster_from_snapshot, **arguments, EngineMode="serverless", ServerlessV2ScalingConfiguration=V2)
        self.refused("DBClusterAlreadyExistsFault", self.rds.restore_db_cluster_from_snapshot, **{**arguments, "DBClusterIdentifier": "c1"})
        self.rds.restore_db_cluster_from_snapshot(**arguments, ServerlessV2ScalingConfiguration=V2)
        self.until("available", lambda: self.cluster("n"), "Status")
        self.assertEqual(self.cluster("n")["DBClusterMembers"], [])
        self.rds.create_db_instance(DBInstanceIdentifier="n-1", DBInstanceClass="db.serverless", Engine="aurora-postgresql", DBClusterIdentifier="n")

    def test_to_a_second(self):
        latest = self.cluster("c1")["LatestRestorableTime"]

        def back(**more):
            return self.rds.restore_db_cluster_to_point_in_time(**{"DBClusterIdentifier": "n", "SourceDBClusterIdentifier": "c1", **more})["DBCluster"]
        self.refused("InvalidParameterValue", back, RestoreToTime="1999-01-01T00:00:00Z")
        self.refused("InvalidParameterValue", back, RestoreToTime=latest + timedelta(minutes=4))
        self.refused("InvalidParameterCombination", back)
        self.refused("InvalidParameterCombination", back, RestoreType="copy-on-write", RestoreToTime=latest)
        self.refused("DBClusterNotFoundFault", back, SourceDBClusterIdentifier="nope", UseLatestRestorableTime=True)
        self.assertEqual(back(RestoreToTime=latest - timedelta(days=1))["DBClusterMembers"], [])
        back(DBClusterIdentifier="clone", RestoreType="copy-on-write", UseLatestRestorableTime=True)

    def test_deletion(self):
        delete = self.rds.delete_db_cluster
        self.refused("InvalidDBClusterStateFault", delete, DBClusterIdentifier="c1", SkipFinalSnapshot=True)
        self.rds.delete_db_instance(DBInstanceIdentifier="c1-1")
        self.refused("InvalidParameterCombination", delete, DBClusterIdentifier="c1")
        self.rds.modify_db_cluster(DBClusterIdentifier="c1", DeletionProtection=True)
        self.refused("InvalidParameterCombination", delete, DBClusterIdentifier="c1", SkipFinalSnapshot=True)
        self.rds.modify_db_cluster(DBClusterIdentifier="c1", DeletionProtection=False)
        resource = self.cluster("c1")["DbClusterResourceId"]
        delete(DBClusterIdentifier="c1", FinalDBSnapshotIdentifier="final", DeleteAutomatedBackups=False)
        self.post("settle")
        self.refused("DBClusterNotFoundFault", self.cluster, name="c1")
        self.assertEqual(self.shot("final")["Status"], "available")
        self.assertEqual(self.rds.describe_db_cluster_automated_backups()["DBClusterAutomatedBackups"][0]["Status"], "retained")
        self.rds.restore_db_cluster_to_point_in_time(DBClusterIdentifier="n", SourceDbClusterResourceId=resource, UseLatestRestorableTime=True)

    def test_documentdb_backups_always_die_with_the_cluster(self):
        self.rds.delete_db_instance(DBInstanceIdentifier="d1-1")
        self.refused("InvalidParameterCombination", self.rds.delete_db_cluster, DBClusterIdentifier="d1", SkipFinalSnapshot=True, DeleteAutomatedBackups=False)
        resource = self.cluster("d1")["DbClusterResourceId"]
        self.client("docdb").delete_db_cluster(DBClusterIdentifier="d1", SkipFinalSnapshot=True)
        self.post("settle")
        self.assertEqual([s["DBClusterIdentifier"] for s in self.rds.describe_db_cluster_snapshots()["DBClusterSnapshots"] if s["Engine"] == "docdb"], [])
        self.assertEqual(len(self.rds.describe_db_cluster_automated_backups()["DBClusterAutomatedBackups"]), 1)  # c1's
        self.refused("DBClusterAutomatedBackupNotFoundFault", self.rds.restore_db_cluster_to_point_in_time, DBClusterIdentifier="n", SourceDbClusterResourceId=resource, UseLatestRestorableTime=True)

    def test_modify_and_rename(self):
        self.refused("InvalidParameterValue", self.rds.modify_db_cluster, DBClusterIdentifier="c1", BackupRetentionPeriod=0)
        self.rds.modify_db_cluster(DBClusterIdentifier="c1", BackupRetentionPeriod=14, PreferredBackupWindow="02:00-03:00")
        self.assertEqual(self.until("available", lambda: self.cluster("c1"), "Status"), ["modifying", "modifying"])
        self.assertEqual(self.cluster("c1")["BackupRetentionPeriod"], 14)
        self.rds.modify_db_cluster(DBClusterIdentifier="c1", NewDBClusterIdentifier="old", ApplyImmediately=True)
        self.post("settle")
        self.assertEqual(self.instance("c1-1")["DBClusterIdentifier"], "old")

    def test_stop_and_start(self):
        self.rds.stop_db_cluster(DBClusterIdentifier="c1")
        self.post("settle")
        self.assertEqual((self.cluster("c1")["Status"], self.instance("c1-1")["DBInstanceStatus"]), ("stopped", "stopped"))
        self.refused("InvalidDBClusterStateFault", self.rds.create_db_cluster_snapshot, DBClusterIdentifier="c1", DBClusterSnapshotIdentifier="s")
        self.rds.start_db_cluster(DBClusterIdentifier="c1")

    def test_restored_cluster_answers_with_a_real_endpoint(self):
        self.post("restore-endpoint", {"source": "c1", "host": "127.0.0.1", "port": 54321})
        self.rds.restore_db_cluster_to_point_in_time(DBClusterIdentifier="n", SourceDBClusterIdentifier="c1", UseLatestRestorableTime=True)
        self.post("settle")
        self.rds.create_db_instance(DBInstanceIdentifier="n-1", DBInstanceClass="db.r6g.large", Engine="aurora-postgresql", DBClusterIdentifier="n")
        self.post("settle")
        self.assertEqual((self.cluster("n")["Endpoint"], self.cluster("n")["Port"]), ("127.0.0.1", 54321))
        self.assertEqual(self.instance("n-1")["Endpoint"]["Port"], 54321)


class Proxy(Case):
    def setUp(self):
        super().setUp()
        self.seed(instances=[{"DBInstanceIdentifier": "blue"}, {"DBInstanceIdentifier": "green"}], clusters=[{"DBClusterIdentifier": "c1", "members": 1}])
        subnets = [s["SubnetId"] for s in self.client("ec2").describe_subnets()["Subnets"]][:2]
        self.rds.create_db_proxy(DBProxyName="px", EngineFamily="POSTGRESQL", RoleArn="arn:aws:iam::123456789012:role/px", VpcSubnetIds=subnets, Auth=[{"AuthScheme": "SECRETS", "SecretArn": "arn:aws:secretsmanager:us-east-1:123456789012:secret:x"}])
        self.refused("InvalidDBProxyStateFault", self.register)
        self.until("available", lambda: self.rds.describe_db_proxies(DBProxyName="px")["DBProxies"][0], "Status")

    def register(self, **more):
        return self.rds.register_db_proxy_targets(**{"DBProxyName": "px", "DBInstanceIdentifiers": ["blue"], **more})["DBProxyTargets"]

    def health(self):
        return self.rds.describe_db_proxy_targets(DBProxyName="px")["Targets"][0]["TargetHealth"]

    def test_switch(self):
        self.assertEqual(self.register()[0]["TargetHealth"]["State"], "REGISTERING")
        self.assertEqual(self.until("AVAILABLE", self.health, "State"), ["REGISTERING", "REGISTERING"])
        self.refused("DBProxyTargetAlreadyRegisteredFault", self.register)
        self.refused("DBProxyTargetAlreadyRegisteredFault", self.register, DBInstanceIdentifiers=["green"])
        self.rds.deregister_db_proxy_targets(DBProxyName="px", DBInstanceIdentifiers=["blue"])
        self.refused("DBProxyTargetNotFoundFault", self.rds.deregister_db_proxy_targets, DBProxyName="px", DBInstanceIdentifiers=["blue"])
        self.register(DBInstanceIdentifiers=["green"])
        self.assertEqual(self.rds.describe_db_proxy_targets(DBProxyName="px")["Targets"][0]["RdsResourceId"], "green")

    def test_refusals(self):
        self.refused("InvalidParameterValue", self.rds.modify_db_proxy_target_group, TargetGroupName="default", DBProxyName="px", NewName="other")  # X9
        self.refused("DBProxyTargetGroupNotFoundFault", self.register, TargetGroupName="other")
        self.refused("DBInstanceNotFound", self.register, DBInstanceIdentifiers=["nope"])
        self.refused("InvalidParameterCombination", self.register, DBInstanceIdentifiers=["c1-1"])
        self.refused("DBProxyNotFoundFault", self.rds.describe_db_proxies, DBProxyName="other")
        self.rds.create_db_snapshot(DBInstanceIdentifier="blue", DBSnapshotIdentifier="s")
        self.refused("InvalidDBInstanceState", self.register)

    def test_target_that_is_gone(self):
        self.register()
        self.rds.delete_db_instance(DBInstanceIdentifier="blue", SkipFinalSnapshot=True)
        self.post("settle")
        self.assertEqual(self.health()["State"], "UNAVAILABLE")

    def test_cluster_target(self):
        target = self.register(DBInstanceIdentifiers=[], DBClusterIdentifiers=["c1"])[0]
        self.assertEqual((target["Type"], target["TrackedClusterId"]), ("TRACKED_CLUSTER", "c1"))


if __name__ == "__main__":
    unittest.main()
