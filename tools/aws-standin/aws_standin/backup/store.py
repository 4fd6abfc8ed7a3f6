"""What one account has in one region's AWS Backup."""


class BackupStore:
    def __init__(self):
        self.vaults = {}
        self.plans = {}
        self.jobs = {}
        self.copy_jobs = {}
        self.restore_jobs = {}
        self.holds = {}
        self.tags = {}
        self.opt_in = {name: True for name in ("Aurora", "DocumentDB", "RDS", "DynamoDB", "EBS", "EC2", "EFS", "S3")}

    def points(self):
        return [p for v in self.vaults.values() for p in v.points.values()]

    def dump(self):
        return {
            "vaults": [
                {"name": v.name, "locked": v.lock is not None, "points": [{"arn": p.arn, "status": p.status} for p in v.points.values()]}
                for v in self.vaults.values()
            ],
            "plans": [{"id": p.id, "name": p.body["BackupPlanName"]} for p in self.plans.values()],
            "jobs": [{"id": j.id, "state": j.state, "message": j.message} for j in self.jobs.values()],
            "copy_jobs": [{"id": j.id, "state": j.state, "message": j.message} for j in self.copy_jobs.values()],
            "restore_jobs": [{"id": j.id, "state": j.state, "message": j.message} for j in self.restore_jobs.values()],
        }
