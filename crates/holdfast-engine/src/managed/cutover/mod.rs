//! Bringing the application from one database to another, step by step, and back if a step fails.
//!
//! ```text
//! plan: what each step finds, does, and would put back
//! run:  step 1 ─ healthy? ─ step 2 ─ healthy? ─ … ─ the old one goes into quarantine
//!                   └─ no: the steps that were begun are undone, last first
//! ```
//!
//! The steps are the policy's (`[[databases.NAME.cutover]]`). What a step finds is written down before it changes
//! anything, so that it can be put back by another process as well. The old database is never deleted here: it gets
//! a tag that says until when it stays, and deleting it takes a command of its own, with a last snapshot.
//!
//! Crash: the journal knows the direction and each step. The same command goes on in that direction; every step
//! bears being done twice. `--back` turns an unfinished cutover round. A secret's value is never written down: its
//! version is.

mod command;
mod dns;
mod health;
mod proxy;
mod rename;
mod secret;

use super::journal::{Ended, Operation};
use super::{Managed, operation};
use crate::error::{EngineError, Result};
use holdfast_core::managed::{Database, DnsRecord, Operation as OperationName, Source, Tags, tags as keys};
use holdfast_core::policy::managed::{CutoverStep, Move};
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

const VERB: &str = "cutover";

/// What a step found before it changed anything: what going back puts there again.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Before {
    Proxy {
        targets: Vec<Source>,
    },
    Dns {
        record: Option<DnsRecord>,
    },
    Secret {
        version: String,
    },
    /// Which is which is told by resource ids: names change hands.
    Rename {
        old_resource: String,
        new_resource: String,
        aside: Source,
    },
    Command,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Progress {
    Waiting,
    /// It may have changed something.
    Begun,
    Done,
    Undone,
}

/// One step, as planned and as far as it got.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Step {
    pub what: What,
    pub health: Option<String>,
    /// Seconds that the health check has.
    pub health_within: u64,
    pub before: Before,
    pub progress: Progress,
    /// For people: what it does, and what going back does.
    pub does: String,
    pub undoes: String,
}

/// What a step changes: the policy's move with its placeholders filled.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum What {
    Proxy { name: String },
    Dns { zone: String, record: String, ttl: u32, value: String },
    Secret { id: String, keys: BTreeMap<String, String> },
    Rename,
    Command { run: Vec<String>, undo: Vec<String> },
}

/// The two databases as commands and values know them.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Pair {
    pub old: Side,
    pub new: Side,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Side {
    pub source: Source,
    pub resource_id: String,
    pub arn: String,
    pub host: String,
    pub reader: String,
    pub port: u16,
}

/// What would be done.
#[derive(Debug, Clone, Serialize)]
pub struct Plan {
    pub pair: Pair,
    pub steps: Vec<Step>,
    /// Seconds that the old one stays.
    pub quarantine: u64,
    /// What somebody should know before.
    pub warnings: Vec<String>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct State {
    pair: Pair,
    steps: Vec<Step>,
    quarantine: u64,
    /// Why it goes back; `None`: forward.
    back: Option<String>,
}

/// How it ended.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    pub operation: String,
    pub resumed: bool,
    pub steps: Vec<Step>,
    /// The reason, if everything was put back.
    pub rolled_back: Option<String>,
    /// Until when the old database stays.
    pub quarantined_until: Option<Timestamp>,
    pub seconds: f64,
}

/// Looks at everything that the steps will change. Makes no change.
pub async fn plan(m: &Managed, to: &Source, steps: &[CutoverStep], quarantine: u64) -> Result<Plan> {
    if *to == m.source {
        return Err(EngineError::usage(
            format!("`{to}` is where `{}` is now", m.name),
            "name the database that was restored: --to ID",
        ));
    }
    if steps.is_empty() {
        return Err(EngineError::usage(
            format!("the policy has no cutover for `{}`", m.name),
            "write [[databases.NAME.cutover]] steps: proxy, route53, secret, rename or command",
        ));
    }
    let (old, new) = (side(m, &m.source).await?, side(m, to).await?);
    let pair = Pair { old, new };
    let mut plan = Plan { pair, steps: Vec::new(), quarantine, warnings: Vec::new() };
    for step in steps {
        let (what, before) = look(m, &plan.pair, &step.to, &mut plan.warnings).await?;
        let (does, undoes) = describe(&what, &before, &plan.pair);
        plan.steps.push(Step {
            what,
            health: step.health.clone(),
            health_within: step.health_within.0,
            before,
            progress: Progress::Waiting,
            does,
            undoes,
        });
    }
    if plan.steps.iter().all(|s| s.health.is_none()) {
        plan.warnings.push("no step has a health check: nothing will be put back by itself".into());
    }
    Ok(plan)
}

