//! AWS Backup.

mod job;
mod plan;
mod point;
mod vault;

use holdfast_core::managed::{CreatedBy, Lifecycle};

pub(crate) fn lifecycle(of: Option<&aws_sdk_backup::types::Lifecycle>) -> Lifecycle {
    let days = |n: Option<i64>| n.and_then(|v| u32::try_from(v).ok()).filter(|v| *v > 0);
    Lifecycle {
        cold_after_days: days(of.and_then(|l| l.move_to_cold_storage_after_days())),
        delete_after_days: days(of.and_then(|l| l.delete_after_days())),
    }
}

/// `None` = for ever; AWS reads an absent lifecycle so.
pub(crate) fn to_lifecycle(l: Lifecycle) -> Option<aws_sdk_backup::types::Lifecycle> {
    (l != Lifecycle::default()).then(|| {
        aws_sdk_backup::types::Lifecycle::builder()
            .set_move_to_cold_storage_after_days(l.cold_after_days.map(i64::from))
            .set_delete_after_days(l.delete_after_days.map(i64::from))
            .build()
    })
}

pub(crate) fn created_by(of: Option<&aws_sdk_backup::types::RecoveryPointCreator>) -> Option<CreatedBy> {
    let of = of?;
    Some(CreatedBy {
        plan_id: of.backup_plan_id()?.to_string(),
        rule_id: of.backup_rule_id().map(str::to_string),
        plan_name: of.backup_plan_name().map(str::to_string),
        rule_name: of.backup_rule_name().map(str::to_string),
    })
}
