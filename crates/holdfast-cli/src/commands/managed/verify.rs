//! `holdfast verify` of a managed database: a temporary copy, looked into and removed again.

use super::restore::price_text;
use super::{Base, Session, open_in};
use crate::args::{Cli, VerifyArgs};
use crate::commands::Done;
use crate::{failure, output};
use holdfast_core::ByteSize;
use holdfast_core::managed::{Region, Scaling};
use holdfast_core::policy::VerifyLevel;
use holdfast_core::policy::managed::{Content, ContentCheck, Password as Place};
use holdfast_core::time;
use holdfast_engine::managed::observed;
use holdfast_engine::managed::restore::price::hourly;
use holdfast_engine::managed::restore::{At, Overrides};
use holdfast_engine::managed::verify::checks::{Assertion, Collection};
use holdfast_engine::managed::verify::{Checks, Level, Login, Password, Report, Request, What, plan, run};
use serde_json::json;

/// Not passed.
const NOT_PASSED: u8 = 5;
/// Nothing speaks against it, and less was shown than was wanted.
const INCOMPLETE: u8 = 3;

pub async fn verify(cli: &Cli, a: &VerifyArgs) -> Done {
    let base = Base::region(a.managed.region.as_deref());
    let s = open_in(cli, a.target.as_deref(), a.managed.wait_for.as_deref(), base).await?;
    let request = request(a, &s).await?;
    let p = plan(&s.managed, &request).await?;
    let price = hourly(&p.restore, &s.ctx.policy.prices.managed);
    s.progress.finish();
    if !cli.json {
        output::line(p.to_string().trim_end());
        price_text(price);
    }
    if !a.managed.yes {
        match cli.json {
            true => output::json(&json!({ "plan": p, "price": price })),
            false => output::line(
                "nothing was made; --yes does it, under a name that is drawn then, and the provider charges for it",
            ),
        }
        return Ok(0);
    }
    let result = run(&s.managed, &p).await;
    s.progress.finish();
    let r = result?;
    match cli.json {
        true => output::json(&json!({ "plan": p, "verify": r, "price": price })),
        false => text(&r),
    }
    Ok(match (r.passed, &r.outcome.incomplete) {
        (true, None) => 0,
        (true, Some(_)) => INCOMPLETE,
        (false, _) => NOT_PASSED,
    })
}

async fn request(a: &VerifyArgs, s: &Session) -> anyhow::Result<Request> {
    let m = &a.managed;
    let region = match &m.region {
        Some(r) => Some(r.parse::<Region>().map_err(|e| failure::usage(e.to_string(), e.hint()))?),
        None => None,
    };
    let home = region.as_ref().unwrap_or(&s.managed.source.region);
    apart(a, s, home)?;
    let what = match (&m.from_snapshot, &m.from_point, &m.at) {
        (Some(id), ..) => What::Snapshot(id.clone()),
        (None, Some(arn), _) => What::RecoveryPoint { vault: None, arn: arn.clone() },
        (None, None, Some(at)) => What::Moment(At::parse(at)?),
        (None, None, None) if m.random => What::Random,
        (None, None, None) => What::Newest,
    };
    let role_arn = match (&m.from_point, &m.role_arn) {
        (Some(_), None) => backup_role(s, home),
        (_, given) => given.clone(),
    };
    let rules = s.plan.verify.as_ref();
    let tags = s.plan.tags.iter().chain(&s.database.tags).map(|(k, v)| (k.as_str(), v.as_str())).collect();
    Ok(Request {
        what,
        role_arn,
        set: overrides(a, s, home),
        level: level(a, s)?,
        resource_id: s.database.resource_id.clone(),
        from_cidr: m.from_cidr.clone(),
        login: login(a, s),
        checks: Checks { seconds: rules.map(|v| v.check_within.0), ..checks(s) },
        life: rules.map(|v| v.remove_after),
        tags,
        region,
    })
}

/// Where the policy sets a network apart, nobody types production's (VE10).
fn apart(a: &VerifyArgs, s: &Session, home: &Region) -> anyhow::Result<()> {
    let (Some(typed), Some(place)) = (&a.managed.subnet_group, s.database.place_in(home.as_str())) else {
        return Ok(());
    };
    let Some(alone) = place.isolated.as_ref().filter(|i| i.subnet_group != *typed) else { return Ok(()) };
    let seen = observed::last(&s.managed)?.filter(|_| *home == s.managed.source.region);
    let own = seen.and_then(|o| o.database.subnet_group);
    if place.subnet_group.as_ref() == Some(typed) || own.as_ref() == Some(typed) {
        return Err(failure::refused(
            format!(
                "the subnet group `{typed}` is production's: a throwaway copy would be in the middle of it"
            ),
            format!("leave out --subnet-group: the policy sets `{}` apart for this", alone.subnet_group),
        ));
    }
    Ok(())
}

/// What the policy sets apart for this in that region, then what was typed.
fn overrides(a: &VerifyArgs, s: &Session, home: &Region) -> Overrides {
    let mut set = Overrides::default();
    if let Some(p) = s.database.place_in(home.as_str()) {
        set.subnet_group.clone_from(&p.subnet_group);
        set.parameter_group.clone_from(&p.parameter_group);
        set.option_group.clone_from(&p.option_group);
        if let Some(alone) = &p.isolated {
            set.subnet_group = Some(alone.subnet_group.clone());
            set.security_groups.clone_from(&alone.security_groups);
        }
        let class = s.plan.verify.as_ref().and_then(|v| v.class.as_ref()).or(a.managed.class.as_ref());
        let serverless = class.is_some_and(|c| c == holdfast_engine::managed::restore::SERVERLESS);
        set.scaling = p.capacity.filter(|_| serverless).map(|c| Scaling {
            min: c.min,
            max: c.min.max(1.0),
            pause_after: None,
        });
    }
    let rules = s.plan.verify.as_ref();
    set.class = a.managed.class.clone().or_else(|| rules.and_then(|v| v.class.clone()));
    set.subnet_group = a.managed.subnet_group.clone().or(set.subnet_group);
    set
}

