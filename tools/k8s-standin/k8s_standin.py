"""A strict stand-in for the API of a Kubernetes cluster: Deployments and StatefulSets whose rollouts take time.

Start: `python k8s_standin.py --port 0 --kubeconfig FILE`; the first line of stdout says where its control endpoint
listens (plain HTTP). The API is on another port, over TLS with a certificate of its own, as kubectl wants it to hand
out what an exec plugin gives; FILE leads kubectl there: contexts `plugin` (the current one; its token comes from an
exec plugin, as on EKS) and `nobody` (no credentials). What it speaks: discovery, GET and PATCH of single objects of
apps/v1. It is a tool for tests: nothing is kept.

Enforced, as the API server does it: namespaces exist; every write raises resourceVersion, a change of the spec raises
generation; a patch that carries a resourceVersion which is not the current one is a Conflict (409); strategic merge
patches merge containers and variables by name, merge patches replace lists; what no Pod may have is Invalid (422);
content types; bearer tokens, if any were set (401), and rights per verb (403).

Controllers work one step per GET of the object: the change is observed, then pods come and go one by one (a Deployment
surges by one, a StatefulSet replaces), and each is available two steps after it came. Every step raises
resourceVersion, as status updates do.

Control, `/_standin/...`, JSON:
POST seed      {"kind": "Deployment", "namespace", "name", "replicas", "env": {container: {name: value or valueFrom}},
               "init": {the same}, "spec": {merged into the spec}}
POST write     {"kind", "namespace", "name", "patch"}: somebody else's strategic merge patch
POST faults    {"verb": "get"|"patch", "kind": ..., "times": 1, "after": 0}; kinds: status (with "status" and "reason"),
               cut-before, cut-after, hang-before, hang-after ("seconds"; then cut), other-writer (writes between
               the client's read and write), stuck (rollouts stop), revert (somebody puts a patch back)
DELETE faults
POST token     {"token": "..."}: what callers must bring from now on (at first: what the plugin gives)
GET  state     every object;  GET requests: verb, path, patch, user agent, status
"""

import argparse
import base64
import copy
import datetime
import ipaddress
import json
import os
import re
import secrets
import ssl
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

KINDS = {"deployments": "Deployment", "statefulsets": "StatefulSet"}
PLURAL = {kind: plural for plural, kind in KINDS.items()}
SHORT = {"deployments": ["deploy"], "statefulsets": ["sts"]}
PATH = re.compile(r"^/apis/apps/v1/namespaces/([^/]+)/(deployments|statefulsets)(?:/([^/]+))?$")
MERGE_KEY = {"containers": "name", "initContainers": "name", "env": "name"}
STRATEGIC, MERGE = "application/strategic-merge-patch+json", "application/merge-patch+json"
VARIABLE = re.compile(r"^[-._a-zA-Z][-._a-zA-Z0-9]*$")
FAULTS = {"status", "cut-before", "cut-after", "hang-before", "hang-after", "other-writer", "stuck", "revert"}


class Refused(Exception):
    def __init__(self, code, reason, message):
        super().__init__(message)
        self.code, self.reason, self.message = code, reason, message


class Cut(Exception):
    """Close the connection without an answer."""


def merge(target, patch, strategic, path=""):
    """A strategic merge patch, or RFC 7386."""
    for key, value in patch.items():
        if key.startswith("$"):
            raise Refused(400, "BadRequest", f"directive {key} is not modelled by the stand-in")
        if value is None:
            target.pop(key, None)
        elif isinstance(value, dict):
            inner = target.get(key)
            target[key] = merge(inner if isinstance(inner, dict) else {}, value, strategic, f"{path}.{key}")
        elif isinstance(value, list) and strategic and key in MERGE_KEY:
            by = MERGE_KEY[key]
            rows = target.setdefault(key, [])
            for row in value:
                if not isinstance(row, dict) or by not in row:
                    raise Refused(400, "BadRequest", f"map: {row} does not contain declared merge key: {by}")
                known = next((r for r in rows if r[by] == row[by]), None)
                if known is None:
                    rows.append(merge({}, row, strategic))
                else:
                    merge(known, row, strategic)
        else:
            target[key] = copy.deepcopy(value)
    return target


