"""One stand-in for all tests, emptied before each, and clients of boto3 over the real wire."""

import atexit
import json
import os
import subprocess
import sys
import unittest
import urllib.error
import urllib.request

import boto3
import botocore.config
from botocore.exceptions import ClientError

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
ACCOUNT = "123456789012"
EAST, WEST = "us-east-1", "us-west-2"
_server = {}
_session = boto3.session.Session()
_clients = {}  # making one takes longer than a test


def url():
    if not _server:
        process = subprocess.Popen(
            [sys.executable, "-m", "aws_standin", "--port", "0"], cwd=ROOT, stdout=subprocess.PIPE, text=True
        )
        atexit.register(_stop, process)
        _server["url"] = process.stdout.readline().split()[-1]
    return _server["url"]


def _stop(process):
    for client in _clients.values():
        client.close()
    process.terminate()
    process.wait()
    process.stdout.close()


def control(method, path, body=None):
    """(status, document) of a control call."""
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(f"{url()}/_standin/{path}", method=method, data=data)
    try:
        with urllib.request.urlopen(request) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.load(error)


class Case(unittest.TestCase):
    maxDiff = None

    def setUp(self):
        self.post("reset")
        self.rds, self.rds_west = self.client("rds"), self.client("rds", WEST)
        self.backup, self.backup_west = self.client("backup"), self.client("backup", WEST)

    def client(self, service, region=EAST, key="test", token=None, retries=0, secret="test"):
        wanted = (service, region, key, token, retries)
        if wanted not in _clients:
            config = botocore.config.Config(
                retries={"total_max_attempts": retries + 1, "mode": "standard"}, s3={"addressing_style": "path"}, parameter_validation=False
            )
            _clients[wanted] = _session.client(
                service, endpoint_url=url(), config=config, region_name=region,
                aws_access_key_id=key, aws_secret_access_key=secret, aws_session_token=token,
            )
        return _clients[wanted]

    def post(self, path, body=None, expect=200):
        status, document = control("POST", path, body or {})
        self.assertEqual(status, expect, document)
        return document

    def seed(self, **fixtures):
        return self.post("seed", fixtures)

    def advance(self, seconds):
        self.post("advance", {"seconds": seconds})

    def refused(self, code, call, **arguments):
        """The call fails with this AWS code; gives the message."""
        with self.assertRaises(ClientError) as caught:
            call(**arguments)
        error = caught.exception.response["Error"]
        self.assertEqual(error["Code"], code, error)
        return error["Message"]

    def instance(self, name, rds=None):
        return (rds or self.rds).describe_db_instances(DBInstanceIdentifier=name)["DBInstances"][0]

    def cluster(self, name, rds=None):
        return (rds or self.rds).describe_db_clusters(DBClusterIdentifier=name)["DBClusters"][0]

    def snapshot(self, name, rds=None):
        return (rds or self.rds).describe_db_snapshots(DBSnapshotIdentifier=name)["DBSnapshots"][0]

    def until(self, status, look, member="DBInstanceStatus", limit=10):
        """Describe until it has this status; the statuses that were seen on the way."""
        seen = []
        for _ in range(limit):
            found = look()[member]
            if found == status:
                return seen
            seen.append(found)
        self.fail(f"never {status}: {seen}")

    def arn(self, kind, name, region=EAST):
        return f"arn:aws:rds:{region}:{ACCOUNT}:{kind}:{name}"

    def new_snapshot(self, name="s1", source="db1", **more):
        self.rds.create_db_snapshot(DBInstanceIdentifier=source, DBSnapshotIdentifier=name, **more)
        self.until("available", lambda: self.snapshot(name), "Status")
        return self.snapshot(name)
