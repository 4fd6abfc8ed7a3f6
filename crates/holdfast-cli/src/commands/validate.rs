//! `holdfast validate`: the policy against its rules, and what it achieves.

use super::{Done, managed};
use crate::args::{Cli, ValidateArgs};
use crate::{output, policy};
use holdfast_core::managed::{DailyWindow, offsets};
use holdfast_core::policy::Policy;
use holdfast_core::rules::{self, Claim, Estimate, Finding, Observed, Reach, Severity};
use holdfast_core::time::Duration;
use holdfast_core::{ExitCode, limits, prices};
use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde_json::{Value, json};
use std::path::Path;

pub async fn run(cli: &Cli, a: &ValidateArgs) -> Done {
    let path = policy::locate(cli.config.as_deref())?;
    let p = policy::read(&path)?;
    let now = Timestamp::now();
    let (seen, unseen) = match a.live {
        true => managed::doctor::observe(cli, &p, now).await?,
        false => (Observed::default(), Vec::new()),
    };
    let findings = rules::check(&p, &seen, now);
    let explained = a.explain.then(|| Explained {
        claims: rules::claims(&p, &seen, now),
        reaches: rules::reaches(&p, &seen, now),
        windows: windows(&p),
        costs: rules::estimate(&p, &seen, now),
    });
    if cli.json {
        output::json(&document(&path, &p, &findings, explained.as_ref(), (&seen, &unseen[..])));
    } else {
        for f in &findings {
            output::line(&f.to_string());
            output::line(&format!("  --> {}:{}:{}", path.display(), f.at.line, f.at.column));
            output::line(&format!("  hint: {}", f.hint));
        }
        unseen.iter().for_each(|u| output::line(&format!("could not be seen: {u}")));
        if let Some(e) = &explained {
            e.print(&seen);
            if cli.verbose {
                tables(&p);
            }
        }
        output::line(&summary(&path, &p, &findings));
    }
    let errors = findings.iter().any(|f| f.severity == Severity::Error);
    Ok(match (errors, unseen.is_empty()) {
        (true, _) => ExitCode::Usage as u8,
        (false, false) => ExitCode::Partial as u8,
        (false, true) => ExitCode::Ok as u8,
    })
}

/// The rules that say less than they could.
fn not_looked_at(seen: &Observed) -> Vec<&'static str> {
    // Buckets of exports are nobody's yet.
    rules::that_look().filter(|r| !seen.looked || *r == "VW9").collect()
}

fn summary(path: &Path, p: &Policy, findings: &[Finding]) -> String {
    let of = |s| findings.iter().filter(|f| f.severity == s).count();
    let found = match (of(Severity::Error), of(Severity::Warning)) {
        (0, 0) => "no problems".to_string(),
        (errors, warnings) => format!("{}, {}", count(errors, "error"), count(warnings, "warning")),
    };
    let vaults = count(p.vaults.len() + p.managed_vaults.len(), "vault");
    format!("{}: {}, {vaults}, {found}", path.display(), count(p.databases.len(), "database"))
}

fn count(n: usize, what: &str) -> String {
    if n == 1 { format!("1 {what}") } else { format!("{n} {what}s") }
}

/// What `--explain` adds.
struct Explained {
    claims: Vec<Claim>,
    reaches: Vec<Reach>,
    windows: Vec<Window>,
    costs: Vec<Estimate>,
}

/// A backup window of a policy, as the provider has it and as people see it.
struct Window {
    policy: String,
    utc: DailyWindow,
    zone: String,
    winter: DailyWindow,
    summer: DailyWindow,
}

/// In the zone that the policy names; if that is UTC, in this host's.
fn windows(p: &Policy) -> Vec<Window> {
    let mut out = Vec::new();
    for (name, plan) in &p.managed_plans {
        let Some((pitr, written)) = plan.pitr.as_ref().and_then(|t| Some((t, t.backup_window?))) else {
            continue;
        };
        let zone = TimeZone::get(&pitr.timezone).unwrap_or(TimeZone::UTC);
        let utc = written.to_utc(&zone);
        let shown = if pitr.timezone == "UTC" { TimeZone::system() } else { zone };
        let (standard, summer) = offsets(&shown);
        out.push(Window {
            policy: name.clone(),
            utc,
            zone: shown.iana_name().unwrap_or("local time").to_string(),
            winter: utc.at_offset(standard),
            summer: utc.at_offset(summer.unwrap_or(standard)),
        });
    }
    out
}