def check(spec, kind, name):
    """What the validation of apps/v1 says of the parts that are modelled."""
    def invalid(field, why):
        raise Refused(422, "Invalid", f'{kind}.apps "{name}" is invalid: {field}: {why}')

    replicas = spec.get("replicas", 1)
    if not isinstance(replicas, int) or isinstance(replicas, bool):
        raise Refused(400, "BadRequest", f"cannot unmarshal {replicas!r} into Go struct field .spec.replicas of type int32")
    if replicas < 0:
        invalid("spec.replicas", f"Invalid value: {replicas}: must be greater than or equal to 0")
    pod, names = spec["template"]["spec"], set()
    for lst in ("containers", "initContainers"):
        for i, container in enumerate(pod.get(lst, [])):
            at = f"spec.template.spec.{lst}[{i}]"
            if container["name"] in names:
                invalid(f"{at}.name", f'Duplicate value: "{container["name"]}"')
            names.add(container["name"])
            if not container.get("image"):
                invalid(f"{at}.image", "Required value")
            for j, entry in enumerate(container.get("env", [])):
                where = f"{at}.env[{j}]"
                if not VARIABLE.match(entry.get("name", "")):
                    invalid(f"{where}.name", f'Invalid value: "{entry.get("name", "")}"')
                if not isinstance(entry.get("value", ""), str):
                    raise Refused(400, "BadRequest", f"cannot unmarshal {where}.value into a string")
                if entry.get("value") and entry.get("valueFrom"):
                    invalid(f"{where}.valueFrom", 'Invalid value: "": may not be specified when `value` is not empty')
    if not pod.get("containers"):
        invalid("spec.template.spec.containers", "Required value")


