//! What `holdfast recover` shows: the ways, the plan of one, and what comes after it.

use super::{Session, restore};
use crate::args::RecoverArgs;
use crate::output;
use holdfast_core::managed::Region;
use holdfast_core::policy::managed::Move;
use holdfast_core::time;
use holdfast_engine::managed::holdings::Listing;
use holdfast_engine::managed::measured::Measured;
use holdfast_engine::managed::recover::{From, Scenario, Way, shown};
use holdfast_engine::managed::recovery;
use holdfast_engine::managed::restore::price::hourly;
use holdfast_engine::managed::restore::{Plan, Request};
use jiff::Timestamp;
use serde_json::{Value, json};

/// What was found.
pub struct Seen<'a> {
    pub scenario: Scenario,
    pub at: Timestamp,
    pub listing: &'a Listing,
    pub ways: &'a [Way],
}

impl Seen<'_> {
    pub fn document(&self) -> Value {
        let regions = self.listing.failures.iter().map(|(r, e)| json!({ "region": r, "error": e }));
        let failures: Vec<_> = regions.chain(self.listing.unseen.iter().map(|u| json!(u))).collect();
        json!({ "scenario": self.scenario, "at": self.at, "ways": self.ways, "failures": failures })
    }

    pub fn print(&self, name: &str) {
        output::line(&format!("{name}: {}, {}", self.scenario.words(), time::short(self.at)));
        let mut rows =
            vec![["", "RESTORE", "REGION", "SHOWS", "LOST", "TAKES", ""].map(String::from).to_vec()];
        let few = shown(self.ways);
        for i in &few {
            let Some(w) = self.ways.get(*i) else { continue };
            let what = match &w.from {
                From::Source { .. } => format!("{name} itself, to that second"),
                From::Snapshot { id } => format!("snapshot {id}"),
                From::Automated { backup, .. } => format!("automated backup {backup}"),
                From::Point { vault, arn, .. } => format!("{arn} of vault {vault}"),
            };
            let lost = std::time::Duration::from_secs(w.loss.as_secs().max(0).unsigned_abs());
            rows.push(vec![
                (i + 1).to_string(),
                what,
                w.account.as_ref().map_or(w.region.to_string(), |a| format!("{}, account {a}", w.region)),
                format!("{}{}", if w.at_most { "at most " } else { "" }, time::short(w.shows)),
                format!("{}{}", if w.at_most { "at least " } else { "" }, time::human(lost)),
                w.rto.as_ref().map_or("not measured".into(), took),
                w.merits.join(", "),
            ]);
        }
        output::table(&rows);
        if self.scenario.needs_time() {
            let since = Timestamp::now().duration_since(self.at).unsigned_abs();
            output::line(&format!(
                "LOST is the work before the incident; what was written in the {} since is in none of them",
                time::human(since)
            ));
        }
        match self.ways.len() - few.len() {
            0 => {}
            n => {
                output::line(&format!("{n} more snapshots are in --json, and can be taken: --way REGION/ID"))
            }
        }
        for gap in self.listing.gaps() {
            output::line(&format!("could not be seen: {gap}"));
        }
    }
}

/// `12m by a restore of 100 GiB on 2026-11-20`
fn took(m: &Measured) -> String {
    let d = time::human(std::time::Duration::from_secs_f64(m.seconds.max(0.0)));
    let size = m.size_gib.map(|g| format!(" of {g} GiB")).unwrap_or_default();
    format!("{d} by a {}{size} on {}", m.by, m.at.strftime("%Y-%m-%d"))
}

/// What comes after the plan, and after the restore.
pub struct Next {
    /// This plan, done.
    pub command: String,
    pub cutover: String,
    /// Where the new database is made.
    pub region: Region,
    /// In another account, where no step of a cutover leads.
    abroad: Option<String>,
    steps: Vec<String>,
    pub warnings: Vec<String>,
}