impl Explained {
    fn print(&self, seen: &Observed) {
        let row = |cells: [&str; 6]| cells.map(str::to_string).to_vec();
        if !self.claims.is_empty() {
            let mut rows = vec![row(["database", "scenario", "from", "loses at most", "back", "objective"])];
            for c in &self.claims {
                let objective = match c.wanted_rpo {
                    None => "none".to_string(),
                    Some(w) => format!("{} {}", span(w), if c.holds() { "ok" } else { "NOT MET" }),
                };
                let shown = |d: Option<Duration>| d.map_or("-".to_string(), span);
                let lost = c.rpo.map_or("everything".to_string(), span);
                rows.push(row([
                    c.database.as_str(),
                    c.scenario.as_str(),
                    &c.method,
                    &lost,
                    &shown(c.back),
                    &objective,
                ]));
            }
            output::line("");
            output::table(&rows);
            output::line("No RTO is computed: one that was not measured is a wish.");
        }
        if !self.reaches.is_empty() {
            let mut rows =
                vec![["database", "noticed late", "in steps of", "back"].map(str::to_string).to_vec()];
            for r in &self.reaches {
                rows.push(vec![r.database.to_string(), r.method.clone(), span(r.step), span(r.back)]);
            }
            output::line("");
            output::table(&rows);
        }
        for w in &self.windows {
            let local = match (w.winter == w.summer, w.winter == w.utc) {
                (true, true) => String::new(),
                (true, false) => format!(", {} in {}", w.winter, w.zone),
                (false, _) => format!(", {} in winter and {} in summer in {}", w.winter, w.summer, w.zone),
            };
            output::line("");
            output::line(&format!("policy {}: backup window {} UTC{local}", w.policy, w.utc));
        }
        for e in &self.costs {
            output::line("");
            output::line(&format!("{}: about {:.2} dollars a month", e.database, e.total()));
            for (item, dollars) in &e.items {
                output::line(&format!("  {dollars:9.2}  {item}"));
            }
            for note in &e.notes {
                output::line(&format!("  note: {note}"));
            }
        }
        output::line("");
        output::line(&format!(
            "limits as of {}, prices as of {}; not looked at the provider, so these say less than they could: {}",
            limits::AS_OF,
            prices::AS_OF,
            not_looked_at(seen).join(", ")
        ));
    }
}

/// The limits and prices that count, and where they are from.
fn tables(p: &Policy) {
    let mut rows = vec![["limit", "value", "source"].map(str::to_string).to_vec()];
    for row in limits::TABLE {
        let value = p.limits.get(row.limit);
        let shown = if row.unit == limits::Unit::Span { span(Duration(value)) } else { value.to_string() };
        let source = if p.limits.is_overridden(row.limit) { "this policy" } else { row.source };
        rows.push(vec![row.key.to_string(), shown, source.to_string()]);
    }
    output::line("");
    output::table(&rows);
    let mut rows = vec![["price", "region", "dollars", "source"].map(str::to_string).to_vec()];
    for (price, key, region, _, source) in prices::TABLE {
        let region = if region.is_empty() { "us-east-1" } else { region };
        let source = if p.prices.managed.is_overridden(*price, region) { "this policy" } else { source };
        rows.push(
            [key, region, &p.prices.managed.get(*price, region).to_string(), source]
                .map(str::to_string)
                .to_vec(),
        );
    }
    output::line("");
    output::table(&rows);
    output::line("");
}

/// `1d 2h 30m`
fn span(d: Duration) -> String {
    rules::human(d)
}

fn document(
    path: &Path,
    p: &Policy,
    findings: &[Finding],
    explained: Option<&Explained>,
    (seen, unseen): (&Observed, &[String]),
) -> Value {
    let problems: Vec<Value> = findings
        .iter()
        .map(|f| {
            json!({
                "rule": f.rule, "severity": f.severity.as_str(), "line": f.at.line, "column": f.at.column,
                "subject": f.subject, "message": f.message, "hint": f.hint,
            })
        })
        .collect();
    let vaults: Vec<&String> = p.vaults.keys().chain(p.managed_vaults.keys()).collect();
    let mut out = json!({
        "file": path, "databases": p.databases.keys().collect::<Vec<_>>(), "vaults": vaults, "problems": problems,
        "live": seen.looked, "unseen": unseen,
    });
    if let (Some(e), Value::Object(map)) = (explained, &mut out) {
        let seconds = |d: Option<Duration>| d.map(|d| d.0);
        let claims = e.claims.iter().map(|c| {
            json!({
                "database": c.database, "scenario": c.scenario.as_str(), "from": c.method,
                "rpo_seconds": seconds(c.rpo), "back_seconds": seconds(c.back),
                "objective_rpo_seconds": seconds(c.wanted_rpo), "objective_rto_seconds": seconds(c.wanted_rto),
                "measured_rto_seconds": seconds(c.measured_rto), "met": c.holds(),
            })
        });
        let reaches = e.reaches.iter().map(|r| {
            json!({ "database": r.database, "from": r.method, "step_seconds": r.step.0, "back_seconds": r.back.0 })
        });
        let windows = e.windows.iter().map(|w| {
            json!({
                "policy": w.policy, "utc": w.utc.to_string(), "timezone": w.zone,
                "winter": w.winter.to_string(), "summer": w.summer.to_string(),
            })
        });
        let costs = e.costs.iter().map(|c| {
            let items: Vec<Value> = c.items.iter().map(|(i, d)| json!({ "item": i, "dollars": d })).collect();
            json!({ "database": c.database, "dollars_per_month": c.total(), "items": items, "notes": c.notes })
        });
        map.insert("claims".into(), claims.collect());
        map.insert("reaches".into(), reaches.collect());
        map.insert("windows".into(), windows.collect());
        map.insert("costs".into(), costs.collect());
        map.insert("limits_as_of".into(), limits::AS_OF.into());
        map.insert("prices_as_of".into(), prices::AS_OF.into());
        map.insert("not_looked_at".into(), not_looked_at(seen).into());
    }
    out
}