class World:
    def __init__(self):
        self.lock = threading.RLock()
        self.objects, self.pods = {}, {}
        self.namespaces = {"default", "kube-system"}
        self.version, self.faults, self.requests, self.token = 100, [], [], None

    def bump(self, obj):
        self.version += 1
        obj["metadata"]["resourceVersion"] = str(self.version)

    def find(self, namespace, plural, name):
        if namespace not in self.namespaces:
            raise Refused(404, "NotFound", f'namespaces "{namespace}" not found')
        obj = self.objects.get((namespace, plural, name))
        if obj is None:
            raise Refused(404, "NotFound", f'{plural}.apps "{name}" not found')
        return obj

    def strike(self, verb):
        for rule in self.faults:
            if rule["kind"] == "stuck" or rule.get("verb", verb) != verb or rule["times"] == 0:
                continue
            if rule["after"] > 0:
                rule["after"] -= 1
                continue
            if rule["times"] > 0:
                rule["times"] -= 1
            return rule
        return None

    # ---- writes

    def patch(self, key, patch, content_type):
        if content_type not in (STRATEGIC, MERGE):
            raise Refused(415, "UnsupportedMediaType", f"the body of the request was in an unknown format - {content_type}")
        obj = self.find(*key)
        fresh = merge(copy.deepcopy(obj), patch, content_type == STRATEGIC)
        asked = patch.get("metadata", {}).get("resourceVersion")
        if asked is not None and asked != obj["metadata"]["resourceVersion"]:
            raise Refused(409, "Conflict", f'Operation cannot be fulfilled on {key[1]}.apps "{key[2]}": the object has been '
                          "modified; please apply your changes to the latest version and try again")
        for fixed in ("name", "namespace", "uid"):
            if fresh["metadata"][fixed] != obj["metadata"][fixed]:
                raise Refused(422, "Invalid", f"metadata.{fixed}: field is immutable")
        if fresh["spec"].get("selector") != obj["spec"].get("selector"):
            raise Refused(422, "Invalid", "spec.selector: field is immutable")
        check(fresh["spec"], KINDS[key[1]], key[2])
        # Status is a subresource: a patch of the object does not reach it.
        fresh["status"] = obj["status"]
        if fresh["spec"] != obj["spec"]:
            fresh["metadata"]["generation"] += 1
        if fresh != obj:
            self.bump(fresh)
        self.objects[key] = fresh
        return fresh

    def seed(self, given):
        kind, namespace, name = given.get("kind", "Deployment"), given.get("namespace", "default"), given["name"]
        self.namespaces.add(namespace)

        def containers(envs):
            rows = []
            for container, env in envs.items():
                entries = [{"name": k, **(v if isinstance(v, dict) else {"value": v})} for k, v in env.items()]
                rows.append({"name": container, "image": f"example/{container}:1", "env": entries})
            return rows

        pod = {"containers": containers(given["env"])}
        if given.get("init"):
            pod["initContainers"] = containers(given["init"])
        labels = {"app": name}
        spec = {
            "replicas": given.get("replicas", 1), "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": pod},
        }
        if kind == "StatefulSet":
            spec["updateStrategy"] = {"type": "RollingUpdate", "rollingUpdate": {"partition": 0}}
        merge(spec, given.get("spec", {}), True)
        check(spec, kind, name)
        obj = {
            "apiVersion": "apps/v1", "kind": kind, "spec": spec, "status": {},
            "metadata": {"name": name, "namespace": namespace, "uid": f"uid-{namespace}-{name}", "generation": 1,
                         "creationTimestamp": "2026-11-22T00:00:00Z"},
        }
        key = (namespace, PLURAL[kind], name)
        self.objects[key] = obj
        self.pods[key] = [[self.template(obj), 9] for _ in range(spec["replicas"])]
        obj["status"] = {"observedGeneration": 1}
        if kind == "StatefulSet":
            obj["status"]["currentRevision"] = self.template(obj)
        self.show(key, obj)
        self.bump(obj)

    # ---- controllers

    @staticmethod
    def template(obj):
        return f"{obj['metadata']['name']}-{hash(json.dumps(obj['spec']['template'], sort_keys=True)) & 0xffffffff:08x}"

    def show(self, key, obj):
        now, pods = self.template(obj), self.pods[key]
        ready = sum(1 for _, age in pods if age >= 2)
        status = {
            "observedGeneration": obj["status"]["observedGeneration"], "replicas": len(pods),
            "updatedReplicas": sum(1 for t, _ in pods if t == now), "readyReplicas": ready, "availableReplicas": ready,
        }
        if obj["kind"] == "StatefulSet":
            # As the controller does it (completeRollingUpdate): when all pods are new and ready.
            current = obj["status"]["currentRevision"]
            if status["updatedReplicas"] == len(pods) == ready == obj["spec"]["replicas"]:
                current = now
            status.update(currentRevision=current, updateRevision=now)
        else:
            status["conditions"] = obj["status"].get("conditions", [])
        # Zeros are not written, as in Go's omitempty.
        obj["status"] = {k: v for k, v in status.items() if v != 0 or k == "replicas" and obj["kind"] == "StatefulSet"}

    def step(self, key, obj):
        status, pods = obj["status"], self.pods[key]
        if status["observedGeneration"] < obj["metadata"]["generation"]:
            status["observedGeneration"] = obj["metadata"]["generation"]
            status.pop("conditions", None)
            return
        if obj["spec"].get("paused"):
            return
        stuck = next((f for f in self.faults if f["kind"] == "stuck" and f["times"] != 0), None)
        want, now = obj["spec"]["replicas"], self.template(obj)
        new, old = [p for p in pods if p[0] == now], [p for p in pods if p[0] != now]
        for pod in pods:
            if not (stuck and pod[0] == now):
                pod[1] += 1
        if stuck and want and not old and any(age < 2 for _, age in new) and obj["kind"] == "Deployment":
            status["conditions"] = [{
                "type": "Progressing", "status": "False", "reason": "ProgressDeadlineExceeded",
                "message": f'ReplicaSet "{now}" has timed out progressing.',
            }]
            stuck["times"] -= 1
            return
        ready = sum(1 for p in new if p[1] >= 2)
        if len(pods) > want and old and (want == 0 or ready or len(new) < want and len(pods) > want + 1):
            pods.remove(old[-1])
        elif len(pods) > want and not old:
            pods.pop()
        elif obj["kind"] == "Deployment" and len(new) < want and len(pods) <= want:
            pods.append([now, 0])
        elif obj["kind"] == "StatefulSet":
            if len(pods) < want:
                pods.append([now, 0])
            elif old and all(p[1] >= 2 for p in pods):
                pods[pods.index(old[-1])] = [now, 0]

    def look(self, key):
        obj = self.find(*key)
        before = copy.deepcopy(obj["status"])
        self.step(key, obj)
        self.show(key, obj)
        if obj["status"] != before:
            self.bump(obj)
        return copy.deepcopy(obj)


