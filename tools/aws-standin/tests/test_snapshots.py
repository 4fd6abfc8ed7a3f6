"""Snapshots of instances: taking, listing, sharing, copying, restoring."""

import json
import unittest
from datetime import timedelta

from harness import ACCOUNT, EAST, WEST, Case, control

DAY = 86400
OTHER = "210987654321"


class WithInstance(Case):
    more = {}

    def setUp(self):
        super().setUp()
        self.seed(instances=[{"DBInstanceIdentifier": "db1", "age": 10 * DAY, "Tags": [{"Key": "team", "Value": "shop"}], **self.more}])


class Take(WithInstance):
    def test_progress_and_the_instance_meanwhile(self):
        made = self.rds.create_db_snapshot(DBInstanceIdentifier="db1", DBSnapshotIdentifier="s1")["DBSnapshot"]
        self.assertEqual((made["Status"], made["PercentProgress"]), ("creating", 0))
        self.assertNotIn("SnapshotCreateTime", made)  # X19
        self.assertEqual(self.instance("db1")["DBInstanceStatus"], "backing-up")
        message = self.refused("InvalidDBInstanceState", self.rds.create_db_snapshot, DBInstanceIdentifier="db1", DBSnapshotIdentifier="s2")
        self.assertIn("not currently in the available state", message)
        self.refused("InvalidDBSnapshotState", self.rds.delete_db_snapshot, DBSnapshotIdentifier="s1")
        self.refused("InvalidDBSnapshotState", self.rds.restore_db_instance_from_db_snapshot, DBSnapshotIdentifier="s1", DBInstanceIdentifier="n")
        self.until("available", lambda: self.snapshot("s1"), "Status")
        self.assertEqual(self.instance("db1")["DBInstanceStatus"], "available")
        done = self.snapshot("s1")
        self.assertEqual(done["PercentProgress"], 100)
        self.assertIn("SnapshotCreateTime", done)

    def test_waiter(self):
        self.rds.create_db_snapshot(DBInstanceIdentifier="db1", DBSnapshotIdentifier="s1")
        self.rds.get_waiter("db_snapshot_available").wait(DBSnapshotIdentifier="s1", WaiterConfig={"Delay": 0.01, "MaxAttempts": 10})

    def test_refusals(self):
        self.refused("DBInstanceNotFound", self.rds.create_db_snapshot, DBInstanceIdentifier="nope", DBSnapshotIdentifier="s1")
        self.refused("InvalidParameterValue", self.rds.create_db_snapshot, DBInstanceIdentifier="db1", DBSnapshotIdentifier="rds:s1")
        self.new_snapshot()
        self.refused("DBSnapshotAlreadyExists", self.rds.create_db_snapshot, DBInstanceIdentifier="db1", DBSnapshotIdentifier="S1")
        self.refused("DBSnapshotNotFound", self.snapshot, name="s2")

    def test_quota_counts_manual_ones_only(self):
        self.seed(snapshots=[{"source": "db1", "count": 120, "type": "automated"}, {"source": "db1", "count": 30, "type": "awsbackup"}, {"source": "db1", "count": 99}])
        self.new_snapshot("hundred")
        message = self.refused("SnapshotQuotaExceeded", self.rds.create_db_snapshot, DBInstanceIdentifier="db1", DBSnapshotIdentifier="more")
        self.assertIn("100", message)
        self.rds.delete_db_snapshot(DBSnapshotIdentifier="hundred")
        self.new_snapshot("again")

    def test_tags(self):
        self.assertEqual(self.new_snapshot(Tags=[{"Key": "a", "Value": "b"}])["TagList"], [{"Key": "a", "Value": "b"}])
        self.rds.modify_db_instance(DBInstanceIdentifier="db1", CopyTagsToSnapshot=True)
        self.assertEqual(self.new_snapshot("s2")["TagList"], [{"Key": "team", "Value": "shop"}])


