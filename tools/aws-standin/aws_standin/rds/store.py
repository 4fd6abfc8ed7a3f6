"""What one account has in one region's RDS, and what all resources there have in common."""

import zlib

from .. import arns


class Resource:
    """A named thing with tags, a status that may be on its way, and the members AWS shows."""

    def __init__(self, ctx, kind, name, view, tags=()):
        self.kind, self.name, self.region, self.account = kind, name, ctx.region, ctx.account
        self.view = view
        self.tags = [dict(tag) for tag in tags or ()]
        self.settled = "available"
        self.operation = None
        self.hidden = 0

    @property
    def arn(self):
        return arns.rds(self.region, self.account, self.kind, self.name)

    @property
    def status(self):
        if self.operation and not self.operation.finished:
            return self.operation.stage
        return self.settled

    @property
    def busy(self):
        return self.operation is not None and not self.operation.finished

    def observe(self):
        """One describe saw this resource; False while it is not to be seen yet."""
        if self.hidden > 0:
            self.hidden -= 1
            return False
        if self.operation:
            self.operation.observe()
        return True


class RdsStore:
    TABLES = {
        "db": "instances", "snapshot": "snapshots", "cluster": "clusters", "cluster-snapshot": "cluster_snapshots",
        "subgrp": "subnet_groups", "pg": "parameter_groups", "cluster-pg": "cluster_parameter_groups",
        "og": "option_groups", "db-proxy": "proxies", "auto-backup": "automated",
        "cluster-auto-backup": "cluster_automated",
    }

    def __init__(self):
        for table in self.TABLES.values():
            setattr(self, table, {})
        self.events = []

    def by_arn(self, arn):
        parts = arns.split_rds(arn)
        if not parts or parts[2] not in self.TABLES:
            return None
        table = getattr(self, self.TABLES[parts[2]])
        return table.get(parts[3]) or next((r for r in table.values() if r.arn == arn), None)


def endpoint_name(region, account, name, cluster=""):
    """Host names hold an account-wide id: `db1.cabc….us-east-1.rds.amazonaws.com`."""
    return f"{name}.{cluster}c{zlib.crc32(f'{account}{region}'.encode()):08x}stnd.{region}.rds.amazonaws.com"