def discovery(path):
    def versions(group):
        v = {"groupVersion": f"{group}/v1", "version": "v1"}
        return {"name": group, "versions": [v], "preferredVersion": v}

    rows = [{"name": p, "singularName": k.lower(), "namespaced": True, "kind": k, "verbs": ["get", "list", "patch"],
             "shortNames": SHORT[p], "categories": ["all"]} for p, k in KINDS.items()]
    return {
        "/version": {"major": "1", "minor": "32", "gitVersion": "v1.32.0", "platform": "linux/amd64"},
        "/api": {"kind": "APIVersions", "versions": ["v1"], "serverAddressByClientCIDRs": []},
        "/apis": {"kind": "APIGroupList", "apiVersion": "v1", "groups": [versions("apps")]},
        "/api/v1": {"kind": "APIResourceList", "groupVersion": "v1", "resources": [
            {"name": "namespaces", "singularName": "namespace", "namespaced": False, "kind": "Namespace", "verbs": ["get"]},
        ]},
        "/apis/apps/v1": {"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": "apps/v1", "resources": rows},
    }.get(path)


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    world = None

    def log_message(self, *_):
        pass

    def answer(self, code, value):
        body = json.dumps(value).encode()
        self.send_response(code)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def handle_any(self):
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        path = self.path.partition("?")[0]
        try:
            if path.startswith("/_standin/"):
                return self.answer(200, self.control(path.rpartition("/")[2], json.loads(body) if body else {}))
            return self.answer(200, self.api(path, body))
        except Refused as r:
            status = {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "message": r.message,
                      "reason": r.reason, "code": r.code}
            return self.answer(r.code, status)
        except Cut:
            self.close_connection = True
            self.connection.close()
        except (KeyError, ValueError, TypeError) as e:
            self.answer(400, {"kind": "Status", "status": "Failure", "message": f"{type(e).__name__}: {e}", "code": 400})
        return None

    do_GET = do_POST = do_PATCH = do_PUT = do_DELETE = handle_any

    def api(self, path, body):
        world = self.world
        if world.token and self.headers.get("Authorization") != f"Bearer {world.token}":
            raise Refused(401, "Unauthorized", "Unauthorized")
        if (found := discovery(path)) is not None:
            return found
        if self.command == "GET" and path.startswith("/api/v1/namespaces/"):
            name = path.rpartition("/")[2]
            if name not in world.namespaces:
                raise Refused(404, "NotFound", f'namespaces "{name}" not found')
            return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}
        match = PATH.match(path)
        verb = {"GET": "get", "PATCH": "patch"}.get(self.command)
        if not match or verb is None:
            raise Refused(404, "NotFound", "the server could not find the requested resource")
        namespace, plural, name = match.groups()
        if name is None:
            raise Refused(405, "MethodNotAllowed", "lists are not modelled by the stand-in")
        key = (namespace, plural, name)
        with world.lock:
            entry = {"verb": verb, "path": path, "patch": json.loads(body) if body else None, "status": None,
                     "agent": self.headers.get("User-Agent", "")}
            world.requests.append(entry)
            rule = world.strike(verb)
        kind = rule["kind"] if rule else None
        if kind == "status":
            raise Refused(rule["status"], rule["reason"], rule.get("message", "scripted by a test"))
        if kind == "hang-before":
            time.sleep(rule.get("seconds", 3))
        if kind in ("cut-before", "hang-before"):
            raise Cut
        with world.lock:
            try:
                if verb == "get":
                    found = world.look(key)
                else:
                    if kind == "other-writer":
                        world.bump(world.find(*key))
                    was = copy.deepcopy(world.find(*key)["spec"])
                    found = copy.deepcopy(world.patch(key, entry["patch"], self.headers.get("Content-Type", "")))
                    if kind == "revert":
                        world.patch(key, {"spec": was}, STRATEGIC)
                entry["status"] = 200
            except Refused as r:
                entry["status"] = r.code
                raise
        if kind == "hang-after":
            time.sleep(rule.get("seconds", 3))
        if kind in ("cut-after", "hang-after"):
            raise Cut
        return found

    def control(self, name, given):
        world = self.world
        with world.lock:
            if (self.command, name) == ("POST", "seed"):
                world.seed(given)
            elif (self.command, name) == ("POST", "write"):
                key = (given.get("namespace", "default"), PLURAL[given.get("kind", "Deployment")], given["name"])
                return world.patch(key, given["patch"], STRATEGIC)
            elif (self.command, name) == ("POST", "faults"):
                if given.get("kind") not in FAULTS or given.get("verb", "get") not in ("get", "patch"):
                    raise ValueError(f"no such fault; kinds: {', '.join(sorted(FAULTS))}")
                world.faults.append({"times": 1, "after": 0, **given})
            elif (self.command, name) == ("DELETE", "faults"):
                world.faults.clear()
            elif (self.command, name) == ("POST", "token"):
                world.token = given["token"]
            elif (self.command, name) == ("GET", "state"):
                return [copy.deepcopy(o) for o in world.objects.values()]
            elif (self.command, name) == ("GET", "requests"):
                return list(world.requests)
            else:
                raise ValueError(f"no such control call: {self.command} {name}")
        return {}


