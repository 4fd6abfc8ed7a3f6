//! `holdfast plan` and `holdfast apply`: the provider's settings brought to the policy.

use super::{Session, connect, open};
use crate::args::{ApplyArgs, Cli};
use crate::commands::Done;
use crate::progress::{Progress, Style};
use crate::{failure, output, policy};
use holdfast_core::ExitCode;
use holdfast_core::managed::Cloud;
use holdfast_core::monitor::{Event, Monitor};
use holdfast_core::policy::{ManagedDatabase, Policy, Source};
use holdfast_engine::managed::apply::{self, Change, Consent, Left, Plan, Report, Request};
use jiff::Timestamp;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// `holdfast plan`
pub async fn plan(cli: &Cli, database: Option<&str>) -> Done {
    show(cli, database, &Consent::default(), None).await
}

/// `holdfast apply`
pub async fn apply(cli: &Cli, a: &ApplyArgs) -> Done {
    let consent = Consent { loss: a.allow_loss, locks: a.confirm_lock.iter().cloned().collect() };
    match a.yes {
        true => make(cli, a.database.as_deref(), consent, a.wait_for.as_deref()).await,
        false => show(cli, a.database.as_deref(), &consent, a.wait_for.as_deref()).await,
    }
}

async fn show(cli: &Cli, database: Option<&str>, consent: &Consent, wait_for: Option<&str>) -> Done {
    let (mut all, mut shared) = (Outcome::default(), BTreeSet::new());
    for name in databases(cli, database, consent)? {
        let found = async {
            let s = open(cli, Some(&name), wait_for).await?;
            let p = apply::plan(&s.managed, &request(&s, consent).await?).await;
            s.progress.finish();
            Ok::<_, anyhow::Error>(p?)
        };
        match found.await {
            Ok(mut p) => {
                // A vault of several databases is made once.
                p.changes
                    .retain(|c| !c.on.starts_with("aws-backup://") || shared.insert((c.on.clone(), c.what)));
                if !cli.json {
                    plan_text(&p, consent);
                }
                all.documents.push(json!(p));
            }
            Err(e) => all.failed(&name, e),
        }
    }
    all.end(cli, "plan")
}

async fn make(cli: &Cli, database: Option<&str>, consent: Consent, wait_for: Option<&str>) -> Done {
    let mut all = Outcome::default();
    for name in databases(cli, database, &consent)? {
        let made = async {
            let s = open(cli, Some(&name), wait_for).await?;
            let wanted = request(&s, &consent).await?;
            let planned = apply::plan(&s.managed, &wanted).await?;
            s.progress.finish();
            if !cli.json && !planned.changes.is_empty() {
                differs_text(&planned, &consent);
            }
            let r = apply::run(&s.managed, &wanted).await;
            s.progress.finish();
            Ok::<_, anyhow::Error>((planned, r?))
        };
        match made.await {
            Ok((planned, r)) => {
                if !cli.json {
                    report_text(&r);
                }
                if !r.is_whole() {
                    all.code = all.code.max(ExitCode::Partial as u8);
                }
                let mut document = json!(r);
                document["plan"] = json!(planned.changes);
                all.documents.push(document);
            }
            // Whoever says stop means all of them.
            Err(e) if failure::judge(&e).0 == ExitCode::Cancelled => {
                all.failed(&name, e);
                break;
            }
            Err(e) => all.failed(&name, e),
        }
    }
    all.end(cli, "apply")
}

/// What came of several databases: one that fails hides no other.
#[derive(Default)]
struct Outcome {
    documents: Vec<Value>,
    errors: Vec<(String, anyhow::Error)>,
    code: u8,
}

impl Outcome {
    fn failed(&mut self, name: &str, e: anyhow::Error) {
        if self.errors.is_empty() {
            self.code = failure::judge(&e).0 as u8;
        }
        let mut document = failure::as_json(&e);
        document["database"] = json!(name);
        self.documents.push(document);
        self.errors.push((name.to_string(), e));
    }

    /// Of one database its error is the command's; of several each is in its place.
    fn end(mut self, cli: &Cli, what: &str) -> Done {
        if let (1, 1) = (self.documents.len(), self.errors.len())
            && let Some((_, e)) = self.errors.pop()
        {
            return Err(e);
        }
        if cli.json {
            output::json(&json!({ what: { "databases": self.documents } }));
            return Ok(self.code);
        }
        for (name, e) in &self.errors {
            output::line(&format!("{name}: failed: {}", failure::text(e)));
            if let Some(hint) = failure::judge(e).1 {
                output::line(&format!("  hint: {hint}"));
            }
        }
        Ok(self.code)
    }
}

