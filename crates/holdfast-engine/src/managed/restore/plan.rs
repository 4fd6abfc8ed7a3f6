//! What a restore will do, before it does it. Printable as text and as JSON; changes nothing.

use super::origin::{Origin, Seen, find};
use super::target::{Shape, shape};
use super::{At, Overrides, Request, What, begun};
use crate::error::{EngineError, Result};
use crate::managed::Managed;
use crate::managed::observed::{self, Observed};
use holdfast_core::managed::{
    Engine, ErrorKind, NewInstance, Region, RestoreTarget, Source, SourceError, tags as keys,
};
use holdfast_core::time::{human, short};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::time::Duration;

/// A restore, decided.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    /// In the policy.
    pub database: String,
    pub source: Source,
    pub origin: Origin,
    /// The origin, for people.
    pub from: String,
    /// The snapshot that is restored, if it is one.
    pub snapshot_arn: Option<String>,
    /// GiB of the backup, where the provider says it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size_gib: Option<u32>,
    pub target: RestoreTarget,
    /// Where it is made, if not in the source's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub account: Option<String>,
    /// VPC of the subnet group.
    pub vpc: Option<String>,
    pub instances: Vec<NewInstance>,
    /// Deletion protection, switched on at the end.
    pub protect: bool,
    /// Where the settings come from, for people.
    pub like: String,
    /// When it happened, or now.
    pub asked: Timestamp,
    /// What the data will show.
    pub moment: Option<Timestamp>,
    pub remove_on_failure: bool,
    pub notes: Vec<String>,
    /// What was asked for: a restore that goes on is one of the same.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request: Option<What>,
    /// And with what it was to differ from the source.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub set: Option<Overrides>,
    /// The operation that a killed run began, and that this plan goes on with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resumes: Option<String>,
}

impl Plan {
    /// The work that is lost: from the moment restored to the one asked for. Seconds, never below 0.
    pub fn loss_seconds(&self) -> Option<i64> {
        self.moment.map(|m| self.asked.duration_since(m).as_secs().max(0))
    }
}

/// Decides everything, and checks what can be checked before anything is made.
///
/// # Errors
/// Whatever would fail later and can be seen now, with what to do about it.
pub async fn plan(m: &Managed, r: &Request) -> Result<Plan> {
    let to = destination(&m.source, r)?;
    if !r.temporary
        && let Some(plan) = begun(m, &to, r.account.as_deref())?
    {
        let other = plan.request.as_ref().is_some_and(|w| *w != r.what)
            || match &r.what {
                What::Moment { at: At::Time(t), .. } => plan.asked != r.incident.unwrap_or(*t),
                What::Snapshot(id) => plan
                    .snapshot_arn
                    .as_ref()
                    .is_none_or(|arn| arn != id && !arn.ends_with(&format!(":{id}"))),
                _ => false,
            };
        if other {
            return Err(EngineError::refused(
                format!("a restore to `{to}` from {} is not finished", plan.from),
                "finish it with what it was begun with, or choose another name",
            ));
        }
        // It was decided when it was begun, by the options and the policy of that time.
        let mut plan = plan;
        if plan.set.as_ref().is_some_and(|set| *set != r.set) || plan.remove_on_failure != r.remove_on_failure
        {
            let kept = if plan.remove_on_failure { "removed" } else { "kept" };
            plan.notes.push(format!(
                "it goes on as it was begun: options and places of the policy that are others now are not used, and if \
                 it fails what was made is {kept}"
            ));
        }
        return Ok(plan);
    }
    let now = Timestamp::now();
    let mut notes = Vec::new();
    copies_only(m, r)?;
    // In another account something else may have the source's name.
    let live = match r.source_lost || r.account.is_some() {
        true => None,
        false => look(m, &to.region, &mut notes).await?,
    };
    free(m, &to).await?;
    let last = match live {
        Some(_) => None,
        None => observed::last(m)?,
    };
    let seen = Seen { live: live.as_ref(), like: live.as_ref().or(last.as_ref()) };
    let found = find(m, &to, seen, r, now).await?;
    let Shape { mut target, instances, protect, notes: more } = shape(&to, seen.like, &found.backup, r)?;
    target.tags.set(keys::DATABASE, m.name.as_str());
    if let Some(l) = seen.like {
        target.tags.set(keys::SOURCE, &l.database.resource_id);
    }
    let vpc = match &target.subnet_group {
        Some(name) => Some(vpc(m, &to.region, name).await?),
        None => None,
    };
    for i in &instances {
        free_instance(m, &to, &i.id).await?;
    }
    notes.extend(found.notes);
    notes.extend(more);
    let asked = match &r.what {
        What::Moment { at: At::Time(t), .. } | What::RecoveryPoint { at: Some(At::Time(t)), .. } => Some(*t),
        _ => None,
    };
    let asked = r.incident.or(asked).unwrap_or(now);
    // Clusters grow by themselves: what a snapshot says of its size is all that is known.
    let size_gib = found.backup.size_gib.or(found.snapshot.as_ref().map(|s| s.size_gib));
    Ok(Plan {
        database: m.name.to_string(),
        source: m.source.clone(),
        origin: found.origin,
        from: found.words,
        snapshot_arn: found.snapshot.map(|s| s.arn),
        size_gib: size_gib.filter(|g| *g > 0),
        target,
        account: r.account.clone(),
        vpc,
        instances,
        protect,
        like: match (&live, &last) {
            (Some(_), _) => "the source as it is now".into(),
            (None, Some(l)) => format!("the source as it was seen at {}", short(l.at)),
            (None, None) => "what was given".into(),
        },
        asked,
        moment: found.moment,
        remove_on_failure: r.remove_on_failure,
        request: Some(r.what.clone()),
        set: Some(r.set.clone()),
        notes,
        resumes: None,
    })
}

