"""Scripted faults, virtual time, and the control endpoint itself."""

import time
import unittest

from botocore.exceptions import ClientError, ConnectionClosedError, ResponseStreamingError
from harness import ACCOUNT, EAST, WEST, Case, control

DAY = 86400
SNAPSHOT = {"DBInstanceIdentifier": "db1", "DBSnapshotIdentifier": "s1"}


class Faults(Case):
    def setUp(self):
        super().setUp()
        self.seed(instances=[{"DBInstanceIdentifier": "db1"}])

    def fault(self, kind, **more):
        self.post("faults", {"kind": kind, **more})

    def names(self):
        return [s["DBSnapshotIdentifier"] for s in self.rds.describe_db_snapshots(SnapshotType="manual")["DBSnapshots"]]

    def test_throttling(self):
        self.fault("throttle", action="rds:Describe*", times=2)
        self.refused("Throttling", self.rds.describe_db_instances)
        self.refused("Throttling", self.rds.describe_db_instances)
        self.rds.describe_db_instances()
        self.fault("throttle", action="backup:*", code="TooManyRequestsException")
        self.refused("TooManyRequestsException", self.backup.list_backup_vaults)

    def test_throttled_clients_retry(self):
        self.fault("throttle", action="rds:DescribeDBInstances", times=2)
        self.client("rds", retries=3).describe_db_instances()
        self.assertEqual(control("GET", "counts")[1]["rds:DescribeDBInstances"], 3)

    def test_server_errors(self):
        self.fault("error", status=503)
        with self.assertRaises(ClientError) as caught:
            self.rds.describe_db_instances()
        self.assertEqual(caught.exception.response["ResponseMetadata"]["HTTPStatusCode"], 503)
        self.fault("error", action="rds:CreateDBSnapshot")
        self.refused("InternalFailure", self.rds.create_db_snapshot, **SNAPSHOT)
        self.assertEqual(self.names(), [])

    def test_error_after_the_effect(self):
        self.fault("error-after", action="rds:CreateDBSnapshot")
        self.refused("InternalFailure", self.rds.create_db_snapshot, **SNAPSHOT)
        self.assertEqual(self.names(), ["s1"])

    def test_connection_cut_before_and_after(self):
        self.fault("cut-before", action="rds:CreateDBSnapshot")
        with self.assertRaises(ConnectionClosedError):
            self.rds.create_db_snapshot(**SNAPSHOT)
        self.assertEqual(self.names(), [])
        self.fault("cut-after", action="rds:CreateDBSnapshot")
        with self.assertRaises(ConnectionClosedError):
            self.rds.create_db_snapshot(**SNAPSHOT)
        self.assertEqual(self.names(), ["s1"])

    def test_calls_that_hang(self):
        self.fault("hang-before", action="rds:CreateDBSnapshot", seconds=0.2)
        with self.assertRaises(ConnectionClosedError):
            self.rds.create_db_snapshot(**SNAPSHOT)
        self.assertEqual(self.names(), [])
        self.fault("hang-after", action="rds:CreateDBSnapshot", seconds=0.2)
        with self.assertRaises(ConnectionClosedError):
            self.rds.create_db_snapshot(**SNAPSHOT)
        self.assertEqual(self.names(), ["s1"])

    def test_answer_that_is_torn(self):
        self.fault("torn-after", action="rds:CreateDBSnapshot")
        with self.assertRaises((ResponseStreamingError, ConnectionClosedError)):
            self.rds.create_db_snapshot(**SNAPSHOT)
        self.assertEqual(self.names(), ["s1"])

    def test_a_retry_after_the_effect_finds_its_own_work(self):
        self.fault("cut-after", action="rds:CreateDBSnapshot")
        self.refused("DBSnapshotAlreadyExists", self.client("rds", retries=3).create_db_snapshot, **SNAPSHOT)

    def test_cut_of_other_services(self):
        self.fault("cut-after", action="secretsmanager:CreateSecret")
        with self.assertRaises(ConnectionClosedError):
            self.client("secretsmanager").create_secret(Name="x", SecretString="y")
        self.assertEqual(self.client("secretsmanager").get_secret_value(SecretId="x")["SecretString"], "y")

    def test_denial(self):
        self.fault("deny", action="rds:CreateDBSnapshot", resource="*:snapshot:s1")
        message = self.refused("AccessDenied", self.rds.create_db_snapshot, **SNAPSHOT)
        self.assertTrue(message.startswith(
            f"User: arn:aws:iam::{ACCOUNT}:user/test is not authorized to perform: rds:CreateDBSnapshot on resource: arn:aws:rds:{EAST}:{ACCOUNT}:"
        ), message)
        self.rds.create_db_snapshot(**{**SNAPSHOT, "DBSnapshotIdentifier": "s2"})
        self.fault("deny", action="backup:*")
        self.refused("AccessDeniedException", self.backup.list_backup_vaults)
        control("DELETE", "faults")
        self.backup.list_backup_vaults()

    def test_only_in_one_region_and_later(self):
        self.fault("throttle", region=WEST, after=1, times=None)
        self.rds.describe_db_instances()
        self.rds_west.describe_db_instances()
        self.refused("Throttling", self.rds_west.describe_db_instances)

    def test_snapshot_that_fails(self):
        self.fault("fail", operation="snapshot", resource="*:snapshot:s1")
        self.rds.create_db_snapshot(**SNAPSHOT)
        self.until("failed", lambda: self.snapshot("s1"), "Status")
        self.assertEqual(self.instance("db1")["DBInstanceStatus"], "available")
        self.rds.delete_db_snapshot(DBSnapshotIdentifier="s1")

    def test_eventual_consistency(self):
        self.fault("invisible", operation="snapshot", describes=2)
        self.rds.create_db_snapshot(**SNAPSHOT)
        self.assertEqual(self.names(), [])
        self.refused("DBSnapshotNotFound", self.snapshot, name="s1")
        self.assertEqual(self.names(), ["s1"])
        self.fault("invisible", operation="instance")
        self.post("settle")
        self.rds.restore_db_instance_from_db_snapshot(DBInstanceIdentifier="n", DBSnapshotIdentifier="s1")
        self.refused("DBInstanceNotFound", self.instance, name="n")
        self.instance("n")

    def test_wrong_rules_are_refused(self):
        self.post("faults", {"kind": "gremlin"}, expect=400)
        self.post("faults", {"kind": "throttle", "actoin": "rds:*"}, expect=400)


