//! `holdfast list`, `holdfast show`

use super::{Done, context, managed};
use crate::args::Cli;
use crate::output;
use crate::policy;
use holdfast_core::{ByteSize, ExitCode, time};
use holdfast_engine::EngineError;
use holdfast_engine::catalog::{self, Listing, PointView};
use holdfast_engine::restore::select::label;
use holdfast_vault::Notes;
use serde_json::json;

pub async fn list(cli: &Cli, database: Option<&str>) -> Done {
    let p = policy::read(&policy::locate(cli.config.as_deref())?)?;
    let known = |d: &&str| p.databases.keys().any(|k| k.as_str() == *d);
    let mut managed = match database {
        Some(d) if !known(&d) => managed::Listing::default(),
        only => managed::list::gather(&p, only, &p.state_dir()).await?,
    };
    // Without a name, every database of the policy.
    let names: Vec<Option<String>> = match database {
        Some(_) if !managed.databases.is_empty() => Vec::new(),
        Some(d) => vec![Some(d.to_string())],
        None => {
            let native = p.databases.values().filter(|d| d.managed.is_none());
            native.map(|d| Some(d.name.to_string())).collect()
        }
    };
    let mut all = Listing { points: Vec::new(), failed: Vec::new(), problems: Vec::new() };
    for n in &names {
        let (ctx, _) = context(cli, n.as_deref())?;
        let l = catalog::list(&ctx).await?;
        all.points.extend(l.points);
        all.failed.extend(l.failed);
        all.problems.extend(l.problems);
    }
    let unseen = !managed.is_whole();
    let blind = managed::list::blind(&mut managed);
    let (code, hint) = match blind {
        Some(e) if names.is_empty() => return Err(e.into()),
        Some(e) => (e.exit_code() as u8, e.hint()),
        None => (ExitCode::Partial as u8, None),
    };
    if cli.json {
        output::json(&json!({
            "points": all.points, "failed_runs": all.failed, "problems": all.problems, "managed": managed,
        }));
    } else {
        if !names.is_empty() || managed.databases.is_empty() {
            text(&all, cli.verbose);
        }
        managed::list::text(&managed);
        hint.iter().for_each(|h| output::line(&format!("hint: {h}")));
    }
    Ok(match (all.problems.is_empty(), unseen) {
        (true, false) => 0,
        (true, true) => code,
        (false, _) => 5,
    })
}

fn text(l: &Listing, verbose: bool) {
    if l.points.is_empty() {
        output::line("no recovery points");
    } else {
        let head =
            ["POINT", "DATABASE", "KIND", "FINISHED", "SIZE", "STORED", "TLI", "VERIFIED", "VAULT", "NOTE"];
        let mut rows = vec![head.map(String::from).to_vec()];
        rows.extend(l.points.iter().map(row));
        output::table(&rows);
    }
    for p in &l.problems {
        output::line(&format!("problem: {p}"));
    }
    let shown = if verbose { l.failed.len() } else { 3 };
    for f in l.failed.iter().rev().take(shown) {
        output::line(&format!("failed: {} {} ({})", f.run, f.error, time::short(f.failed_at)));
    }
}

fn row(p: &PointView) -> Vec<String> {
    let kind = match p.kind {
        holdfast_vault::point::PointKind::Full => "full",
        holdfast_vault::point::PointKind::Incremental => "incremental",
    };
    let tags: Vec<String> = p.tags.iter().map(|(k, v)| format!("{k}={v}")).collect();
    let held: String = p.holds.iter().map(|h| format!("[held: {h}] ")).collect();
    let origin = p.copy_of.as_ref().map(|o| format!("[copy of {o}] ")).unwrap_or_default();
    let status = if p.status == "succeeded" { String::new() } else { format!("[{}] ", p.status) };
    vec![
        p.id.to_string(),
        p.database.clone(),
        kind.into(),
        time::short(p.finished_at),
        ByteSize(p.size_bytes).to_string(),
        ByteSize(p.stored_bytes).to_string(),
        p.timeline.to_string(),
        p.verified_level.clone().unwrap_or_else(|| "-".into()),
        p.vault.clone(),
        format!("{status}{held}{origin}{} {}", p.note, tags.join(" ")).trim().to_string(),
    ]
}

