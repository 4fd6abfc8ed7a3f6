//! `holdfast backup --tier` where the tier's vault is one of AWS Backup.

use super::Session;
use crate::args::Cli;
use crate::commands::Done;
use crate::output;
use holdfast_core::managed::{Region, Tags};
use holdfast_core::policy::ManagedVault;
use holdfast_core::policy::managed::VaultPlace;
use holdfast_core::{ByteSize, time};
use holdfast_engine::managed::backup_job::{Report, Request, run};
use serde_json::json;

/// A tier, and its vault of AWS Backup.
pub struct Place {
    tier: String,
    vault: ManagedVault,
    region: String,
    name: String,
}

/// `None`: holdfast takes a snapshot itself.
pub fn place(s: &Session, tier: &str) -> Option<Place> {
    let vault = s.ctx.policy.managed_vaults.get(s.plan.tiers.get(tier)?.vault.as_ref()?)?;
    match &vault.place {
        VaultPlace::Snapshots { .. } => None,
        VaultPlace::AwsBackup { region, vault: name } => Some(Place {
            tier: tier.into(),
            vault: vault.clone(),
            region: region.clone(),
            name: name.clone(),
        }),
    }
}

pub async fn backup(cli: &Cli, s: Session, p: Place, tags: Tags, note: &str) -> Done {
    if p.vault.account.is_some() && p.vault.account != s.database.account {
        return Err(crate::failure::refused(
            format!("vault `{}` is another account's, and AWS Backup backs up into its own", p.vault.name),
            "give the tier a vault of the database's account, and bring its points there by a copy",
        ));
    }
    let region = p.region.parse::<Region>().map_err(|e| crate::failure::usage(e.to_string(), e.hint()))?;
    let keep = s.plan.tiers.get(&p.tier).and_then(|t| t.keep.window);
    let request = Request {
        tier: p.tier,
        region,
        vault: p.name,
        role: p.vault.backup_role,
        // Whole days, never fewer than were promised.
        days: keep.map(|d| u32::try_from(d.0.div_ceil(86_400)).unwrap_or(u32::MAX)),
        tags,
        note: note.to_string(),
    };
    let result = run(&s.managed, &request).await;
    s.progress.finish();
    let r = result?;
    match cli.json {
        true => output::json(&document(s.ctx.db.name.as_str(), &r)),
        false => text(&r),
    }
    Ok(0)
}

fn document(database: &str, r: &Report) -> serde_json::Value {
    let p = &r.point;
    json!({
        "id": p.arn, "database": database, "kind": "recovery-point", "status": "succeeded", "arn": p.arn,
        "region": p.region, "vault": p.vault, "finished_at": p.completed, "taken_at": p.created,
        "size_bytes": p.size_bytes, "encrypted": p.encrypted, "kms_key": p.key, "delete_at": p.delete_at,
        "tags": p.tags, "job": r.job, "operation": r.operation, "resumed": r.resumed, "seconds": r.seconds,
        "warnings": r.warnings,
    })
}

fn text(r: &Report) {
    let p = &r.point;
    output::line(&format!("recovery point {}", p.arn));
    let size = p.size_bytes.map_or("size not known".into(), |b| ByteSize(b).to_string());
    let sealed = if p.encrypted { "encrypted" } else { "not encrypted" };
    output::line(&format!("  in vault {} of {}, {size}, {sealed}", p.vault, p.region));
    output::line(&format!("  shows {}", time::short(p.created)));
    if let Some(t) = p.delete_at {
        output::line(&format!("  aws backup deletes it {}", time::short(t)));
    }
    let d = time::human(std::time::Duration::from_secs_f64(r.seconds));
    output::line(&format!("  {d}{}", if r.resumed { ", begun by an earlier run" } else { "" }));
    for w in &r.warnings {
        output::line(&format!("  warning: {w}"));
    }
}