fn level(a: &VerifyArgs, s: &Session) -> anyhow::Result<Option<Level>> {
    let Some(text) = a.level.as_deref() else {
        return Ok(s.plan.verify.as_ref().map(|v| match v.level {
            VerifyLevel::L3 => Level::L3,
            // The policy takes no other level for a managed database.
            _ => Level::L4,
        }));
    };
    match text.to_ascii_uppercase().as_str() {
        "L2" => Ok(Some(Level::L2)),
        "L3" => Ok(Some(Level::L3)),
        "L4" => Ok(Some(Level::L4)),
        _ => Err(failure::usage(
            format!("`{text}` is no level of a managed database"),
            "use L2 (restored), L3 (logged in) or L4 (content checked)",
        )),
    }
}

fn login(a: &VerifyArgs, s: &Session) -> Login {
    let mut login = Login { ca_bundle: a.managed.ca_file.clone(), ..Login::default() };
    if let Some(c) = &s.database.connect {
        login.user = Some(c.user.clone());
        login.database.clone_from(&c.database);
        login.ca_bundle = login.ca_bundle.or_else(|| c.ca_file.clone());
        login.password = match &c.password {
            Place::Secret(id) => Password::Secret { id: id.clone(), region: None },
            Place::Env(name) => Password::Env(name.clone()),
            Place::File(path) => Password::File(path.clone()),
        };
    }
    if a.managed.reset_password {
        // That is the master user's.
        login.user = None;
        login.password = Password::Reset;
    }
    login
}

/// Those of the policy. Where it names databases, only they are counted.
fn checks(s: &Session) -> Checks {
    let mut out = Checks::default();
    let own = s.database.connect.as_ref().and_then(|c| c.database.clone());
    if let Some(first) = &own {
        let named = s.database.checks.values().filter_map(|c| c.database.as_ref());
        out.databases.push(first.clone());
        for d in named {
            if !out.databases.contains(d) {
                out.databases.push(d.clone());
            }
        }
    }
    for (name, c) in &s.database.checks {
        let ContentCheck { content, database, expect, within } = c;
        let (name, database) = (name.clone(), database.clone().or(own.clone()));
        let (expect, within) = (*expect, *within);
        match content {
            Content::Sql(sql) => {
                out.assertions.push(Assertion { name, database, sql: sql.clone(), expect, within });
            }
            Content::Collection { name: collection, newest, indexes } => out.collections.push(Collection {
                name,
                database,
                collection: collection.clone(),
                expect,
                newest: newest.clone(),
                within,
                indexes: indexes.clone(),
            }),
        }
    }
    out
}

/// That of the policy's vaults in the region; without one the engine takes AWS Backup's own.
fn backup_role(s: &Session, region: &Region) -> Option<String> {
    let mut vaults = s.ctx.policy.managed_vaults.values();
    vaults.find_map(|v| v.backup_role.clone().filter(|_| v.place.region() == region.as_str()))
}

fn text(r: &Report) {
    let seconds = |s: f64| time::human(std::time::Duration::from_secs_f64(s));
    let o = &r.outcome;
    let (reached, wanted) = (o.level.map_or("nothing", Level::word), r.wanted.word());
    let verdict = match (r.passed, &o.incomplete) {
        (true, Some(lacks)) => format!("passed {reached}; {wanted} is incomplete: {lacks} were looked at"),
        (true, None) => format!("passed {wanted}, reached {reached}"),
        (false, _) => format!("FAILED {wanted}, reached {reached}"),
    };
    output::line(&format!("{}: {verdict}, in {} ({})", r.database, seconds(r.seconds), r.from));
    if let Some(s) = o.restore_seconds {
        let asked = if r.resumed { "; interrupted, so this is no measure" } else { "" };
        output::line(&format!("  restored in {}{asked}", seconds(s)));
    }
    if let Some(s) = o.connect_seconds {
        output::line(&format!("  answered after {} more", seconds(s)));
    }
    for d in &o.evidence.databases {
        let c = &d.coverage;
        let of_tables = match c.bytes.of {
            0 => format!("{} collections", c.tables),
            _ => {
                let (looked_at, of) = (ByteSize(c.bytes.looked_at), ByteSize(c.bytes.of));
                format!("{} tables ({looked_at} of {of})", c.tables)
            }
        };
        let mut line = format!("  {}: {of_tables} counted, {} rows or documents", d.name, d.rows());
        if c.indexes.of > 0 {
            line.push_str(&format!(
                "; {} foreign keys followed, {} indexes compared",
                c.foreign_keys, c.indexes
            ));
        }
        output::line(&line);
    }
    for a in &o.evidence.asked {
        let holds = if a.holds { "holds" } else { "FAILS" };
        output::line(&format!("  {} {holds}: {}", a.name, a.found));
    }
    for f in &o.evidence.faults {
        output::line(&format!("  fault: {f}"));
    }
    if let Some(why) = &o.stopped {
        output::line(&format!("  stopped: {why}"));
    }
    for n in &o.evidence.notes {
        output::line(&format!("  note: {n}"));
    }
    output::line("  the copy and its group are removed");
}