/// The unfinished cutover of this database, if there is one.
pub fn unfinished(m: &Managed) -> Result<bool> {
    Ok(!m.journal.unfinished(Some(VERB), Some(m.name.as_str()))?.is_empty())
}

/// Does what the plan says.
pub async fn run(m: &Managed, plan: Plan) -> Result<Report> {
    let _lock = m.state.lock_run(&m.name)?;
    if unfinished(m)? {
        return Err(EngineError::refused(
            format!("a cutover of `{}` is not finished", m.name),
            "run `holdfast cutover DB --resume` to go on, or `--back` to put everything back",
        ));
    }
    let state = State { pair: plan.pair, steps: plan.steps, quarantine: plan.quarantine, back: None };
    let op = m.journal.begin(VERB, m.name.as_str(), Timestamp::now(), state)?;
    finish(m, op, false).await
}

/// Goes on with the unfinished one; `back` turns it round.
pub async fn resume(m: &Managed, back: bool) -> Result<Report> {
    let _lock = m.state.lock_run(&m.name)?;
    let mut open = m.journal.unfinished(Some(VERB), Some(m.name.as_str()))?;
    let Some(outline) = open.pop() else {
        return Err(EngineError::not_found(
            format!("no cutover of `{}` is unfinished", m.name),
            "begin one with --to-id ID",
        ));
    };
    let mut op: Operation<State> = m.journal.resume(outline)?;
    if back && op.state().back.is_none() {
        op.advance(Timestamp::now(), |s| s.back = Some("asked for with --back".into()))?;
    }
    finish(m, op, true).await
}

async fn finish(m: &Managed, mut op: Operation<State>, resumed: bool) -> Result<Report> {
    let begun = std::time::Instant::now();
    if op.state().back.is_none() {
        match forward(m, &mut op).await {
            Ok(()) => {}
            Err(EngineError::Cancelled) => return Err(EngineError::Cancelled),
            Err(e) => {
                m.monitor.warning(format!("{e}; going back"));
                op.advance(Timestamp::now(), |s| s.back = Some(e.to_string()))?;
            }
        }
    }
    let rolled_back = op.state().back.clone();
    let mut quarantined_until = None;
    match &rolled_back {
        Some(_) => {
            backward(m, &mut op).await?;
            in_service(m, &op.state().pair.old.source).await?;
        }
        None => {
            quarantined_until = Some(quarantine(m, &op).await?);
            let renamed = op.state().steps.iter().any(|s| s.what == What::Rename);
            let pair = &op.state().pair;
            in_service(m, if renamed { &pair.old.source } else { &pair.new.source }).await?;
        }
    }
    let ended = rolled_back.clone().map_or(Ended::Succeeded, Ended::RolledBack);
    let record = op.end(Timestamp::now(), ended)?;
    Ok(Report {
        operation: record.id,
        resumed,
        steps: record.state.steps,
        rolled_back,
        quarantined_until,
        seconds: begun.elapsed().as_secs_f64(),
    })
}

async fn forward(m: &Managed, op: &mut Operation<State>) -> Result<()> {
    for i in 0..op.state().steps.len() {
        let Some(step) = op.state().steps.get(i).cloned() else { break };
        if step.progress == Progress::Done {
            continue;
        }
        if m.monitor.cancelled() {
            return Err(EngineError::Cancelled);
        }
        let name = step_name(op.id(), i, "do")?;
        set(op, i, Progress::Begun)?;
        m.monitor.phase(&step.does);
        let pair = &op.state().pair;
        match (&step.what, &step.before) {
            (What::Proxy { name: proxy }, Before::Proxy { targets }) => {
                proxy::switch(m, proxy, targets, &pair.new.source).await?;
            }
            (What::Dns { zone, record, ttl, value }, _) => {
                dns::point(m, zone, record, *ttl, value).await?;
            }
            (What::Secret { id, keys }, _) => secret::write(m, id, keys, &name).await?,
            (What::Rename, Before::Rename { old_resource, new_resource, aside }) => {
                rename::swap(m, pair, old_resource, new_resource, aside).await?;
            }
            (What::Command { run, .. }, _) => command::run(m, run, pair).await?,
            (What::Proxy { .. } | What::Rename, _) => return Err(torn(op.id())),
        }
        if let Some(url) = &step.health {
            health::wait(m, url, std::time::Duration::from_secs(step.health_within)).await?;
        }
        set(op, i, Progress::Done)?;
    }
    Ok(())
}