class List(WithInstance):
    def test_pages(self):
        self.seed(snapshots={"source": "db1", "count": 250, "type": "manual", "prefix": "m"})
        for bad in (10, 101):
            self.refused("InvalidParameterValue", self.rds.describe_db_snapshots, MaxRecords=bad)
        first = self.rds.describe_db_snapshots(SnapshotType="manual")
        self.assertEqual(len(first["DBSnapshots"]), 100)
        self.assertTrue(first["Marker"])
        self.assertEqual(len(self.rds.describe_db_snapshots(SnapshotType="manual", MaxRecords=20)["DBSnapshots"]), 20)
        pages = list(self.rds.get_paginator("describe_db_snapshots").paginate(SnapshotType="manual"))
        self.assertEqual([len(p["DBSnapshots"]) for p in pages], [100, 100, 50])
        names = {s["DBSnapshotIdentifier"] for p in pages for s in p["DBSnapshots"]}
        self.assertEqual(len(names), 250)
        self.refused("InvalidParameterValue", self.rds.describe_db_snapshots, Marker="nonsense")

    def test_forced_pages_of_20(self):
        self.seed(snapshots={"source": "db1", "count": 45, "prefix": "m"})
        self.post("config", {"page_size": 20})
        pages = list(self.rds.get_paginator("describe_db_snapshots").paginate(SnapshotType="manual"))
        self.assertEqual([len(p["DBSnapshots"]) for p in pages], [20, 20, 5])

    def test_not_ordered_by_time(self):  # X11
        self.seed(snapshots={"source": "db1", "count": 5, "prefix": "m"})
        times = [s["SnapshotCreateTime"] for s in self.rds.describe_db_snapshots(SnapshotType="manual")["DBSnapshots"]]
        self.assertEqual(times, sorted(times, reverse=True))
        self.new_snapshot("a-new-one")
        self.new_snapshot("z-new-one")
        names = [s["DBSnapshotIdentifier"] for s in self.rds.describe_db_snapshots(SnapshotType="manual")["DBSnapshots"]]
        self.assertEqual((names[0], names[-1]), ("a-new-one", "z-new-one"))

    def test_types(self):
        self.seed(snapshots=[{"source": "db1", "count": 2, "type": "awsbackup"}, {"source": "db1", "count": 3}])
        count = lambda **f: len(self.rds.describe_db_snapshots(**f)["DBSnapshots"])
        self.assertEqual((count(SnapshotType="manual"), count(SnapshotType="automated"), count(SnapshotType="awsbackup")), (3, 8, 2))
        self.assertEqual(count(), 11)
        self.assertEqual(count(DBInstanceIdentifier="db1"), 11)
        self.assertEqual(count(DBInstanceIdentifier="db2"), 0)
        self.refused("InvalidParameterValue", self.rds.describe_db_snapshots, SnapshotType="daily")
        name = self.rds.describe_db_snapshots(SnapshotType="awsbackup")["DBSnapshots"][0]["DBSnapshotIdentifier"]
        self.assertIn("AWS Backup", self.refused("InvalidDBSnapshotState", self.rds.delete_db_snapshot, DBSnapshotIdentifier=name))

    def test_thousand_in_four_regions(self):
        regions = [EAST, WEST, "eu-west-1", "ap-south-1"]
        self.seed(snapshots={"source": "db1", "count": 250, "regions": regions})
        counts = [len(self.client("rds", r).get_paginator("describe_db_snapshots").paginate(SnapshotType="manual").build_full_result()["DBSnapshots"]) for r in regions]
        self.assertEqual(counts, [250] * 4)


