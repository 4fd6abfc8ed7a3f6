//! The sections of the file that only managed databases have, exactly as written; see [`super::super::file`].

use crate::policy::file::{Named, Scalar, Text};
use toml::Spanned;

/// `[policies.NAME.pitr]`
#[derive(Debug, Clone, Default, serde::Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default, expecting = "a table")]
pub struct PitrSection {
    pub keep: Option<Spanned<Scalar>>,
    pub backup_window: Option<Text>,
    pub maintenance_window: Option<Text>,
    pub timezone: Option<Text>,
    pub keep_after_deletion: Option<Spanned<Scalar>>,
    pub replicate: Option<Spanned<ReplicateSection>>,
}

/// `replicate = { to, keep }`
#[derive(Debug, Clone, Default, serde::Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default, expecting = "a table")]
pub struct ReplicateSection {
    pub to: Option<Text>,
    pub keep: Option<Spanned<Scalar>>,
}

/// `[policies.NAME.objectives]`
#[derive(Debug, Clone, Default, serde::Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default, expecting = "a table")]
pub struct ObjectivesSection {
    pub deletion: Option<ObjectiveSection>,
    pub corruption: Option<ObjectiveSection>,
    pub loss: Option<ObjectiveSection>,
    pub region: Option<ObjectiveSection>,
    pub malicious: Option<ObjectiveSection>,
}

/// `[policies.NAME.objectives.SCENARIO]`
#[derive(Debug, Clone, Default, serde::Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default, expecting = "a table")]
pub struct ObjectiveSection {
    pub rpo: Option<Spanned<Scalar>>,
    pub rto: Option<Spanned<Scalar>>,
}

/// `[policies.NAME.drills.DRILL]`
#[derive(Debug, Clone, Default, serde::Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default, expecting = "a table")]
pub struct DrillSection {
    pub scenario: Option<Text>,
    pub schedule: Option<Text>,
    pub timezone: Option<Text>,
    pub owner: Option<Text>,
}

/// `[policies.NAME.data.CLASS]`
#[derive(Debug, Clone, Default, serde::Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default, expecting = "a table")]
pub struct DataSection {
    pub keep: Option<Spanned<Scalar>>,
    pub erase_within: Option<Spanned<Scalar>>,
    pub documented: Option<Spanned<Scalar>>,
}

/// `[databases.NAME.connect]`
#[derive(Debug, Clone, Default, serde::Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default, expecting = "a table")]
pub struct ConnectSection {
    pub user: Option<Text>,
    pub database: Option<Text>,
    pub password_secret: Option<Text>,
    pub password_env: Option<Text>,
    pub password_file: Option<Text>,
    pub ca_file: Option<Text>,
}

/// `[databases.NAME.checks.CHECK]`
#[derive(Debug, Clone, Default, serde::Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default, expecting = "a table")]
pub struct CheckSection {
    pub sql: Option<Text>,
    pub collection: Option<Text>,
    pub newest: Option<Text>,
    pub indexes: Vec<Text>,
    pub expect: Option<Text>,
    pub within: Option<Spanned<Scalar>>,
    pub database: Option<Text>,
}

/// `[databases.NAME.places.PLACE]`
#[derive(Debug, Clone, Default, serde::Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default, expecting = "a table")]
pub struct PlaceSection {
    pub region: Option<Text>,
    pub account: Option<Text>,
    pub subnet_group: Option<Text>,
    pub security_groups: Vec<Text>,
    pub parameter_group: Option<Text>,
    pub option_group: Option<Text>,
    pub class: Option<Text>,
    pub multi_az: Option<Spanned<Scalar>>,
    pub instances: Option<Spanned<u32>>,
    pub capacity: Option<Spanned<CapacitySection>>,
    pub isolated: Option<Spanned<IsolatedSection>>,
}

/// `capacity = { min, max }`
#[derive(Debug, Clone, Default, serde::Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default, expecting = "a table")]
pub struct CapacitySection {
    pub min: Option<Spanned<f64>>,
    pub max: Option<Spanned<f64>>,
}

/// `isolated = { subnet-group, security-groups }`
#[derive(Debug, Clone, Default, serde::Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default, expecting = "a table")]
pub struct IsolatedSection {
    pub subnet_group: Option<Text>,
    pub security_groups: Vec<Text>,
}

/// `[[databases.NAME.cutover]]`
#[derive(Debug, Clone, Default, serde::Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default, expecting = "a table")]
pub struct CutoverSection {
    pub proxy: Option<Text>,
    pub target_group: Option<Text>,
    pub route53: Option<Text>,
    pub record: Option<Text>,
    pub ttl: Option<Spanned<Scalar>>,
    pub secret: Option<Text>,
    pub keys: Named<Text>,
    pub region: Option<Text>,
    pub kubernetes: Option<Text>,
    pub namespace: Option<Text>,
    pub context: Option<Text>,
    pub kubeconfig: Option<Text>,
    pub within: Option<Spanned<Scalar>>,
    pub env: Named<Text>,
    pub scale: Option<Spanned<Scalar>>,
    pub rename: Option<Spanned<Scalar>>,
    pub command: Option<Spanned<Vec<Text>>>,
    pub undo: Option<Spanned<Vec<Text>>>,
    pub health: Option<Text>,
    pub health_within: Option<Spanned<Scalar>>,
}

/// `[databases.NAME.alarms.ALARM]`
#[derive(Debug, Clone, Default, serde::Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default, expecting = "a table")]
pub struct AlarmSection {
    pub metric: Option<Text>,
    pub namespace: Option<Text>,
    pub dimensions: Vec<Text>,
    pub detects: Option<Text>,
    pub above: Option<Spanned<Scalar>>,
    pub below: Option<Spanned<Scalar>>,
    pub actions: Vec<Text>,
}
