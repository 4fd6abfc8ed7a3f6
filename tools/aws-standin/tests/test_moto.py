"""Plain moto knows DocumentDB through the starter."""

import os
import socket
import subprocess
import sys
import time
import unittest

import boto3
from harness import ROOT


class Docdb(unittest.TestCase):
    def test_cluster_snapshot_restore(self):
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        process = subprocess.Popen(
            [sys.executable, os.path.join(ROOT, "moto_docdb.py"), "-H", "127.0.0.1", "-p", str(port)],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )
        self.addCleanup(process.wait)
        self.addCleanup(process.terminate)
        self.until_it_answers(port)
        client = boto3.client(
            "docdb", "us-east-1", endpoint_url=f"http://127.0.0.1:{port}", aws_access_key_id="test", aws_secret_access_key="test"
        )
        self.addCleanup(client.close)
        made = client.create_db_cluster(DBClusterIdentifier="d1", Engine="docdb", MasterUsername="u", MasterUserPassword="password1")
        self.assertEqual(made["DBCluster"]["Port"], 27017)
        client.create_db_cluster_snapshot(DBClusterIdentifier="d1", DBClusterSnapshotIdentifier="s1")
        client.restore_db_cluster_from_snapshot(DBClusterIdentifier="d2", SnapshotIdentifier="s1", Engine="docdb")
        client.create_db_instance(DBInstanceIdentifier="i1", DBInstanceClass="db.r5.large", Engine="docdb", DBClusterIdentifier="d2")
        self.assertEqual({c["Engine"] for c in client.describe_db_clusters()["DBClusters"]}, {"docdb"})

    def until_it_answers(self, port):
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            try:
                socket.create_connection(("127.0.0.1", port)).close()
                return
            except OSError:
                time.sleep(0.05)
        self.fail("moto does not answer")


if __name__ == "__main__":
    unittest.main()
