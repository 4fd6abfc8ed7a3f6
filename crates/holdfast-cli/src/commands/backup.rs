//! `holdfast backup`

use super::{Done, context, pair};
use crate::args::{BackupArgs, Cli};
use crate::output;
use holdfast_core::{ByteSize, time};
use holdfast_engine::backup::plan::KindWanted;
use holdfast_engine::backup::{BackupOptions, BackupReport, run as backup};
use holdfast_engine::catalog::PointView;
use serde_json::json;

pub async fn run(cli: &Cli, a: &BackupArgs) -> Done {
    let (ctx, progress) = context(cli, a.database.as_deref())?;
    let mut options =
        BackupOptions { note: a.note.clone(), reread: a.reread, remote: a.remote, ..Default::default() };
    options.kind = match (a.full, a.incremental) {
        (true, _) => KindWanted::Full,
        (_, true) => KindWanted::Incremental,
        _ => KindWanted::Auto,
    };
    for t in &a.tags {
        let (k, v) = pair(t, "--tag")?;
        options.tags.insert(k, v);
    }
    let result = backup(&ctx, &options).await;
    progress.finish();
    let r = result?;
    let vault = ctx.first_vault()?.name;
    if cli.json {
        output::json(&document(&r, &vault));
    } else {
        text(&r);
    }
    Ok(if r.point.damaged.is_empty() { 0 } else { 3 })
}

fn document(r: &BackupReport, vault: &str) -> serde_json::Value {
    let mut v = serde_json::to_value(PointView::new(&(&r.point).into(), vault, None)).unwrap_or_default();
    if let Some(o) = v.as_object_mut() {
        o.insert("reason".into(), json!(r.reason));
        o.insert("seconds".into(), json!(r.seconds));
        o.insert("checkpoint_seconds".into(), json!(r.checkpoint_seconds));
        o.insert("copy_seconds".into(), json!(r.copy_seconds));
        o.insert("wal_seconds".into(), json!(r.wal_seconds));
        o.insert("read_bytes".into(), json!(r.read_bytes));
        o.insert("rewritten_bytes".into(), json!(r.rewritten_bytes));
        o.insert("changes".into(), json!(r.point.changes));
        o.insert("warnings".into(), json!(r.warnings));
        o.insert("damaged".into(), json!(r.point.damaged));
    }
    v
}

fn text(r: &BackupReport) {
    let p = &r.point;
    let kind = if p.parent.is_some() { "incremental" } else { "full" };
    let d = std::time::Duration::from_secs_f64;
    output::line(&format!("point {}", p.id));
    output::line(&format!(
        "  {kind}, {} in {} files, {} changed, {} stored",
        ByteSize(p.size_bytes),
        p.files,
        ByteSize(p.changed_bytes),
        ByteSize(p.stored_bytes)
    ));
    output::line(&format!(
        "  {} in all: checkpoint {}, copy {} ({} read, {}/s), wal {}",
        time::human(d(r.seconds)),
        time::human(d(r.checkpoint_seconds)),
        time::human(d(r.copy_seconds)),
        ByteSize(r.read_bytes),
        ByteSize((r.read_bytes as f64 / r.copy_seconds.max(0.001)) as u64),
        time::human(d(r.wal_seconds)),
    ));
    if p.parent.is_some() {
        output::line(&format!("  changes: {}: {}", p.changes.method, r.reason));
    }
    if r.rewritten_bytes > 0 {
        let text = "stored anew although unchanged, so that worn packs can go";
        output::line(&format!("  {} {text}", ByteSize(r.rewritten_bytes)));
    }
    output::line(&format!("  from {} to {} on timeline {}", p.start_lsn, p.stop_lsn, p.timeline));
    for damage in &p.damaged {
        output::line(&format!("  damaged: {} page {}: {}", damage.path, damage.block, damage.what));
    }
}
