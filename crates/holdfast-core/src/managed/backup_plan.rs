//! Plans and selections of AWS Backup: what it does by itself, [`BackupPlan`], [`BackupPlans`].

use super::Operation;
use super::error::Result;
use super::recovery_point::Lifecycle;
use super::source::Region;
use super::tags::Tags;
use async_trait::async_trait;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// A copy that a rule makes of each of its points.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CopyAction {
    /// `arn:aws:backup:REGION:ACCOUNT:backup-vault:NAME`.
    pub to_vault_arn: String,
    pub lifecycle: Lifecycle,
}

/// A rule of a plan.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BackupRule {
    pub name: String,
    pub vault: String,
    /// `cron(0 5 ? * * *)` or `rate(…)`; absent on continuous-only rules.
    pub schedule: Option<String>,
    /// Zone of the schedule; absent = UTC.
    pub timezone: Option<String>,
    /// Minutes; AWS wants at least 60.
    pub start_window: Option<u32>,
    /// Minutes.
    pub completion_window: Option<u32>,
    pub lifecycle: Lifecycle,
    /// Point-in-time recovery, 1 to 35 days by the lifecycle.
    pub continuous: bool,
    pub copies: Vec<CopyAction>,
    pub point_tags: Tags,
}

/// What a plan says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlanContent {
    pub name: String,
    pub rules: Vec<BackupRule>,
}

/// A plan.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BackupPlan {
    pub region: Region,
    pub id: String,
    pub arn: String,
    pub version: String,
    pub created: Option<Timestamp>,
    pub last_run: Option<Timestamp>,
    pub content: PlanContent,
    pub selections: Vec<Selection>,
    pub tags: Tags,
}

/// What a selection says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SelectionContent {
    pub name: String,
    /// The role under which AWS Backup works.
    pub role_arn: String,
    /// ARNs, `*` allowed. Empty = by tags only.
    pub resources: Vec<String>,
    /// ARNs that are left out.
    pub not_resources: Vec<String>,
    /// Key and value; any of them selects.
    pub with_tags: Vec<(String, String)>,
}

/// Which resources a plan protects.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Selection {
    pub id: String,
    pub content: SelectionContent,
}

/// Plans.
#[async_trait]
pub trait BackupPlans: Send + Sync {
    /// All plans of a region, with rules, selections and tags.
    async fn plans(&self, region: &Region) -> Result<Vec<BackupPlan>>;

    async fn plan(&self, region: &Region, id: &str) -> Result<BackupPlan>;

    /// Makes a plan. The operation is its creator request id: made again, it is the same plan.
    async fn create_plan(
        &self,
        region: &Region,
        content: &PlanContent,
        tags: &Tags,
        op: &Operation,
    ) -> Result<BackupPlan>;

    /// Replaces rules; AWS keeps the old version. Points that exist keep their lifecycle.
    async fn update_plan(&self, region: &Region, id: &str, content: &PlanContent) -> Result<BackupPlan>;

    /// Adds a selection. The operation is its creator request id.
    async fn create_selection(
        &self,
        region: &Region,
        plan: &str,
        content: &SelectionContent,
        op: &Operation,
    ) -> Result<Selection>;

    /// Selections cannot be changed: delete and create. Gone already is success.
    async fn delete_selection(&self, region: &Region, plan: &str, id: &str) -> Result<()>;
}
