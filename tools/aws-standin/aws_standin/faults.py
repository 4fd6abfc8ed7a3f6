"""Scripted faults, set by `POST /_standin/faults`.

A rule is a JSON object; `action` is a glob over `service:Operation` (`rds:Create*`). Optional
filters: `region`, `resource` (glob over the resource ARNs of the call), `principal` (glob over the
caller's ARN). `times` says how often it strikes (default 1, null = always), `after` how many
matching calls pass first. Kinds:

throttle    `Throttling` (`code` may name another: RequestLimitExceeded, TooManyRequestsException)
error       HTTP `status` 500 or 503 (InternalFailure / ServiceUnavailable), before any effect
error-after the same, but after the action took effect
cut-before  the connection is closed and nothing happened
cut-after   the action took effect, then the connection is closed
torn-after  the action took effect, and the connection is closed in the middle of the answer
deny        AccessDenied with AWS's message
hang-before nothing happens; after `seconds` of wall-clock time the connection is closed
hang-after  the action took effect, but the answer never comes: closed after `seconds`
delay       `seconds` of wall-clock time before the answer
fail        the operation of kind `operation` (see lifecycle.py) on a subject matching `resource`
            fails on the way, at `at` percent (default 50); `message`, `state` may be given
invisible   a resource of kind `operation` that is created is not shown for `describes` calls
"""

import fnmatch

KINDS = {"throttle", "error", "error-after", "cut-before", "cut-after", "torn-after", "hang-before", "hang-after", "deny", "delay", "fail", "invisible"}
FIELDS = {
    "kind", "action", "region", "resource", "principal", "times", "after", "code", "status", "seconds",
    "operation", "at", "message", "state", "describes",
}


class Faults:
    def __init__(self):
        self.rules = []

    def add(self, rule):
        if rule.get("kind") not in KINDS:
            raise ValueError(f"unknown kind of fault {rule.get('kind')!r}; known: {', '.join(sorted(KINDS))}")
        unknown = set(rule) - FIELDS
        if unknown:
            raise ValueError(f"unknown field of a fault: {sorted(unknown)[0]}")
        rule = dict(rule)
        rule.setdefault("times", None if rule["kind"] == "deny" else 1)
        rule.setdefault("after", 0)
        rule["struck"] = 0
        self.rules.append(rule)

    def clear(self):
        self.rules.clear()

    def _strike(self, rule):
        if rule["after"] > 0:
            rule["after"] -= 1
            return False
        if rule["times"] is not None and rule["struck"] >= rule["times"]:
            return False
        rule["struck"] += 1
        return True

    def for_call(self, action, region, resources, principal):
        """The rules that strike this call, denials first."""
        found = []
        for rule in self.rules:
            if rule["kind"] in ("fail", "invisible"):
                continue
            if not fnmatch.fnmatchcase(action, rule.get("action", "*")):
                continue
            if rule.get("region", region) != region:
                continue
            if not any(fnmatch.fnmatchcase(r, rule.get("resource", "*")) for r in resources or ["*"]):
                continue
            if not fnmatch.fnmatchcase(principal, rule.get("principal", "*")):
                continue
            if self._strike(rule):
                found.append(rule)
        return sorted(found, key=lambda r: r["kind"] != "deny")

    def _for_operation(self, kind, operation, subject):
        for rule in self.rules:
            if rule["kind"] == kind and fnmatch.fnmatchcase(operation, rule.get("operation", "*")):
                if fnmatch.fnmatchcase(subject, rule.get("resource", "*")) and self._strike(rule):
                    return rule
        return None

    def failure_for(self, operation, subject):
        return self._for_operation("fail", operation, subject)

    def invisible_for(self, operation, subject):
        rule = self._for_operation("invisible", operation, subject)
        return rule.get("describes", 1) if rule else 0
