//! `holdfast backup` of a managed database: a snapshot, waited for.

use super::{backup_job, open};
use crate::args::{BackupArgs, Cli};
use crate::commands::{Done, pair};
use crate::output;
use holdfast_core::managed::Tags;
use holdfast_core::managed::tags::clean_value;
use holdfast_core::{ByteSize, time};
use holdfast_engine::managed::backup::{Report, Request, run};
use holdfast_engine::managed::identity;
use jiff::SignedDuration;
use serde_json::json;

pub async fn backup(cli: &Cli, a: &BackupArgs) -> Done {
    if a.full || a.incremental || a.remote || a.reread.is_some() {
        return Err(crate::failure::usage(
            "the provider decides how it takes a snapshot",
            "leave out --full, --incremental, --remote and --reread",
        ));
    }
    let s = open(cli, a.database.as_deref(), a.wait_for.as_deref()).await?;
    identity::live(&s.managed, &s.database).await?;
    let mut tags: Tags =
        s.plan.tags.iter().chain(&s.database.tags).map(|(k, v)| (k.as_str(), v.as_str())).collect();
    let mut pattern = s.database.snapshot_id.clone();
    if let Some(name) = &a.tier {
        let Some(tier) = s.plan.tiers.get(name) else {
            let known: Vec<&str> = s.plan.tiers.keys().map(String::as_str).collect();
            return Err(crate::failure::usage(
                format!("the policy of `{}` has no tier `{name}`", s.ctx.db.name),
                format!("its tiers are {}", known.join(", ")),
            ));
        };
        pattern = tier.snapshot_id.clone();
        tier.tags.iter().for_each(|(k, v)| tags.set(k, v));
    }
    for t in &a.tags {
        let (k, v) = pair(t, "--tag")?;
        tags.set(&k, &v);
    }
    if let Some(place) = a.tier.as_deref().and_then(|t| backup_job::place(&s, t)) {
        return backup_job::backup(cli, s, place, tags, &a.note).await;
    }
    let keep_for = a.keep_for.as_deref().map(|t| super::span(t, "--keep-for")).transpose()?;
    if keep_for.is_some_and(|d| d.0 == 0) {
        return Err(crate::failure::usage(
            "--keep-for: a snapshot that is kept for no time is none",
            "write for example --keep-for 30d, or leave it out",
        ));
    }
    // What tiers make, their rules let go.
    let keep_for = keep_for.or(s.plan.manual_keep.filter(|_| a.tier.is_none()));
    let keep_for = keep_for.map(|d| SignedDuration::from_secs(i64::try_from(d.0).unwrap_or(i64::MAX)));
    let kept = clean_value(&a.note);
    if kept != a.note {
        let said = format!("a tag of AWS does not take all of the note: it is kept as `{kept}`");
        s.managed.monitor.warning(said);
    }
    let request = Request { tier: a.tier.clone(), pattern, tags, note: a.note.clone(), keep_for };
    let result = run(&s.managed, &request).await;
    s.progress.finish();
    let r = result?;
    match cli.json {
        true => output::json(&document(&s.ctx.db.name.to_string(), &r)),
        false => text(&r),
    }
    Ok(0)
}

fn document(database: &str, r: &Report) -> serde_json::Value {
    let s = &r.snapshot;
    json!({
        "id": s.at.id, "database": database, "kind": "snapshot", "status": "succeeded", "arn": s.arn,
        "region": s.at.region, "finished_at": s.created, "taken_at": s.taken, "size_gib": s.size_gib,
        "encrypted": s.encrypted, "kms_key": s.key, "tags": s.tags, "operation": r.operation,
        "resumed": r.resumed, "seconds": r.seconds, "warnings": r.warnings,
    })
}

fn text(r: &Report) {
    let s = &r.snapshot;
    output::line(&format!("snapshot {}", s.at));
    let size = ByteSize(u64::from(s.size_gib) << 30);
    let sealed = if s.encrypted { "encrypted" } else { "not encrypted" };
    output::line(&format!("  {} of {} in {}, {size}, {sealed}", s.status, s.source_id, s.at.region));
    if let Some(t) = s.taken.or(s.created) {
        output::line(&format!("  shows {}", time::short(t)));
    }
    let d = std::time::Duration::from_secs_f64(r.seconds);
    output::line(&format!(
        "  {}{}",
        time::human(d),
        if r.resumed { ", begun by an earlier run" } else { "" }
    ));
    for w in &r.warnings {
        output::line(&format!("  warning: {w}"));
    }
}