pub async fn show(cli: &Cli, id: &str) -> Done {
    let p = policy::read(&policy::locate(cli.config.as_deref())?)?;
    let mut missing = None;
    for name in p.databases.keys() {
        let (ctx, _) = context(cli, Some(name.as_str()))?;
        match catalog::find(&ctx, id).await {
            Ok((vault, cluster, point)) => {
                let notes = Notes::of_point(&cluster, &point.id).await.map_err(EngineError::from)?;
                if cli.json {
                    let all = &notes.verified;
                    output::json(&json!({ "vault": vault, "point": point, "verifications": all }));
                } else {
                    show_text(&point, &vault, notes.best());
                }
                return Ok(0);
            }
            Err(e @ EngineError::NotFound { .. }) => missing = Some(e),
            Err(e) => return Err(e.into()),
        }
    }
    match missing {
        Some(e) => Err(e.into()),
        None => Err(crate::failure::usage("the policy has no database", "run `holdfast init`")),
    }
}

fn show_text(p: &holdfast_vault::point::Point, vault: &str, v: Option<&holdfast_vault::point::Verified>) {
    let view = PointView::new(&p.into(), vault, v);
    let mut rows: Vec<(&str, String)> = vec![
        ("point", p.id.to_string()),
        ("database", format!("{} (cluster {})", p.database, p.cluster)),
        ("vault", vault.into()),
        ("kind", format!("{:?}", p.kind).to_lowercase()),
        ("status", view.status.into()),
        ("parent", p.parent.as_ref().map(ToString::to_string).unwrap_or_else(|| "-".into())),
        ("started", time::rfc3339(p.started_at)),
        ("finished", time::rfc3339(p.finished_at)),
        ("range", format!("{} to {} on timeline {}", p.start_lsn, p.stop_lsn, p.timeline)),
        ("size", format!("{} in {} files", ByteSize(p.size_bytes), p.files)),
        ("stored", format!("{} ({} changed)", ByteSize(p.stored_bytes), ByteSize(p.changed_bytes))),
        ("changes", format!("{}: {}", p.changes.method, p.changes.reason)),
        ("server", p.server.version.clone()),
        ("host", format!("{} ({})", p.host, p.server.data_directory)),
        ("checksums", if p.server.data_checksums { "on" } else { "off" }.into()),
        ("wal needed", format!("{} segments", p.wal.len())),
    ];
    if let Some(c) = &p.copied {
        let from = format!("{} of vault {}, on {} by {}", c.origin, c.vault, time::short(c.at), c.host);
        rows.push(("copy of", from));
    }
    if !p.note.is_empty() {
        rows.push(("note", p.note.clone()));
    }
    for (k, val) in &p.tags {
        rows.push(("tag", format!("{k}={val}")));
    }
    if !p.databases.is_empty() {
        let names: Vec<String> = p.databases.iter().map(|d| label(d.oid, Some(&d.name))).collect();
        rows.push(("databases", names.join(", ")));
    }
    for t in &p.tablespaces {
        rows.push(("tablespace", format!("{} at {}", t.oid, t.location)));
    }
    rows.push((
        "verified",
        match v {
            Some(v) => format!("{} on {} ({:.1} s)", v.level, time::short(v.at), v.seconds),
            None => "never".into(),
        },
    ));
    for d in &p.damaged {
        rows.push(("damaged", format!("{} page {}: {}", d.path, d.block, d.what)));
    }
    for (k, val) in rows {
        output::line(&format!("{k:12}{val}"));
    }
}