def certificate(directory):
    """A certificate for 127.0.0.1 that is its own authority: files of certificate and key, and its text."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "k8s-standin")])
    now = datetime.datetime.now(datetime.timezone.utc)
    cert = (
        x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1)).not_valid_after(now + datetime.timedelta(days=30))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    text = cert.public_bytes(serialization.Encoding.PEM)
    pem = os.path.join(directory, "k8s-standin.pem")
    with open(os.open(pem, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as f:
        f.write(key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()))
        f.write(text)
    return pem, text


def kubeconfig(port, ca, token):
    given = {"apiVersion": "client.authentication.k8s.io/v1beta1", "kind": "ExecCredential", "status": {"token": token}}
    plugin = {"apiVersion": given["apiVersion"], "command": "sh", "args": ["-c", f"echo '{json.dumps(given)}'"],
              "interactiveMode": "Never"}
    cluster = {"server": f"https://127.0.0.1:{port}", "certificate-authority-data": base64.b64encode(ca).decode()}
    # JSON is YAML.
    return json.dumps({
        "apiVersion": "v1", "kind": "Config", "current-context": "plugin",
        "clusters": [{"name": "standin", "cluster": cluster}],
        "users": [{"name": "plugin", "user": {"exec": plugin}}, {"name": "nobody", "user": {}}],
        "contexts": [{"name": n, "context": {"cluster": "standin", "user": n}} for n in ("plugin", "nobody")],
    })


class Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, port, world, pem=None):
        super().__init__(("127.0.0.1", port), type("Bound", (Handler,), {"world": world}))
        self.tls = None
        if pem:
            self.tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            self.tls.load_cert_chain(pem)

    def finish_request(self, request, client_address):
        # The handshake in the thread of the connection: one that hangs holds up no other.
        if not self.tls:
            super().finish_request(request, client_address)
            return
        with self.tls.wrap_socket(request, server_side=True) as wrapped:
            super().finish_request(wrapped, client_address)

    def handle_error(self, *_):
        """A client that was killed is no mistake."""


def start(port, config):
    """(control server, API server), both serving in threads."""
    world = World()
    world.token = secrets.token_hex(8)
    pem, ca = certificate(os.path.dirname(os.path.abspath(config)))
    control, api = Server(port, world), Server(0, world, pem)
    with open(config, "w") as f:
        f.write(kubeconfig(api.server_address[1], ca, world.token))
    for srv in (control, api):
        threading.Thread(target=srv.serve_forever, daemon=True).start()
    return control, api


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--port", type=int, default=4591)
    parser.add_argument("--kubeconfig", required=True, help="is written")
    given = parser.parse_args()
    control, _ = start(given.port, given.kubeconfig)
    print(f"k8s-standin ready on http://127.0.0.1:{control.server_address[1]}", flush=True)
    threading.Event().wait()


if __name__ == "__main__":
    main()
