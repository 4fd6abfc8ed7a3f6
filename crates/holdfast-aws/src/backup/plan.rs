//! [`BackupPlans`]: plans, rules, selections.

use super::{lifecycle, to_lifecycle};
use crate::actions as act;
use crate::call::On;
use crate::cloud::AwsCloud;
use crate::convert::{number, stamped, text, token, when};
use async_trait::async_trait;
use aws_sdk_backup::types as sdk;
use futures::stream::{self, StreamExt, TryStreamExt};
use holdfast_core::managed::{
    BackupPlan, BackupPlans, BackupRule, BackupVaults, CopyAction, ErrorKind, Operation, Outcome,
    PlanContent, Region, Result, Selection, SelectionContent, Tags,
};

fn rule(r: &sdk::BackupRule) -> BackupRule {
    BackupRule {
        name: r.rule_name().to_string(),
        vault: r.target_backup_vault_name().to_string(),
        schedule: r.schedule_expression().map(str::to_string),
        // AWS writes its default out.
        timezone: r.schedule_expression_timezone().filter(|z| *z != "Etc/UTC").map(str::to_string),
        start_window: number(r.start_window_minutes()),
        completion_window: number(r.completion_window_minutes()),
        lifecycle: lifecycle(r.lifecycle()),
        continuous: r.enable_continuous_backup().unwrap_or(false),
        copies: r
            .copy_actions()
            .iter()
            .map(|c| CopyAction {
                to_vault_arn: c.destination_backup_vault_arn().to_string(),
                lifecycle: lifecycle(c.lifecycle()),
            })
            .collect(),
        point_tags: r.recovery_point_tags().map(|t| t.iter().collect()).unwrap_or_default(),
    }
}

fn to_input(on: On<'_>, content: &PlanContent) -> Result<sdk::BackupPlanInput> {
    let refuse = |e: aws_smithy_types::error::operation::BuildError| {
        on.refuse(ErrorKind::InvalidRequest, e.to_string())
    };
    let mut plan = sdk::BackupPlanInput::builder().backup_plan_name(&content.name);
    for r in &content.rules {
        let mut copies = Vec::new();
        for c in &r.copies {
            let copy = sdk::CopyAction::builder()
                .destination_backup_vault_arn(&c.to_vault_arn)
                .set_lifecycle(to_lifecycle(c.lifecycle))
                .build()
                .map_err(refuse)?;
            copies.push(copy);
        }
        let tags = (!r.point_tags.is_empty()).then(|| r.point_tags.0.clone().into_iter().collect());
        let rule = sdk::BackupRuleInput::builder()
            .rule_name(&r.name)
            .target_backup_vault_name(&r.vault)
            .set_schedule_expression(r.schedule.clone())
            .set_schedule_expression_timezone(r.timezone.clone())
            .set_start_window_minutes(r.start_window.map(i64::from))
            .set_completion_window_minutes(r.completion_window.map(i64::from))
            .set_lifecycle(to_lifecycle(r.lifecycle))
            .set_enable_continuous_backup(r.continuous.then_some(true))
            .set_copy_actions((!copies.is_empty()).then_some(copies))
            .set_recovery_point_tags(tags)
            .build()
            .map_err(refuse)?;
        plan = plan.rules(rule);
    }
    plan.build().map_err(refuse)
}

impl AwsCloud {
    async fn selections(&self, region: &Region, plan: &str) -> Result<Vec<Selection>> {
        let on = On::new(act::LIST_SELECTIONS, region, plan);
        let pages =
            self.backup(region).list_backup_selections().backup_plan_id(plan).into_paginator().items().send();
        let all = self.read(on, pages.try_collect()).await?;
        let ids = all.into_iter().filter_map(|s| s.selection_id);
        stream::iter(ids)
            .map(|id| async move {
                let on = On::new(act::GET_SELECTION, region, &id);
                let call = self.backup(region).get_backup_selection().backup_plan_id(plan).selection_id(&id);
                let reply = self.read(on, call.send()).await?;
                let s = reply.backup_selection().ok_or_else(|| on.incomplete("selection"))?;
                let with_tags = s
                    .list_of_tags()
                    .iter()
                    .map(|c| (c.condition_key().to_string(), c.condition_value().to_string()))
                    .collect();
                let content = SelectionContent {
                    name: s.selection_name().to_string(),
                    role_arn: s.iam_role_arn().to_string(),
                    resources: s.resources().to_vec(),
                    not_resources: s.not_resources().to_vec(),
                    with_tags,
                };
                Ok(Selection { id: id.clone(), content })
            })
            .buffered(4)
            .try_collect()
            .await
    }
}

#[async_trait]
impl BackupPlans for AwsCloud {
    async fn plans(&self, region: &Region) -> Result<Vec<BackupPlan>> {
        let on = On::new(act::LIST_PLANS, region, "all plans");
        let pages = self.backup(region).list_backup_plans().into_paginator().items().send();
        let all = self.read(on, pages.try_collect()).await?;
        let ids = all.into_iter().filter(|p| p.deletion_date.is_none()).filter_map(|p| p.backup_plan_id);
        stream::iter(ids)
            .map(|id| async move { self.plan(region, &id).await })
            .buffered(4)
            .try_collect()
            .await
    }

