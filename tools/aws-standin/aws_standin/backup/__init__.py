"""AWS Backup: vaults, plans, jobs, recovery points, copies, restores, legal holds, tags.

Importing the package registers every action. Recovery points of RDS databases are snapshots named
`awsbackup:…`, which RDS shows too.
"""

from . import copies, holds, jobs, plans, points, restores, tags, vaults  # noqa: F401
