"""Backup plans, their selections, and the runs of their rules.

Rules (provider-rules 5b, X6, X10): start window at least 60 minutes; deletion at least 90 days
after cold storage; a continuous rule needs a retention of 1 to 35 days; copy actions name a
`backup-vault` ARN; vaults must exist. Rules run when their virtual time comes.
"""

import copy

from .. import arns, paging
from ..registry import action
from ..wire.errors import AwsError
from . import jobs, resources, vaults
from .errors import bad, missing, refused
from .schedule import Schedule

DEFAULT_SCHEDULE = "cron(0 5 ? * * *)"


class Plan:
    def __init__(self, ctx, body, creator):
        self.id, self.creator, self.created = arns.new_uuid(), creator, ctx.now
        self.arn = arns.backup(ctx.region, ctx.account, "backup-plan", self.id)
        self.selections = {}
        self.last_run = None
        self.change(ctx, body)

    def change(self, ctx, body):
        self.body = copy.deepcopy(body)
        self.version = arns.new_uuid().replace("-", "")
        for rule in self.body["Rules"]:
            rule.setdefault("RuleId", arns.new_uuid())
            rule.setdefault("ScheduleExpression", DEFAULT_SCHEDULE)
            rule.setdefault("ScheduleExpressionTimezone", "Etc/UTC")
            rule.setdefault("StartWindowMinutes", 480)
            rule.setdefault("CompletionWindowMinutes", 10080)
            rule.setdefault("EnableContinuousBackup", False)
            _schedule(ctx, self, rule, self.version)

    def shown(self):
        return {"BackupPlanId": self.id, "BackupPlanArn": self.arn, "CreationDate": self.created, "VersionId": self.version}


class Selection:
    def __init__(self, ctx, body, creator):
        self.id, self.body, self.creator, self.created = arns.new_uuid(), body, creator, ctx.now


def find(ctx, plan_id):
    plan = ctx.backup.plans.get(plan_id)
    if plan is None:
        raise missing(f"Backup plan {plan_id} cannot be found.")
    return plan


def _check(ctx, body):
    names = [rule["RuleName"] for rule in body["Rules"]]
    if not names or len(names) != len(set(names)):
        raise bad("A plan needs rules with unique names.")
    for rule in body["Rules"]:
        if rule.get("TargetLogicallyAirGappedBackupVaultArn"):
            raise refused("the stand-in does not model logically air-gapped vaults")
        if rule["TargetBackupVaultName"] not in ctx.backup.vaults:
            raise bad(f"Backup vault {rule['TargetBackupVaultName']} cannot be found.")
        Schedule(rule.get("ScheduleExpression", DEFAULT_SCHEDULE), rule.get("ScheduleExpressionTimezone"))
        jobs.check_windows(rule.get("StartWindowMinutes"), rule.get("CompletionWindowMinutes"))
        days = resources.lifecycle(rule.get("Lifecycle"))
        if rule.get("EnableContinuousBackup"):
            if days is None or days > 35:
                raise bad("The retention period of a continuous backup must be between 1 and 35 days.")
            if rule.get("Lifecycle", {}).get("MoveToColdStorageAfterDays", -1) != -1:
                raise bad("Continuous backups cannot be moved to cold storage.")
        for wanted in rule.get("CopyActions", []):
            resources.lifecycle(wanted.get("Lifecycle"))
            try:
                vaults.by_arn(ctx, wanted["DestinationBackupVaultArn"])
            except AwsError as error:
                raise bad(error.message) from None


def _schedule(ctx, plan, rule, version):
    due = Schedule(rule["ScheduleExpression"], rule["ScheduleExpressionTimezone"]).after(ctx.now)

    def run_and_repeat():
        if ctx.backup.plans.get(plan.id) is plan and plan.version == version:
            run(ctx, plan, rule)
            _schedule(ctx, plan, rule, version)
    if due is not None:
        ctx.world.clock.at(due, run_and_repeat)


def run(ctx, plan, rule):
    """One rule now: a job per selected database."""
    plan.last_run = ctx.now
    creator = {
        "BackupPlanId": plan.id, "BackupPlanArn": plan.arn, "BackupPlanName": plan.body["BackupPlanName"], "BackupPlanVersion": plan.version,
        "BackupRuleId": rule["RuleId"], "BackupRuleName": rule["RuleName"], "BackupRuleCron": rule["ScheduleExpression"],
        "BackupRuleTimezone": rule["ScheduleExpressionTimezone"],
    }
    vault = ctx.backup.vaults.get(rule["TargetBackupVaultName"])
    started = []
    for selection in plan.selections.values():
        for resource in resources.selected(ctx, selection.body):
            if vault is None:
                continue  # as if the plan had never been: AWS makes no job either
            days = resources.lifecycle(rule.get("Lifecycle"))
            # DocumentDB has no continuous backup: its rule makes snapshots.
            continuous = rule["EnableContinuousBackup"] and resource.view["Engine"] != "docdb"
            job = jobs.Job(
                ctx, vault, resource.arn, selection.body["IamRoleArn"], days, rule["StartWindowMinutes"], creator,
                rule.get("RecoveryPointTags"), rule.get("CopyActions", []), continuous,
            )
            started.append(jobs.start(ctx, job).id)
    return started