    async fn plan(&self, region: &Region, id: &str) -> Result<BackupPlan> {
        let on = On::new(act::GET_PLAN, region, id);
        let look =
            || async { self.read(on, self.backup(region).get_backup_plan().backup_plan_id(id).send()).await };
        let p = self.patiently(&format!("plan/{region}/{id}"), look).await?;
        let content = p.backup_plan().ok_or_else(|| on.incomplete("plan"))?;
        let arn = text(p.backup_plan_arn());
        let (selections, tags) =
            futures::try_join!(self.selections(region, id), self.backup_tags(region, &arn))?;
        Ok(BackupPlan {
            region: region.clone(),
            id: id.to_string(),
            version: text(p.version_id()),
            created: when(p.creation_date()),
            last_run: when(p.last_execution_date()),
            content: PlanContent {
                name: content.backup_plan_name().to_string(),
                rules: content.rules().iter().map(rule).collect(),
            },
            selections,
            tags,
            arn,
        })
    }

    async fn create_plan(
        &self,
        region: &Region,
        content: &PlanContent,
        tags: &Tags,
        op: &Operation,
    ) -> Result<BackupPlan> {
        let on = On::new(act::CREATE_PLAN, region, &content.name);
        let call = self
            .backup(region)
            .create_backup_plan()
            .backup_plan(to_input(on, content)?)
            .set_backup_plan_tags(Some(stamped(tags, op).0.into_iter().collect()))
            .creator_request_id(token(op));
        match self.change(on, Some(op), call.send()).await {
            Ok(made) => {
                let id = made.backup_plan_id().ok_or_else(|| on.incomplete("plan id"))?;
                self.fresh.note(format!("plan/{region}/{id}"));
                self.plan(region, id).await
            }
            Err(e) if e.kind == ErrorKind::AlreadyExists => {
                let mut all = self.plans(region).await?.into_iter();
                let own = all.find(|p| p.tags.operation() == Some(op.as_str()));
                match own {
                    Some(plan) => {
                        self.record(on, Some(op), e.request_id.clone(), Outcome::Adopted)?;
                        Ok(plan)
                    }
                    None => {
                        self.record(on, Some(op), e.request_id.clone(), Outcome::failed(&e))?;
                        Err(e)
                    }
                }
            }
            Err(e) => Err(e),
        }
    }

    async fn update_plan(&self, region: &Region, id: &str, content: &PlanContent) -> Result<BackupPlan> {
        let on = On::new(act::UPDATE_PLAN, region, id);
        let call =
            self.backup(region).update_backup_plan().backup_plan_id(id).backup_plan(to_input(on, content)?);
        self.change(on, None, call.send()).await?;
        self.plan(region, id).await
    }

    async fn create_selection(
        &self,
        region: &Region,
        plan: &str,
        content: &SelectionContent,
        op: &Operation,
    ) -> Result<Selection> {
        let on = On::new(act::CREATE_SELECTION, region, &content.name);
        let mut conditions = Vec::new();
        for (key, value) in &content.with_tags {
            let condition = sdk::Condition::builder()
                .condition_type(sdk::ConditionType::Stringequals)
                .condition_key(key)
                .condition_value(value)
                .build()
                .map_err(|e| on.refuse(ErrorKind::InvalidRequest, e.to_string()))?;
            conditions.push(condition);
        }
        let some = |l: &[String]| (!l.is_empty()).then(|| l.to_vec());
        let selection = sdk::BackupSelection::builder()
            .selection_name(&content.name)
            .iam_role_arn(&content.role_arn)
            .set_resources(some(&content.resources))
            .set_not_resources(some(&content.not_resources))
            .set_list_of_tags((!conditions.is_empty()).then_some(conditions))
            .build()
            .map_err(|e| on.refuse(ErrorKind::InvalidRequest, e.to_string()))?;
        let call = self
            .backup(region)
            .create_backup_selection()
            .backup_plan_id(plan)
            .backup_selection(selection)
            .creator_request_id(token(op));
        match self.change(on, Some(op), call.send()).await {
            Ok(made) => {
                let id = made.selection_id().ok_or_else(|| on.incomplete("selection id"))?.to_string();
                Ok(Selection { id, content: content.clone() })
            }
            Err(e) if e.kind == ErrorKind::AlreadyExists => {
                // Selections carry no tags: the same name with the same content is the same selection.
                let all = self.selections(region, plan).await?;
                match all.into_iter().find(|s| s.content == *content) {
                    Some(selection) => {
                        self.record(on, Some(op), e.request_id.clone(), Outcome::Adopted)?;
                        Ok(selection)
                    }
                    None => {
                        self.record(on, Some(op), e.request_id.clone(), Outcome::failed(&e))?;
                        Err(e)
                    }
                }
            }
            Err(e) => Err(e),
        }
    }

    async fn delete_selection(&self, region: &Region, plan: &str, id: &str) -> Result<()> {
        let on = On::new(act::DELETE_SELECTION, region, id);
        let call = self.backup(region).delete_backup_selection().backup_plan_id(plan).selection_id(id);
        self.removal(on, call.send()).await
    }
}