async fn backward(m: &Managed, op: &mut Operation<State>) -> Result<()> {
    for i in (0..op.state().steps.len()).rev() {
        let Some(step) = op.state().steps.get(i).cloned() else { continue };
        if !matches!(step.progress, Progress::Begun | Progress::Done) {
            continue;
        }
        let name = step_name(op.id(), i, "undo")?;
        m.monitor.phase(&step.undoes);
        let pair = &op.state().pair;
        match (&step.what, &step.before) {
            (What::Proxy { name: proxy }, Before::Proxy { targets }) => {
                proxy::restore(m, proxy, targets, &pair.new.source).await?;
            }
            (What::Dns { zone, record, value, .. }, Before::Dns { record: was }) => {
                dns::put_back(m, zone, record, value, was.as_ref()).await?;
            }
            (What::Secret { id, keys }, Before::Secret { version }) => {
                secret::put_back(m, id, keys, version, &name).await?;
            }
            (What::Rename, Before::Rename { old_resource, new_resource, aside }) => {
                rename::swap_back(m, pair, old_resource, new_resource, aside).await?;
            }
            (What::Command { undo, .. }, _) => command::run(m, undo, pair).await?,
            _ => return Err(torn(op.id())),
        }
        set(op, i, Progress::Undone)?;
    }
    Ok(())
}

/// The old one stays, marked; what it is called now may have changed.
async fn quarantine(m: &Managed, op: &Operation<State>) -> Result<Timestamp> {
    let State { pair, quarantine, .. } = op.state();
    let until = Timestamp::now()
        .checked_add(SignedDuration::from_secs(i64::try_from(*quarantine).unwrap_or(i64::MAX)))
        .unwrap_or(Timestamp::MAX);
    let renamed = op.state().steps.iter().find_map(|s| match &s.before {
        Before::Rename { aside, .. } => Some(aside.clone()),
        _ => None,
    });
    let old = renamed.unwrap_or_else(|| pair.old.source.clone());
    // Its ARN has its name in it.
    let d = m.cloud.describe(&old).await?;
    if d.resource_id != pair.old.resource_id {
        return Err(EngineError::refused(
            format!("`{old}` is another database than the one that was replaced"),
            "a step of the cutover gave its name away; mark the old one yourself, then move the record of the \
             operation out of state-dir/operations",
        ));
    }
    let arn = d.arn;
    let tags = Tags::default()
        .with(keys::STATE, "quarantine")
        .with(keys::QUARANTINED_UNTIL, &until.to_string())
        .with(keys::DATABASE, m.name.as_str());
    m.cloud.add_tags(&old.region, &arn, &tags).await?;
    Ok(until)
}

/// Takes the marks of an earlier quarantine off: nobody may retire what the application uses.
async fn in_service(m: &Managed, source: &Source) -> Result<()> {
    let d = m.cloud.describe(source).await?;
    if d.tags.get(keys::STATE).is_some() || d.tags.get(keys::QUARANTINED_UNTIL).is_some() {
        m.cloud.remove_tags(&source.region, &d.arn, &[keys::STATE, keys::QUARANTINED_UNTIL]).await?;
    }
    Ok(())
}

fn set(op: &mut Operation<State>, i: usize, progress: Progress) -> Result<()> {
    op.advance(Timestamp::now(), |s| {
        if let Some(step) = s.steps.get_mut(i) {
            step.progress = progress;
        }
    })
}

fn step_name(id: &str, i: usize, way: &str) -> Result<OperationName> {
    operation(&format!("{id}/{i}/{way}"))
}

fn torn(id: &str) -> EngineError {
    EngineError::failed(
        format!("the record of operation {id} does not fit together"),
        "look at its file in state-dir/operations: a person edited it, or the disk did",
    )
}

async fn side(m: &Managed, source: &Source) -> Result<Side> {
    let d: Database = m.cloud.describe(source).await?;
    let Some(endpoint) = d.endpoint.clone().filter(|_| d.status.is_available()) else {
        return Err(EngineError::refused(
            format!("`{source}` is `{}`: nothing can be brought there", d.status),
            "wait until it is available",
        ));
    };
    if source.engine.is_cluster() && d.members.is_empty() {
        return Err(EngineError::refused(
            format!("cluster `{source}` has no instance: nobody could connect"),
            "`holdfast restore` makes the instances; look for what stopped it",
        ));
    }
    Ok(Side {
        source: source.clone(),
        resource_id: d.resource_id,
        arn: d.arn,
        reader: d.reader.unwrap_or_else(|| endpoint.host.clone()),
        host: endpoint.host,
        port: endpoint.port,
    })
}