class Time(Case):
    def setUp(self):
        super().setUp()
        self.seed(instances=[{"DBInstanceIdentifier": "db1"}])

    def test_time_alone(self):
        self.post("config", {"polls": None})
        self.rds.create_db_snapshot(**SNAPSHOT)
        for _ in range(5):
            self.assertEqual(self.snapshot("s1")["Status"], "creating")
        self.advance(60)
        self.assertAlmostEqual(self.snapshot("s1")["PercentProgress"], 50, delta=5)
        self.advance(61)
        self.assertEqual(self.snapshot("s1")["Status"], "available")

    def test_time_also_ends_what_nobody_looks_at(self):
        self.rds.create_db_snapshot(**SNAPSHOT)
        self.advance(121)
        self.assertEqual(self.snapshot("s1")["Status"], "available")

    def test_events_see_the_time_they_were_due(self):
        before = control("GET", "clock")[1]["now"]
        self.rds.create_db_snapshot(**SNAPSHOT)
        self.advance(30 * DAY)
        self.assertAlmostEqual(self.snapshot("s1")["SnapshotCreateTime"].timestamp(), before + 120, delta=5)

    def test_freeze_and_speed(self):
        self.post("clock", {"frozen": True})
        now = control("GET", "clock")[1]["now"]
        self.assertEqual(control("GET", "clock")[1]["now"], now)
        self.advance(10)
        self.assertEqual(control("GET", "clock")[1]["now"], now + 10)
        self.post("clock", {"frozen": False, "speed": 100000})
        self.assertGreater(control("GET", "clock")[1]["now"], now + 10)
        self.post("clock", {"speed": 1})

    def test_time_does_not_go_back(self):
        self.post("advance", {"seconds": -1}, expect=400)