/// The managed databases that are meant, once the policy is found good and the locks to be known.
fn databases(cli: &Cli, only: Option<&str>, consent: &Consent) -> anyhow::Result<Vec<String>> {
    let p = policy::read(&policy::locate(cli.config.as_deref())?)?;
    if let Some(unknown) = consent.locks.iter().find(|v| !p.managed_vaults.contains_key(*v)) {
        let known: Vec<&str> = p.managed_vaults.keys().map(String::as_str).collect();
        return Err(failure::usage(
            format!("--confirm-lock: the policy has no vault `{unknown}`"),
            format!("its vaults at the provider are: {}", known.join(", ")),
        ));
    }
    let names = match only {
        Some(name) => vec![name.to_string()],
        None => managed(&p),
    };
    if names.is_empty() {
        return Err(failure::usage(
            "the policy has no database that a provider runs",
            "plan and apply are for rds://, aurora:// and docdb:// sources",
        ));
    }
    let missing = apply::check(&p, Timestamp::now(), consent.loss)?;
    if !missing.is_empty() {
        let progress = Progress::new(Style::choose(cli.json, cli.no_progress), cli.verbose, cli.no_progress);
        missing.into_iter().for_each(|m| progress.event(Event::Warning(m)));
    }
    Ok(names)
}

fn managed(p: &Policy) -> Vec<String> {
    let of_provider = p.databases.values().filter(|d| !matches!(d.source, Source::Postgres { .. }));
    of_provider.map(|d| d.name.to_string()).collect()
}

pub(super) async fn request(s: &Session, consent: &Consent) -> anyhow::Result<Request> {
    let mut elsewhere: BTreeMap<String, Arc<dyn Cloud>> = BTreeMap::new();
    for v in s.ctx.policy.managed_vaults.values().filter(|v| v.place.is_aws_backup()) {
        let profile = v.profile.as_ref().filter(|p| Some(*p) != s.database.profile.as_ref());
        if profile.is_some() || v.role.is_some() {
            let profile = profile.or(s.database.profile.as_ref()).cloned();
            let there = ManagedDatabase { profile, role: v.role.clone(), ..s.database.clone() };
            let cloud = connect(&there, &s.managed.source.region, s.ctx.state.dir()).await?;
            elsewhere.insert(v.name.clone(), cloud);
        }
    }
    Ok(Request {
        policy: s.ctx.policy.clone(),
        database: s.database.clone(),
        plan: s.plan.clone(),
        elsewhere,
        consent: consent.clone(),
    })
}

fn differs_text(p: &Plan, consent: &Consent) {
    output::line(&format!("{} ({})", p.database, p.source));
    if p.status != "available" {
        output::line(&format!("  it is `{}`: this may not be all", p.status));
    }
    p.changes.iter().for_each(|c| change_text(c, !c.allowed(consent)));
    p.left.iter().for_each(left_text);
}

fn plan_text(p: &Plan, consent: &Consent) {
    differs_text(p, consent);
    match p.changes.len() {
        0 if p.left.iter().any(|l| l.blocked) => {}
        0 => output::line("  nothing to change"),
        _ => output::line(&format!("  nothing was changed; `{}` does it", command(p))),
    }
}

/// What makes all of it.
fn command(p: &Plan) -> String {
    let mut out = format!("holdfast apply {} --yes", p.database);
    if p.changes.iter().any(|c| c.loses) {
        out += " --allow-loss";
    }
    for vault in p.changes.iter().filter_map(|c| c.confirm.as_ref()).collect::<BTreeSet<_>>() {
        out += &format!(" --confirm-lock {vault}");
    }
    out
}

fn report_text(r: &Report) {
    output::line(&format!("{} ({})", r.database, r.source));
    for d in &r.done {
        output::line(&format!("  done: {} of {}: {}", d.what, d.on, d.to));
    }
    r.remaining.iter().for_each(|c| change_text(c, true));
    r.left.iter().for_each(left_text);
    if r.done.is_empty() && r.is_whole() {
        output::line("  nothing to change");
    }
}

fn change_text(c: &Change, unconfirmed: bool) {
    output::line(&format!("  {} of {}", c.what, c.on));
    output::line(&format!("    {} -> {}", c.from, c.to));
    output::line(&format!("    {}", c.effect));
    if let Some(cost) = &c.cost {
        output::line(&format!("    cost: {cost}"));
    }
    if c.irreversible {
        output::line("    IRREVERSIBLE");
    }
    if unconfirmed && c.loses {
        output::line("    wants --allow-loss");
    }
    if let Some(v) = c.confirm.as_ref().filter(|_| unconfirmed) {
        output::line(&format!("    wants --confirm-lock {v}"));
    }
}

fn left_text(l: &Left) {
    let word = if l.blocked { "cannot be" } else { "left alone" };
    output::line(&format!("  {word}: {} of {}: {}", l.what, l.on, l.why));
}