class Copy(WithInstance):
    more = {"StorageEncrypted": True}

    def setUp(self):
        super().setUp()
        self.new_snapshot(Tags=[{"Key": "a", "Value": "b"}])
        self.key = self.client("kms", WEST).create_key()["KeyMetadata"]["Arn"]
        self.source = self.arn("snapshot", "s1")

    def copy(self, rds=None, **more):
        arguments = {"SourceDBSnapshotIdentifier": self.source, "TargetDBSnapshotIdentifier": "c1", **more}
        return (rds or self.rds_west).copy_db_snapshot(**arguments)["DBSnapshot"]

    def test_across_regions(self):
        self.assertIn("KmsKeyId", self.refused("InvalidParameterValue", self.copy))  # X41
        self.refused("KMSKeyNotAccessibleFault", self.copy, KmsKeyId=self.client("kms").create_key()["KeyMetadata"]["Arn"])
        made = self.copy(KmsKeyId=self.key, CopyTags=True, SourceRegion=EAST)
        self.assertEqual((made["Status"], made["SourceRegion"], made["KmsKeyId"]), ("copying", EAST, self.key))
        self.assertEqual(made["TagList"], [{"Key": "a", "Value": "b"}])
        self.assertEqual(made["SourceDBSnapshotIdentifier"], self.source)
        # The source is needed until the copy is there.
        self.refused("InvalidDBSnapshotState", self.rds.delete_db_snapshot, DBSnapshotIdentifier="s1")
        self.until("available", lambda: self.snapshot("c1", self.rds_west), "Status")
        self.rds.delete_db_snapshot(DBSnapshotIdentifier="s1")
        self.assertEqual(self.snapshot("c1", self.rds_west)["DBSnapshotArn"], self.arn("snapshot", "c1", WEST))

    def test_keys_must_be_usable(self):
        kms = self.client("kms", WEST)
        kms.disable_key(KeyId=self.key)
        self.refused("KMSKeyNotAccessibleFault", self.copy, KmsKeyId=self.key)
        kms.enable_key(KeyId=self.key)
        kms.schedule_key_deletion(KeyId=self.key, PendingWindowInDays=7)
        self.refused("KMSKeyNotAccessibleFault", self.copy, KmsKeyId=self.key)
        kms.cancel_key_deletion(KeyId=self.key)
        kms.enable_key(KeyId=self.key)
        self.copy(KmsKeyId=self.key)

    def test_refusals(self):
        self.refused("DBSnapshotNotFound", self.copy, SourceDBSnapshotIdentifier=self.arn("snapshot", "nope"), KmsKeyId=self.key)
        self.refused("DBSnapshotNotFound", self.copy, SourceDBSnapshotIdentifier="s1", KmsKeyId=self.key)  # not in this region
        self.copy(KmsKeyId=self.key)
        self.refused("DBSnapshotAlreadyExists", self.copy, KmsKeyId=self.key)
        self.refused("InvalidDBSnapshotState", self.copy, SourceDBSnapshotIdentifier=self.arn("snapshot", "c1", WEST), TargetDBSnapshotIdentifier="c2", KmsKeyId=self.key)

    def test_copies_in_flight(self):
        self.post("config", {"quotas": {"copies-in-flight": 2}})
        self.copy(KmsKeyId=self.key)
        self.copy(KmsKeyId=self.key, TargetDBSnapshotIdentifier="c2")
        self.refused("SnapshotQuotaExceeded", self.copy, KmsKeyId=self.key, TargetDBSnapshotIdentifier="c3")
        self.post("settle")
        self.copy(KmsKeyId=self.key, TargetDBSnapshotIdentifier="c3")

    def test_automated_ones_can_be_copied(self):
        automated = self.rds.describe_db_snapshots(SnapshotType="automated")["DBSnapshots"][0]
        made = self.copy(self.rds, SourceDBSnapshotIdentifier=automated["DBSnapshotIdentifier"])
        self.assertEqual((made["SnapshotType"], made["Status"]), ("manual", "creating"))

    def test_automated_backup_is_skipped_while_copying(self):
        self.copy(self.rds, SourceDBSnapshotIdentifier="s1")
        self.post("config", {"durations": {"copy": 100 * DAY}})
        self.rds.copy_db_snapshot(SourceDBSnapshotIdentifier="s1", TargetDBSnapshotIdentifier="c2")
        before = {s["DBSnapshotIdentifier"] for s in self.rds.describe_db_snapshots(SnapshotType="automated")["DBSnapshots"]}
        self.advance(DAY)
        after = {s["DBSnapshotIdentifier"] for s in self.rds.describe_db_snapshots(SnapshotType="automated")["DBSnapshots"]}
        self.assertEqual(after - before, set())

    def let(self, key, account, actions):
        """The policy of a key lets another account do this."""
        own = {"Effect": "Allow", "Principal": {"AWS": f"arn:aws:iam::{ACCOUNT}:root"}, "Action": "kms:*", "Resource": "*"}
        guest = {"Effect": "Allow", "Principal": {"AWS": f"arn:aws:iam::{account}:root"}, "Action": actions, "Resource": "*"}
        self.client("kms").put_key_policy(KeyId=key, PolicyName="default", Policy=json.dumps({"Statement": [own, guest]}))

    def test_sharing(self):
        share = {"DBSnapshotIdentifier": "s1", "AttributeName": "restore", "ValuesToAdd": [OTHER]}
        self.assertIn("default service key", self.refused("KMSKeyNotAccessibleFault", self.rds.modify_db_snapshot_attribute, **share))
        own = self.client("kms").create_key()["KeyMetadata"]["Arn"]
        self.copy(self.rds, TargetDBSnapshotIdentifier="shared", KmsKeyId=own)
        self.post("settle")
        share["DBSnapshotIdentifier"] = "shared"
        self.refused("InvalidParameterValue", self.rds.modify_db_snapshot_attribute, **{**share, "ValuesToAdd": ["all"]})
        self.refused("SharedSnapshotQuotaExceeded", self.rds.modify_db_snapshot_attribute, **{**share, "ValuesToAdd": [f"{n:012d}" for n in range(21)]})
        self.rds.modify_db_snapshot_attribute(**share)
        automated = self.rds.describe_db_snapshots(SnapshotType="automated")["DBSnapshots"][0]["DBSnapshotIdentifier"]
        self.refused("InvalidDBSnapshotState", self.rds.modify_db_snapshot_attribute, **{**share, "DBSnapshotIdentifier": automated})

        self.post("keys", {"access_key": "other", "account": OTHER})
        other, other_west = self.client("rds", key="other"), self.client("rds", WEST, key="other")
        arn = self.arn("snapshot", "shared")
        self.assertEqual(other.describe_db_snapshots()["DBSnapshots"], [])
        self.assertEqual([s["DBSnapshotIdentifier"] for s in other.describe_db_snapshots(SnapshotType="shared")["DBSnapshots"]], [arn])
        self.refused("InvalidDBSnapshotState", other.restore_db_instance_from_db_snapshot, DBSnapshotIdentifier=arn, DBInstanceIdentifier="n")
        self.refused("KMSKeyNotAccessibleFault", other.copy_db_snapshot, SourceDBSnapshotIdentifier=arn, TargetDBSnapshotIdentifier="mine")
        west = self.client("kms", WEST, key="other").create_key()["KeyMetadata"]["Arn"]
        self.refused("InvalidParameterValue", other_west.copy_db_snapshot, SourceDBSnapshotIdentifier=arn, TargetDBSnapshotIdentifier="mine", KmsKeyId=west)
        here = self.client("kms", key="other").create_key()["KeyMetadata"]["Arn"]
        mine = {"SourceDBSnapshotIdentifier": arn, "TargetDBSnapshotIdentifier": "mine", "KmsKeyId": here}
        # The policy of the source's key says nothing of the other account yet.
        self.refused("KMSKeyNotAccessibleFault", other.copy_db_snapshot, **mine)
        self.refused("AccessDeniedException", self.client("kms", key="other").describe_key, KeyId=own)
        self.let(own, OTHER, ["kms:DescribeKey"])
        self.assertEqual(self.client("kms", key="other").describe_key(KeyId=own)["KeyMetadata"]["Arn"], own)
        self.refused("KMSKeyNotAccessibleFault", other.copy_db_snapshot, **mine)
        self.let(own, OTHER, ["kms:DescribeKey", "kms:CreateGrant"])
        # Nor may a caller there whose policies do not reach that key.
        rds = {"Effect": "Allow", "Action": ["rds:*"], "Resource": "*"}
        near = {"Effect": "Allow", "Action": "kms:*", "Resource": f"arn:aws:kms:*:{OTHER}:key/*"}
        self.post("keys", {"access_key": "near", "account": OTHER, "policies": [{"Statement": [rds, near]}]})
        self.refused("KMSKeyNotAccessibleFault", self.client("rds", key="near").copy_db_snapshot, **mine)
        copy = other.copy_db_snapshot(**mine)["DBSnapshot"]
        self.assertEqual(copy["TagList"], [])
        self.rds.modify_db_snapshot_attribute(DBSnapshotIdentifier="shared", AttributeName="restore", ValuesToRemove=[OTHER])
        self.refused("DBSnapshotNotFound", other.copy_db_snapshot, SourceDBSnapshotIdentifier=arn, TargetDBSnapshotIdentifier="mine2", KmsKeyId=here)


