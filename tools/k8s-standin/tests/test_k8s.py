"""The stand-in for Kubernetes, over its own wire."""

import json
import os
import ssl
import sys
import tempfile
import unittest
import urllib.error
import urllib.request

sys.path.insert(0, os.path.join(os.path.dirname(__file__), ".."))
import k8s_standin  # noqa: E402

BACKEND = "/apis/apps/v1/namespaces/shop/deployments/backend"


class Case(unittest.TestCase):
    def setUp(self):
        self.dir = tempfile.TemporaryDirectory()
        config = os.path.join(self.dir.name, "kubeconfig")
        self.control, self.server = k8s_standin.start(0, config)
        with open(config) as f:
            given = json.load(f)
        self.base = given["clusters"][0]["cluster"]["server"]
        self.token = json.loads(given["users"][0]["user"]["exec"]["args"][1].split("'")[1])["status"]["token"]
        self.tls = ssl.create_default_context(cafile=os.path.join(self.dir.name, "k8s-standin.pem"))
        self.post("seed", {"namespace": "shop", "name": "backend", "replicas": 2, "env": {"app": {"HOST": "old", "MODE": "x"}}})

    def tearDown(self):
        for server in (self.control, self.server):
            server.shutdown()
            server.server_close()
        self.dir.cleanup()

    def post(self, name, body):
        url = f"http://127.0.0.1:{self.control.server_address[1]}/_standin/{name}"
        with urllib.request.urlopen(urllib.request.Request(url, json.dumps(body).encode(), method="POST")) as answer:
            return json.load(answer)

    def call(self, method, path, body=None, kind=k8s_standin.STRATEGIC, token=None):
        headers = {"Authorization": f"Bearer {token or self.token}", "Content-Type": kind}
        data = json.dumps(body).encode() if body is not None else None
        request = urllib.request.Request(self.base + path, data, headers, method=method)
        try:
            with urllib.request.urlopen(request, context=self.tls) as answer:
                return answer.status, json.load(answer)
        except urllib.error.HTTPError as error:
            return error.code, json.load(error)

    def get(self):
        return self.call("GET", BACKEND)[1]

    @staticmethod
    def env(value, **more):
        return {"spec": {"template": {"spec": {"containers": [{"name": "app", "env": [{"name": "HOST", "value": value}]}]}}}, **more}

    def test_a_rollout_takes_its_time_and_never_goes_below(self):
        first = self.get()
        code, made = self.call("PATCH", BACKEND, self.env("new"))
        self.assertEqual((code, made["metadata"]["generation"]), (200, first["metadata"]["generation"] + 1))
        self.assertGreater(int(made["metadata"]["resourceVersion"]), int(first["metadata"]["resourceVersion"]))
        self.assertEqual(made["spec"]["template"]["spec"]["containers"][0]["env"], [{"name": "HOST", "value": "new"}, {"name": "MODE", "value": "x"}])
        seen = []
        for _ in range(20):
            status = self.get()["status"]
            seen.append((status.get("updatedReplicas", 0), status["replicas"]))
            if seen[-1] == (2, 2) and status.get("availableReplicas") == 2:
                break
        self.assertEqual(seen[-1], (2, 2))
        self.assertIn((1, 3), seen)
        self.assertGreater(len(seen), 5)

    def test_who_wrote_with_an_old_version_is_refused(self):
        old = self.get()["metadata"]["resourceVersion"]
        self.post("write", {"namespace": "shop", "name": "backend", "patch": {"spec": {"replicas": 3}}})
        code, answer = self.call("PATCH", BACKEND, self.env("new", metadata={"resourceVersion": old}))
        self.assertEqual((code, answer["reason"]), (409, "Conflict"))

    def test_what_no_api_server_takes(self):
        self.assertEqual(self.call("GET", BACKEND, token="other")[0], 401)
        self.assertEqual(self.call("GET", BACKEND.replace("shop", "none"))[0], 404)
        self.assertEqual(self.call("PATCH", BACKEND, {}, "application/json")[0], 415)
        both = {"name": "HOST", "value": "x", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}}
        code, answer = self.call("PATCH", BACKEND, {"spec": {"template": {"spec": {"containers": [{"name": "app", "env": [both]}]}}}})
        self.assertEqual((code, answer["reason"]), (422, "Invalid"))
        self.assertEqual(self.call("PATCH", BACKEND, {"spec": {"replicas": "3"}})[0], 400)
        self.assertEqual(self.call("PATCH", BACKEND, {"spec": {"replicas": -1}})[0], 422)

    def test_a_stateful_set_replaces_pod_by_pod(self):
        self.post("seed", {"kind": "StatefulSet", "namespace": "shop", "name": "db", "replicas": 2, "env": {"app": {"HOST": "old"}}})
        path = BACKEND.replace("deployments/backend", "statefulsets/db")
        self.call("PATCH", path, self.env("new"))
        for step in range(30):
            status = self.call("GET", path)[1]["status"]
            if status["currentRevision"] == status["updateRevision"] and step > 0:
                break
        self.assertEqual((status["readyReplicas"], status["updatedReplicas"]), (2, 2))
        self.assertGreater(step, 3)

    def test_scripted_faults(self):
        self.post("faults", {"kind": "status", "status": 403, "reason": "Forbidden", "verb": "patch"})
        self.assertEqual(self.call("PATCH", BACKEND, self.env("new"))[0], 403)
        self.post("faults", {"kind": "cut-after", "verb": "patch"})
        with self.assertRaises(OSError):
            self.call("PATCH", BACKEND, self.env("new"))
        self.assertEqual(self.get()["spec"]["template"]["spec"]["containers"][0]["env"][0]["value"], "new")


if __name__ == "__main__":
    unittest.main()