impl Next {
    pub fn of(
        s: &Session,
        a: &RecoverArgs,
        incident: &recovery::Incident,
        way: Option<&Way>,
        request: &Request,
        region: Region,
    ) -> Next {
        let name = s.managed.name.as_str();
        let scenario = incident.scenario;
        let mut command = format!("holdfast recover {name} --scenario {scenario}");
        if let Some(t) = incident.at {
            command += &format!(" --at {t}");
        }
        if let Some(w) = way {
            command += &format!(" --way {}", w.name());
        }
        if let Some(r) = &a.region {
            command += &format!(" --region {r}");
        }
        command += &format!(" --to-id {}{} --yes", request.to, if a.nearest { " --nearest" } else { "" });
        let mut cutover = format!("holdfast cutover {name} --to-id {}", request.to);
        if region != s.managed.source.region {
            cutover += &format!(" --region {region}");
        }
        if matches!(scenario, Scenario::CompleteLoss | Scenario::RegionLoss) {
            cutover += " --lost";
        }
        let mut steps: Vec<String> = s.database.cutover.iter().map(|c| step(&c.to)).collect();
        let abroad = request.account.clone();
        if let Some(account) = &abroad {
            steps.clear();
            cutover = format!("point the application at it, in account {account}: no cutover leads there");
        }
        Next { command, cutover, region, abroad, steps, warnings: warnings(scenario) }
    }

    pub fn document(&self, s: &Session, p: &Plan, n: Option<usize>) -> Value {
        json!({
            "way": n.map(|n| n + 1), "plan": p, "price": hourly(p, &s.ctx.policy.prices.managed),
            "command": self.command, "next": self.cutover, "cutover": self.steps, "warnings": self.warnings,
        })
    }

    pub fn print_plan(&self, s: &Session, p: &Plan, n: usize) {
        output::line(&format!("way {}:", n + 1));
        output::line(p.to_string().trim_end());
        restore::price_text(hourly(p, &s.ctx.policy.prices.managed));
        for w in &self.warnings {
            output::line(&format!("warning: {w}"));
        }
        self.print_cutover("then");
    }

    pub fn print_after(&self) {
        for w in &self.warnings {
            output::line(&format!("warning: {w}"));
        }
        output::line(
            "look at it with your own eyes before the application does: `holdfast verify` restores a copy of its own",
        );
        self.print_cutover("next");
    }

    fn print_cutover(&self, when: &str) {
        match self.steps.is_empty() {
            true if self.abroad.is_some() => output::line(&format!("{when}: {}", self.cutover)),
            true => output::line(&format!(
                "{when}: point the application at it; the policy has no [[databases.NAME.cutover]]"
            )),
            false => {
                output::line(&format!("{when}: {}", self.cutover));
                for (i, step) in self.steps.iter().enumerate() {
                    output::line(&format!("  {}. {step}", i + 1));
                }
            }
        }
    }
}

fn step(to: &Move) -> String {
    match to {
        Move::Proxy { name, .. } => format!("the new target at proxy {name}"),
        Move::Route53 { record, .. } => format!("record {record}"),
        Move::Secret { id, .. } => format!("secret {id}"),
        Move::Kubernetes(k) => format!("{}/{} in namespace {}", k.kind.as_str(), k.name, k.namespace),
        Move::Rename => "the old name".into(),
        Move::Command { run, .. } => format!("command {}", run.join(" ")),
    }
}

fn warnings(scenario: Scenario) -> Vec<String> {
    let all: &[&str] = match scenario {
        Scenario::MaliciousDeletion => &[
            "whoever did this may still have credentials: end the sessions of the role, disable its access keys, and \
             run this with credentials that person never had",
            "the restored database has the passwords of its time: change them before the application uses it",
            "keep what is left: put a hold on vaults and snapshots, and look into CloudTrail, before anything is deleted",
        ],
        Scenario::Corruption => &[
            "nobody knows yet that the chosen moment is good: check the data before the application goes there",
        ],
        Scenario::RegionLoss => &[
            "secrets, keys, records and images of the lost region are not there either: the application needs them",
        ],
        Scenario::AccidentalDeletion | Scenario::CompleteLoss => &[],
    };
    all.iter().map(ToString::to_string).collect()
}

/// The fields of one document in another.
pub fn merge(into: &mut Value, more: Value) {
    if let (Value::Object(a), Value::Object(b)) = (into, more) {
        a.extend(b);
    }
}
