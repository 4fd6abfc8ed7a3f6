"""RDS: instances, Aurora, Multi-AZ and DocumentDB clusters, their snapshots, backups and proxies.

Importing the package registers every action. DocumentDB is part of it: its API is this one's.
"""

from . import (  # noqa: F401
    automated, catalogue, cluster_restore, cluster_snapshots, clusters, copies, events, groups, instances, proxy,
    restore, snapshots, tags,
)
