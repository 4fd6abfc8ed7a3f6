"""Settings of a running stand-in, changed by `POST /_standin/config`.

polls      describes until an operation is done: a number, null (time only), or per kind
durations  virtual seconds per kind of operation
page_size  never give more records per page than this (AWS: 20 to 100); also for AWS Backup lists
lag        seconds between now and LatestRestorableTime (provider-rules 5b: about 300)
quotas     manual-snapshots, manual-cluster-snapshots, retained-backups, replicated-backups,
           copies-in-flight, cluster-copies-in-flight, instances, clusters
signatures whether signatures are compared (signature.py)
check_roles  whether IAM roles named in AWS Backup calls must exist and trust the service
"""

from .lifecycle import DURATIONS, POLLS

QUOTAS = {
    "manual-snapshots": 100, "manual-cluster-snapshots": 100, "retained-backups": 40,
    "replicated-backups": 20, "copies-in-flight": 20, "cluster-copies-in-flight": 5,
    "instances": 40, "clusters": 40,
}


class Config:
    def __init__(self):
        self.polls = POLLS
        self.poll_overrides = {}
        self.durations = dict(DURATIONS)
        self.page_size = 100
        self.lag = 300
        self.quotas = dict(QUOTAS)
        self.check_roles = True
        self.signatures = True

    def polls_for(self, kind):
        return self.poll_overrides.get(kind, self.polls)

    def duration(self, kind):
        return self.durations[kind]

    def update(self, change):
        """Raises ValueError for what does not exist: a typo in a test must not pass unseen."""
        for key, value in change.items():
            if key == "polls" and isinstance(value, dict):
                for kind in value:
                    self._known(kind, DURATIONS, "operation kind")
                self.poll_overrides.update(value)
            elif key == "polls":
                self.polls = value
                self.poll_overrides.clear()
            elif key in ("durations", "quotas"):
                table = getattr(self, key)
                for name in value:
                    self._known(name, table, key)
                table.update(value)
            elif key in ("page_size", "lag", "check_roles", "signatures"):
                setattr(self, key, value)
            else:
                raise ValueError(f"unknown setting {key}")

    @staticmethod
    def _known(name, table, what):
        if name not in table:
            raise ValueError(f"unknown {what} {name}; known: {', '.join(sorted(table))}")

    def dump(self):
        return {
            "polls": self.polls, "poll_overrides": self.poll_overrides, "durations": self.durations,
            "page_size": self.page_size, "lag": self.lag, "quotas": self.quotas, "check_roles": self.check_roles,
            "signatures": self.signatures,
        }