class PlainCopy(WithInstance):
    def test_unencrypted_stays_so_across_regions(self):
        self.new_snapshot()
        key = self.client("kms", WEST).create_key()["KeyMetadata"]["Arn"]
        arguments = {"SourceDBSnapshotIdentifier": self.arn("snapshot", "s1"), "TargetDBSnapshotIdentifier": "c1"}
        self.refused("InvalidParameterCombination", self.rds_west.copy_db_snapshot, **arguments, KmsKeyId=key)
        self.assertFalse(self.rds_west.copy_db_snapshot(**arguments)["DBSnapshot"]["Encrypted"])
        here = self.client("kms").create_key()["KeyMetadata"]["Arn"]
        self.assertTrue(self.rds.copy_db_snapshot(SourceDBSnapshotIdentifier="s1", TargetDBSnapshotIdentifier="c1", KmsKeyId=here)["DBSnapshot"]["Encrypted"])


class Restore(WithInstance):
    more = {"AllocatedStorage": 100, "MultiAZ": True, "DBInstanceClass": "db.r6g.large"}

    def restore(self, **more):
        arguments = {"DBSnapshotIdentifier": "s1", "DBInstanceIdentifier": "new", **more}
        return self.rds.restore_db_instance_from_db_snapshot(**arguments)["DBInstance"]

    def back(self, **more):
        arguments = {"SourceDBInstanceIdentifier": "db1", "TargetDBInstanceIdentifier": "new", **more}
        return self.rds.restore_db_instance_to_point_in_time(**arguments)["DBInstance"]

    def window(self):
        return self.rds.describe_db_instance_automated_backups()["DBInstanceAutomatedBackups"][0]["RestoreWindow"]

    def test_from_snapshot(self):
        self.new_snapshot()
        self.refused("DBInstanceAlreadyExists", self.restore, DBInstanceIdentifier="db1")
        self.refused("DBSnapshotNotFound", self.restore, DBSnapshotIdentifier="nope")
        self.refused("InvalidParameterCombination", self.restore, AllocatedStorage=50)
        self.refused("InvalidParameterCombination", self.restore, Engine="docdb")
        made = self.restore(Tags=[{"Key": "AutoDelete", "Value": "24hours"}])
        self.assertEqual(made["DBInstanceStatus"], "creating")
        # X17: what is not named gets a default, not what the source had.
        self.assertEqual((made["MultiAZ"], made["DBSubnetGroup"]["DBSubnetGroupName"]), (False, "default"))
        self.assertEqual(made["DBInstanceClass"], "db.r6g.large")
        self.refused("InvalidDBSnapshotState", self.rds.delete_db_snapshot, DBSnapshotIdentifier="s1")
        self.until("available", lambda: self.instance("new"))
        self.rds.delete_db_snapshot(DBSnapshotIdentifier="s1")
        self.assertNotEqual(self.instance("new")["DbiResourceId"], self.instance("db1")["DbiResourceId"])

    def test_to_a_second(self):
        window = self.window()
        when = window["LatestTime"] - timedelta(days=2)
        self.back(RestoreTime=when)
        self.until("available", lambda: self.instance("new"))
        made = {i["id"]: i for i in control("GET", "state")[1]["regions"][ACCOUNT][EAST]["rds"]["instances"]}["new"]
        self.assertAlmostEqual(made["restored_to"], when.timestamp(), places=2)
        self.assertIn(self.arn("db", "db1"), made["origin"])

    def test_outside_of_the_window(self):  # X18
        window = self.window()
        for when in ("1999-01-01T00:00:00Z", window["EarliestTime"] - timedelta(hours=1), window["LatestTime"] + timedelta(minutes=4)):
            self.assertIn("restorable time", self.refused("InvalidParameterValue", self.back, RestoreTime=when))

    def test_arguments(self):
        self.refused("InvalidParameterCombination", self.back)
        self.refused("InvalidParameterCombination", self.back, UseLatestRestorableTime=True, RestoreTime=self.window()["LatestTime"])
        self.refused("InvalidParameterCombination", self.back, UseLatestRestorableTime=True, SourceDbiResourceId="db-X")
        self.refused("DBInstanceNotFound", self.back, SourceDBInstanceIdentifier="nope", UseLatestRestorableTime=True)
        self.refused("DBInstanceAlreadyExists", self.back, TargetDBInstanceIdentifier="db1", UseLatestRestorableTime=True)
        self.refused("DBInstanceAutomatedBackupNotFound", self.rds.restore_db_instance_to_point_in_time, SourceDbiResourceId="db-X", TargetDBInstanceIdentifier="n", UseLatestRestorableTime=True)

    def test_no_window_yet(self):
        self.seed(instances=[{"DBInstanceIdentifier": "young"}])
        self.refused("InvalidRestoreFault", self.back, SourceDBInstanceIdentifier="young", UseLatestRestorableTime=True)

    def test_failed_restore(self):
        self.new_snapshot()
        self.post("faults", {"kind": "fail", "operation": "restore", "state": "incompatible-restore"})
        self.restore()
        self.until("incompatible-restore", lambda: self.instance("new"))
        self.rds.delete_db_snapshot(DBSnapshotIdentifier="s1")

    def test_answers_with_a_real_endpoint(self):
        self.post("restore-endpoint", {"source": "db1", "host": "127.0.0.1", "port": 54321})
        self.new_snapshot()
        self.restore()
        self.back(UseLatestRestorableTime=True, TargetDBInstanceIdentifier="new2")
        self.post("settle")
        for name in ("new", "new2"):
            endpoint = self.instance(name)["Endpoint"]
            self.assertEqual((endpoint["Address"], endpoint["Port"]), ("127.0.0.1", 54321))
        self.assertNotEqual(self.instance("db1")["Endpoint"]["Address"], "127.0.0.1")
        self.post("endpoint", {"id": "db1", "host": "127.0.0.2", "port": 5432})
        self.assertEqual(self.instance("db1")["Endpoint"]["Address"], "127.0.0.2")


if __name__ == "__main__":
    unittest.main()