async fn look(m: &Managed, pair: &Pair, step: &Move, warnings: &mut Vec<String>) -> Result<(What, Before)> {
    let region = &m.source.region;
    Ok(match step {
        Move::Proxy { name, .. } => {
            let targets = proxy::targets(m, name).await?;
            if !targets.contains(&pair.old.source) {
                warnings.push(format!("proxy `{name}` does not lead to `{}` now", pair.old.source));
            }
            (What::Proxy { name: name.clone() }, Before::Proxy { targets })
        }
        Move::Route53 { zone, record, ttl } => {
            let was = m.cloud.record(zone, record, "CNAME").await?;
            match &was {
                Some(r) if !r.values.iter().any(|v| v.trim_end_matches('.') == pair.old.host) => {
                    let now = r.values.join(", ");
                    warnings.push(format!("`{record}` leads to `{now}` now, not to `{}`", pair.old.host));
                }
                Some(r) if r.ttl > 300 => warnings.push(format!(
                    "`{record}` has a ttl of {} s: clients may use the old address that long; lower it before",
                    r.ttl
                )),
                Some(_) => {}
                None => warnings.push(format!("`{record}` does not exist yet")),
            }
            let value = pair.new.host.clone();
            let (zone, record) = (zone.clone(), record.clone());
            (What::Dns { zone, record, ttl: *ttl, value }, Before::Dns { record: was })
        }
        Move::Secret { id, keys } => {
            let now = m.cloud.secret(region, id).await?;
            secret::object(id, &now.value)?;
            let keys = keys.iter().map(|(k, v)| (k.clone(), fill(v, &pair.new))).collect();
            (What::Secret { id: id.clone(), keys }, Before::Secret { version: now.version })
        }
        Move::Rename => {
            if pair.old.source.region != pair.new.source.region {
                return Err(EngineError::usage(
                    "a rename stays in its region: the application would go on looking in the old one",
                    "use route53, secret or command steps to bring it to another region",
                ));
            }
            let stamp = Timestamp::now().strftime("%Y%m%d%H%M%S").to_string();
            // 63 characters in all (RDS API reference, DBInstanceIdentifier).
            let stem: String = pair.old.source.id.chars().take(40).collect();
            let aside = pair.old.source.named(&format!("{}-old-{stamp}", stem.trim_end_matches('-')));
            let aside = aside.map_err(|e| EngineError::failed(e.to_string(), e.hint()))?;
            let (old, new) = (pair.old.resource_id.clone(), pair.new.resource_id.clone());
            (What::Rename, Before::Rename { old_resource: old, new_resource: new, aside })
        }
        Move::Command { run, undo } => {
            (What::Command { run: run.clone(), undo: undo.clone() }, Before::Command)
        }
        Move::Kubernetes { workload, .. } => {
            return Err(EngineError::refused(
                format!("this version cannot change `{workload}` by itself"),
                "use a command step that runs kubectl, and one as its undo",
            ));
        }
    })
}

/// `{endpoint}`, `{reader}`, `{port}`, `{id}`
fn fill(text: &str, side: &Side) -> String {
    text.replace("{endpoint}", &side.host)
        .replace("{reader}", &side.reader)
        .replace("{port}", &side.port.to_string())
        .replace("{id}", &side.source.id)
}

fn describe(what: &What, before: &Before, pair: &Pair) -> (String, String) {
    let (old, new) = (&pair.old.source.id, &pair.new.source.id);
    match (what, before) {
        (What::Proxy { name }, Before::Proxy { targets }) => {
            let was: Vec<&str> = targets.iter().map(|t| t.id.as_str()).collect();
            let was = was.join(", ");
            (format!("proxy `{name}` leads to `{new}`"), format!("proxy `{name}` leads to `{was}` again"))
        }
        (What::Dns { record, value, ttl, .. }, Before::Dns { record: was }) => (
            format!("`{record}` leads to `{value}` (ttl {ttl} s)"),
            match was {
                Some(r) => format!("`{record}` leads to `{}` again", r.values.join(", ")),
                None => format!("`{record}` is removed again"),
            },
        ),
        (What::Secret { id, keys }, _) => {
            let keys: Vec<&str> = keys.keys().map(String::as_str).collect();
            let keys = keys.join(", ");
            (
                format!("secret `{id}` gets {keys} of `{new}`"),
                format!("secret `{id}` gets its version before"),
            )
        }
        (_, Before::Rename { aside, .. }) => (
            format!("`{old}` becomes `{}`, `{new}` becomes `{old}`", aside.id),
            format!("`{old}` becomes `{new}` again, `{}` becomes `{old}`", aside.id),
        ),
        (What::Command { run, undo }, _) => {
            (format!("run `{}`", run.join(" ")), format!("run `{}`", undo.join(" ")))
        }
        _ => (String::new(), String::new()),
    }
}