class Control(Case):
    def test_a_world_may_begin_in_the_past(self):
        self.post("reset", {"back": 40 * DAY})
        behind = time.time() - control("GET", "clock")[1]["now"]
        self.assertAlmostEqual(behind, 40 * DAY, delta=5)
        self.advance(behind)
        self.assertAlmostEqual(control("GET", "clock")[1]["now"], time.time(), delta=5)
        for wrong in ({"back": -1}, {"bakc": 1}):
            self.post("reset", wrong, expect=400)

    def test_unknown_calls_and_settings(self):
        self.assertEqual(control("GET", "weather")[0], 404)
        self.post("config", {"poles": 3}, expect=400)
        self.post("config", {"polls": {"nap": 3}}, expect=400)
        self.post("config", {"quotas": {"toys": 3}}, expect=400)
        self.post("seed", {"tables": []}, expect=400)
        self.post("backdate", {"id": "nope", "seconds": 5}, expect=400)

    def test_requests_are_recorded_without_secrets(self):
        arguments = {"DBInstanceClass": "db.t3.micro", "Engine": "postgres", "AllocatedStorage": 20, "MasterUsername": "u"}
        self.rds.create_db_instance(DBInstanceIdentifier="db1", MasterUserPassword="correct-horse", **arguments)
        self.refused("DBInstanceNotFound", self.instance, name="nope")
        found = control("GET", "requests")[1]
        self.assertEqual([(r["action"], r["region"], r.get("error")) for r in found], [("CreateDBInstance", EAST, None), ("DescribeDBInstances", EAST, "DBInstanceNotFoundFault")])
        self.assertEqual(found[0]["params"]["MasterUserPassword"], "***")
        self.assertNotIn("correct-horse", str(found))

    def test_state(self):
        self.seed(instances=[{"DBInstanceIdentifier": "db1"}])
        found = control("GET", "state")[1]["regions"][ACCOUNT][EAST]["rds"]["instances"]
        self.assertEqual([(i["id"], i["status"]) for i in found], [("db1", "available")])
        self.post("state", {"id": "db1", "status": "storage-full"})
        self.assertEqual(self.instance("db1")["DBInstanceStatus"], "storage-full")
        self.refused("InvalidDBInstanceState", self.rds.create_db_snapshot, **SNAPSHOT)

    def test_backdate_opens_a_window(self):
        self.seed(instances=[{"DBInstanceIdentifier": "db1"}])
        self.assertNotIn("LatestRestorableTime", self.instance("db1"))
        self.post("backdate", {"id": "db1", "seconds": 5 * DAY})
        self.assertIn("LatestRestorableTime", self.instance("db1"))

    def test_job_in_a_state(self):
        self.seed(role="backup", instances=[{"DBInstanceIdentifier": "db1"}])
        self.backup.create_backup_vault(BackupVaultName="main")
        job = self.backup.start_backup_job(BackupVaultName="main", ResourceArn=self.arn("db", "db1"), IamRoleArn=f"arn:aws:iam::{ACCOUNT}:role/backup")["BackupJobId"]
        self.post("job", {"id": job, "state": "ABORTED", "message": "by hand"})
        self.advance(DAY)
        self.assertEqual(self.backup.describe_backup_job(BackupJobId=job)["State"], "ABORTED")
        self.assertEqual(self.instance("db1")["DBInstanceStatus"], "available")


if __name__ == "__main__":
    unittest.main()