/// What is in another account is a copy: what goes by the source's name there is of another database.
fn copies_only(m: &Managed, r: &Request) -> Result<()> {
    match (&r.account, &r.what) {
        (Some(account), What::Moment { .. } | What::Newest) => Err(EngineError::usage(
            format!(
                "account {account} has copies of `{}`, and neither it nor its automated backups",
                m.source
            ),
            format!(
                "name a copy: --from-snapshot ID or --from-point ARN; `holdfast list {}` shows them",
                m.name
            ),
        )),
        _ => Ok(()),
    }
}

fn destination(source: &Source, r: &Request) -> Result<Source> {
    let region = r.region.as_ref().unwrap_or(&source.region);
    let bad = |e: SourceError| EngineError::usage(e.to_string(), e.hint());
    let to = source.in_region(region).named(&r.to).map_err(bad)?;
    // A restore always makes something new: over the production's name it would never be one (VE10).
    if &to == source {
        return Err(EngineError::refused(
            format!("`{to}` is the source itself, and nothing is restored over it"),
            "choose another name; `holdfast cutover` brings the application, or the name, to it",
        ));
    }
    Ok(to)
}

/// For a region that may be lost: its calls are repeated for minutes, and nothing but a note comes of them.
const PATIENCE: Duration = Duration::from_secs(20);

/// The source, if it lives. Its region may be what was lost: then another one is no reason to fail.
async fn look(m: &Managed, to: &Region, notes: &mut Vec<String>) -> Result<Option<Observed>> {
    let elsewhere = *to != m.source.region;
    let looking = observed::look(m);
    let found = match elsewhere {
        false => looking.await,
        true => match tokio::time::timeout(PATIENCE, looking).await {
            Ok(found) => found,
            Err(_) => {
                notes.push(format!("the source cannot be seen: {} does not answer", m.source.region));
                return Ok(None);
            }
        },
    };
    match found {
        Ok(seen) => Ok(Some(seen)),
        Err(e) if e.is_not_found() => Ok(None),
        Err(e) if elsewhere && !matches!(e.kind, ErrorKind::NoCredentials) => {
            notes.push(format!("the source cannot be seen: {e}"));
            Ok(None)
        }
        Err(e) => Err(e.into()),
    }
}

async fn free(m: &Managed, to: &Source) -> Result<()> {
    match m.cloud.describe(to).await {
        Err(e) if e.is_not_found() => Ok(()),
        Err(e) => Err(e.into()),
        Ok(d) => Err(taken(&format!("`{to}` ({})", d.status))),
    }
}

async fn free_instance(m: &Managed, to: &Source, id: &str) -> Result<()> {
    match m.cloud.instance(&to.region, id).await {
        Err(e) if e.is_not_found() => Ok(()),
        Err(e) => Err(e.into()),
        Ok(_) => Err(taken(&format!("an instance `{id}` in {}", to.region))),
    }
}