def run_all(ctx):
    return [job for plan in list(ctx.backup.plans.values()) for rule in plan.body["Rules"] for job in run(ctx, plan, rule)]


@action("backup", "CreateBackupPlan")
def create(ctx, p):
    creator = p.get("CreatorRequestId")
    same = next((x for x in ctx.backup.plans.values() if creator and x.creator == creator), None)
    if same is not None:
        return same.shown()
    _check(ctx, p["BackupPlan"])
    if any(x.body["BackupPlanName"] == p["BackupPlan"]["BackupPlanName"] for x in ctx.backup.plans.values()):
        raise AwsError("AlreadyExistsException", f"Backup plan with the same name already exists: {p['BackupPlan']['BackupPlanName']}")
    plan = Plan(ctx, p["BackupPlan"], creator)
    ctx.backup.plans[plan.id] = plan
    ctx.backup.tags[plan.arn] = dict(p.get("BackupPlanTags", {}))
    return plan.shown()


@action("backup", "GetBackupPlan")
def get(ctx, p):
    plan = find(ctx, p["BackupPlanId"])
    return {**plan.shown(), "BackupPlan": plan.body, "CreatorRequestId": plan.creator, "LastExecutionDate": plan.last_run}


@action("backup", "UpdateBackupPlan")
def update(ctx, p):
    plan = find(ctx, p["BackupPlanId"])
    _check(ctx, p["BackupPlan"])
    plan.change(ctx, p["BackupPlan"])
    return plan.shown()


@action("backup", "DeleteBackupPlan")
def delete(ctx, p):
    plan = find(ctx, p["BackupPlanId"])
    if plan.selections:
        raise refused("Related backup plan selections must be deleted prior to backup plan deletion.")
    del ctx.backup.plans[plan.id]
    return {"BackupPlanId": plan.id, "BackupPlanArn": plan.arn, "DeletionDate": ctx.now, "VersionId": plan.version}


@action("backup", "ListBackupPlans")
def list_plans(ctx, p):
    page, token = paging.backup(ctx, p, list(ctx.backup.plans.values()), lambda x: x.id)
    return {"NextToken": token, "BackupPlansList": [
        {**x.shown(), "BackupPlanName": x.body["BackupPlanName"], "CreatorRequestId": x.creator, "LastExecutionDate": x.last_run} for x in page
    ]}


@action("backup", "CreateBackupSelection")
def create_selection(ctx, p):
    plan, body = find(ctx, p["BackupPlanId"]), p["BackupSelection"]
    same = next((s for s in plan.selections.values() if p.get("CreatorRequestId") and s.creator == p["CreatorRequestId"]), None)
    if same is None:
        resources.check_role(ctx, body["IamRoleArn"])
        if not body.get("Resources") and not body.get("ListOfTags"):
            raise bad("A selection needs Resources or ListOfTags.")
        for pattern in body.get("Resources", []) + body.get("NotResources", []):
            if pattern != "*" and not pattern.startswith("arn:"):
                raise bad(f"Invalid ARN: {pattern}")
        if any(s.body["SelectionName"] == body["SelectionName"] for s in plan.selections.values()):
            raise AwsError("AlreadyExistsException", f"Backup selection with the same name already exists: {body['SelectionName']}")
        same = Selection(ctx, body, p.get("CreatorRequestId"))
        plan.selections[same.id] = same
    return {"SelectionId": same.id, "BackupPlanId": plan.id, "CreationDate": same.created}


def _selection(ctx, p):
    plan = find(ctx, p["BackupPlanId"])
    if p["SelectionId"] not in plan.selections:
        raise missing(f"Backup selection {p['SelectionId']} cannot be found.")
    return plan, plan.selections[p["SelectionId"]]


@action("backup", "GetBackupSelection")
def get_selection(ctx, p):
    plan, selection = _selection(ctx, p)
    return {
        "BackupSelection": selection.body, "SelectionId": selection.id, "BackupPlanId": plan.id,
        "CreationDate": selection.created, "CreatorRequestId": selection.creator,
    }


@action("backup", "DeleteBackupSelection")
def delete_selection(ctx, p):
    plan, selection = _selection(ctx, p)
    del plan.selections[selection.id]
    return {}


@action("backup", "ListBackupSelections")
def list_selections(ctx, p):
    plan = find(ctx, p["BackupPlanId"])
    page, token = paging.backup(ctx, p, list(plan.selections.values()), lambda s: s.id)
    return {"NextToken": token, "BackupSelectionsList": [
        {"SelectionId": s.id, "SelectionName": s.body["SelectionName"], "BackupPlanId": plan.id, "CreationDate": s.created,
         "CreatorRequestId": s.creator, "IamRoleArn": s.body["IamRoleArn"]} for s in page
    ]}