fn taken(what: &str) -> EngineError {
    EngineError::refused(
        format!("there is {what} already"),
        "choose another name: a restore never replaces anything",
    )
}

async fn vpc(m: &Managed, region: &Region, group: &str) -> Result<String> {
    m.cloud.vpc_of_subnet_group(region, group).await.map_err(|e| match e.is_not_found() {
        true => EngineError::usage(
            format!("{region} has no subnet group `{group}`"),
            "give --subnet-group with one that exists there",
        ),
        false => e.into(),
    })
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let t = &self.target;
        let mut line = |name: &str, text: String| match text.is_empty() {
            true => Ok(()),
            false => writeln!(f, "  {name:<12}{text}"),
        };
        let join = |parts: Vec<Option<String>>| parts.into_iter().flatten().collect::<Vec<_>>().join(", ");
        let named = |what: &str, name: &Option<String>| name.as_ref().map(|n| format!("{what} {n}"));
        line("restore", format!("{} ({})", self.database, self.source))?;
        let account = self.account.as_ref().map(|a| format!(", in account {a}")).unwrap_or_default();
        line("to", format!("{}{account}", t.source))?;
        line("from", self.from.clone())?;
        if let Some(after) = self.moment.filter(|m| *m > self.asked) {
            let late = human(after.duration_since(self.asked).unsigned_abs());
            line(
                "loss",
                format!("none: it shows {late} AFTER {}, with all that happened then", short(self.asked)),
            )?;
        } else if let Some(seconds) = self.loss_seconds() {
            let lost = human(Duration::from_secs(seconds.unsigned_abs()));
            line("loss", format!("{lost} before {}", short(self.asked)))?;
        }
        line("like", self.like.clone())?;
        let multi = t.multi_az.filter(|on| *on).map(|_| "Multi-AZ".to_string());
        let size = t.allocated_gib.map(|g| format!("{g} GiB"));
        line("class", join(vec![t.class.clone(), multi, t.storage_kind.clone(), size]))?;
        if let Some(s) = t.scaling {
            line("serverless", format!("{} to {} units, engine mode provisioned", s.min, s.max))?;
        }
        for i in &self.instances {
            let tier = i.promotion_tier.map(|t| format!("tier {t}"));
            line("instance", join(vec![Some(i.id.clone()), Some(i.class.clone()), tier]))?;
        }
        let groups = match t.security_groups.is_empty() {
            true => None,
            false => Some(format!("security groups {}", t.security_groups.join(" "))),
        };
        let port = t.port.map(|p| format!("port {p}"));
        let public = t.public.filter(|p| *p).map(|_| "public".to_string());
        line("network", join(vec![named("subnet group", &t.subnet_group), groups, port, public]))?;
        let names = vec![named("parameters", &t.parameter_group), named("options", &t.option_group)];
        line("groups", join(names))?;
        line("logs", t.log_exports.join(", "))?;
        line("at the end", if self.protect { "deletion protection on".into() } else { String::new() })?;
        for n in &self.notes {
            line("note", n.clone())?;
        }
        if let Some(id) = &self.resumes {
            line("resumes", id.clone())?;
        }
        let billed = match t.source.engine {
            Engine::Rds => "the instance and its storage".to_string(),
            _ => format!("{} instances and the cluster's storage", self.instances.len()),
        };
        line("cost", format!("{billed}, from creation until they are deleted"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_source_itself_is_refused_and_its_name_elsewhere_is_not() {
        let source: Source = "rds://us-east-1/shop".parse().unwrap();
        let to = |id: &str, region: Option<&str>| {
            let region = region.map(|r| r.parse().unwrap());
            destination(&source, &Request { to: id.into(), region, ..Request::default() })
        };
        for id in ["shop", "SHOP"] {
            assert_eq!(to(id, None).unwrap_err().exit_code(), holdfast_core::ExitCode::Refused, "{id}");
        }
        assert_eq!(to("shop", Some("us-west-2")).unwrap().to_string(), "rds://us-west-2/shop");
        assert_eq!(to("shop-2", None).unwrap().to_string(), "rds://us-east-1/shop-2");
        assert_eq!(to("a--b", None).unwrap_err().exit_code(), holdfast_core::ExitCode::Usage);
    }
}
