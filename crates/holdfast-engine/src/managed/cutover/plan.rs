//! What a cutover would do: both databases looked at, each step's object looked at, nothing changed.

use super::{Before, Pair, Presence, Progress, Side, Step, VERB, What, dns, kubernetes, proxy, secret};
use crate::error::{EngineError, Result};
use crate::managed::lineage::Lineage;
use crate::managed::{Managed, observed};
use holdfast_core::managed::{Database, ErrorKind, ManagedError, Source};
use holdfast_core::policy::managed::{CutoverStep, Move};
use holdfast_core::time::Duration;
use jiff::Timestamp;
use serde::Serialize;

/// Where to, and how.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    pub to: &'a Source,
    pub steps: &'a [CutoverStep],
    /// Seconds that the old one stays.
    pub quarantine: u64,
    /// Somebody says that the old one is lost: that it cannot be found or asked is no error then.
    pub lost: bool,
    /// Of the old one, as the policy has it: for when it cannot be asked.
    pub resource_id: Option<&'a str>,
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

impl Plan {
    /// As people and other programs may see it: without values that only the journal may hold.
    #[must_use]
    pub fn shown(&self) -> Self {
        Plan { steps: self.steps.iter().cloned().map(Step::shown).collect(), ..self.clone() }
    }
}

/// Looks at everything that the steps will change. Makes no change.
///
/// # Errors
/// Either database is not as it must be; a step's object is not there or not fit; nothing is left to do.
pub async fn plan(m: &Managed, r: &Request<'_>) -> Result<Plan> {
    if *r.to == m.source {
        return Err(EngineError::usage(
            format!("`{}` is where `{}` is now", r.to, m.name),
            "name the database that was restored: --to-id ID",
        ));
    }
    if r.steps.is_empty() {
        return Err(EngineError::usage(
            format!("the policy has no {VERB} for `{}`", m.name),
            "write [[databases.NAME.cutover]] steps: proxy, route53, secret, kubernetes, rename or command",
        ));
    }
    let (mut warnings, mut pending) = (Vec::new(), Vec::new());
    let (old, presence, lineage) = old_side(m, r, &mut warnings, &mut pending).await?;
    let new = new_side(m, r.to, &mut pending).await?;
    let replaced = lineage.replaced_with(&old.resource_id);
    let mut pair = Pair { old, new, presence, replaced, lasting: None, aside: None };
    let wanted = r.steps.iter().any(|s| is_rename(&s));
    let renaming = if wanted { Some(rename(&pair)?) } else { None };
    if let Some(Ok((_, Before::Rename { aside, .. }))) = &renaming {
        warnings.extend(pending);
        pair.lasting = Some(called(&pair.new, &pair.old.source, &pair.old));
        pair.aside = presence.exists().then(|| called(&pair.old, aside, &pair.old));
    }
    let mut plan = Plan { pair, steps: Vec::new(), quarantine: r.quarantine, warnings };
    for step in in_order(r.steps, plan.pair.lasting.is_some()) {
        let Some((what, before)) =
            look(m, &plan.pair, &step.to, renaming.as_ref(), &mut plan.warnings).await?
        else {
            continue;
        };
        let (does, undoes) = describe(&what, &before, &plan.pair);
        plan.steps.push(Step {
            what,
            health: step.health.clone(),
            health_within: step.health_within.0,
            before,
            progress: Progress::Waiting,
            does,
            undoes,
            left: None,
        });
    }
    if plan.steps.is_empty() {
        return Err(EngineError::usage(
            format!("no step of the policy brings the application to `{}`", r.to),
            "a rename alone cannot: write route53, secret, kubernetes or command steps",
        ));
    }
    if plan.steps.iter().all(|s| s.health.is_none()) {
        plan.warnings.push("no step has a health check: nothing will be put back by itself".into());
    }
    Ok(plan)
}

fn is_rename(step: &&CutoverStep) -> bool {
    matches!(step.to, Move::Rename)
}

/// As they are done. A proxy knows the new database by the name that it has now; everything else gets an address, and the
/// one that the new database has now goes with its name: "the old DNS name is immediately deleted" (RDS user guide,
/// "Renaming a DB instance"; provider rules X32). So the names change hands between the two.
fn in_order(steps: &[CutoverStep], renames: bool) -> Vec<&CutoverStep> {
    let rank = |s: &&CutoverStep| match s.to {
        Move::Proxy { .. } => 0,
        Move::Rename => 1,
        _ => 2,
    };
    let mut out: Vec<&CutoverStep> = steps.iter().collect();
    if renames {
        out.sort_by_key(rank);
    }
    out
}

/// A database as it is called with another name. The rest of an endpoint is of the account and the region; one that does
/// not go by the name is that of `whose`, if it has one.
fn called(side: &Side, name: &Source, whose: &Side) -> Side {
    let host = |now: &str, other: &str| match now.strip_prefix(side.source.id.as_str()) {
        Some(rest) if rest.starts_with('.') => format!("{}{rest}", name.id),
        _ if other.is_empty() => now.to_string(),
        _ => other.to_string(),
    };
    Side {
        source: name.clone(),
        host: host(&side.host, &whose.host),
        reader: host(&side.reader, &whose.reader),
        ..side.clone()
    }
}

/// AWS renames at once, and with it does whatever else waits for the maintenance window ("all changes in the pending
/// modifications queue": RDS user guide, "Using the schedule modifications setting").
fn remark_pending(d: &Database, warnings: &mut Vec<String>) {
    if !d.pending.is_empty() {
        warnings.push(format!(
            "{} of `{}` wait for its maintenance window: the rename brings that into force, too, and may restart it",
            d.pending.join(", "),
            d.source
        ));
    }
}

async fn new_side(m: &Managed, source: &Source, pending: &mut Vec<String>) -> Result<Side> {
    let d: Database = m.cloud.describe(source).await?;
    remark_pending(&d, pending);
    if d.endpoint.is_none() || !d.status.is_available() {
        return Err(EngineError::refused(
            format!("`{source}` is `{}`: nothing can be brought there", d.status),
            "wait until it is available",
        ));
    }
    if source.engine.is_cluster() && d.members.is_empty() {
        return Err(EngineError::refused(
            format!("cluster `{source}` has no instance: nobody could connect"),
            "`holdfast restore` makes the instances; look for what stopped it",
        ));
    }
    Ok(side(d))
}

/// The old one, and whether it is there. That it is not must have been said.
async fn old_side(
    m: &Managed,
    r: &Request<'_>,
    warnings: &mut Vec<String>,
    pending: &mut Vec<String>,
) -> Result<(Side, Presence, Lineage)> {
    let old = &m.source;
    let presence = match m.cloud.describe(old).await {
        Ok(d) if usable(&d) => {
            if r.lost {
                warnings.push(format!("`{old}` is there and available: it is treated as not lost"));
            }
            remark_pending(&d, pending);
            let lineage = Lineage::seen(&d);
            return Ok((side(d), Presence::There, lineage));
        }
        Ok(d) if !r.lost => {
            return Err(EngineError::refused(
                format!("`{old}` is `{}`, or has no instance: nothing could be put back there", d.status),
                "wait until it is available; if it never will be, say so with --lost",
            ));
        }
        Ok(d) if d.status.is_deleting() => Presence::Gone,
        Ok(d) => {
            warnings.push(format!("`{old}` is `{}`: going back leads to what nobody can use", d.status));
            let lineage = Lineage::seen(&d);
            return Ok((side(d), Presence::Broken, lineage));
        }
        Err(e) if e.is_not_found() && r.lost => Presence::Gone,
        Err(e) if e.is_not_found() => {
            return Err(EngineError::not_found(
                format!("`{old}` is not there: going back would not be possible"),
                "if it is lost, say so with --lost; check `source` in the policy otherwise",
            ));
        }
        Err(e) if r.lost && silent(&e) => {
            warnings.push(format!(
                "{} does not answer: when it does again, `{old}` may run there still, cost, and be written to",
                old.region
            ));
            Presence::Unseen
        }
        Err(e) if silent(&e) => {
            return Err(EngineError::refused(
                e.to_string(),
                "try again; if its region is lost, say so with --lost",
            ));
        }
        Err(e) => return Err(e.into()),
    };
    warnings
        .push(format!("`{old}` is lost: nothing goes back by itself, and nothing is put into quarantine"));
    Ok(match observed::last(m)? {
        Some(seen) => {
            let lineage = Lineage::seen(&seen.database);
            (side(seen.database), presence, lineage)
        }
        None => (unknown(old, r.resource_id), presence, Lineage::default()),
    })
}

fn usable(d: &Database) -> bool {
    let reachable = !d.source.engine.is_cluster() || !d.members.is_empty();
    d.endpoint.is_some() && d.status.is_available() && reachable
}

/// No answer that tells anything: the region, or the way to it, is down.
fn silent(e: &ManagedError) -> bool {
    e.transient || matches!(e.kind, ErrorKind::Network)
}

fn side(d: Database) -> Side {
    let host = d.endpoint.as_ref().map(|e| e.host.clone()).unwrap_or_default();
    Side {
        source: d.source,
        resource_id: d.resource_id,
        arn: d.arn,
        reader: d.reader.unwrap_or_else(|| host.clone()),
        host,
        port: d.endpoint.map_or(0, |e| e.port),
    }
}

fn unknown(source: &Source, resource_id: Option<&str>) -> Side {
    Side {
        source: source.clone(),
        resource_id: resource_id.unwrap_or_default().to_string(),
        arn: String::new(),
        host: String::new(),
        reader: String::new(),
        port: 0,
    }
}

/// What a step would change and what is there now; `None`: it is left out, which the warnings say.
async fn look(
    m: &Managed,
    pair: &Pair,
    step: &Move,
    renaming: Option<&Result<(What, Before), String>>,
    warnings: &mut Vec<String>,
) -> Result<Option<(What, Before)>> {
    // A proxy leads to databases of its own region only, and an application that moved reads the secret there.
    let region = &pair.new.source.region;
    Ok(Some(match step {
        Move::Proxy { name, within, .. } => {
            let targets = proxy::targets(m, region, name).await?;
            if !pair.stays() {
                warnings.push(format!(
                    "proxy `{name}` is the one in {region}; clients of one in {} stay there",
                    pair.old.source.region
                ));
            } else if !targets.contains(&pair.old.source) {
                warnings.push(format!("proxy `{name}` does not lead to `{}` now", pair.old.source));
            }
            (
                What::Proxy { region: region.clone(), name: name.clone(), within: within.0 },
                Before::Proxy { targets },
            )
        }
        Move::Route53 { zone, record, ttl } => {
            let was = m.cloud.record(zone, record, "CNAME").await?;
            dns::remarks(record, was.as_ref(), pair, warnings);
            let value = pair.leads_to().host.clone();
            let (zone, record) = (zone.clone(), record.clone());
            (What::Dns { zone, record, ttl: *ttl, value }, Before::Dns { record: was })
        }
        Move::Secret { id, keys, region: own } => {
            let region = own.as_ref().unwrap_or(region).clone();
            let now = m.cloud.secret(&region, id).await?;
            secret::object(id, &now.value)?;
            let keys = keys.iter().map(|(k, v)| (k.clone(), fill(v, pair.leads_to()))).collect();
            (What::Secret { region, id: id.clone(), keys }, Before::Secret { version: now.version })
        }
        Move::Kubernetes(k) => {
            let env = k.env.iter().map(|(name, v)| (name.clone(), fill(v, pair.leads_to()))).collect();
            let change = kubernetes::Change::new(k, env);
            let before = kubernetes::look(m, &change).await?;
            warnings.push(format!(
                "{change} is changed in the cluster only: change what it is deployed from too, or the next \
                 deployment leads back"
            ));
            if let Before::Kubernetes { values, .. } = &before
                && !change.differs_from(values)
            {
                warnings.push(format!(
                    "{change} has those values already: no pod is restarted, and connections that are open stay where \
                     they are until they break"
                ));
            }
            (What::Kubernetes(change), before)
        }
        Move::Rename => match renaming {
            Some(Ok(both)) => both.clone(),
            Some(Err(why)) => {
                warnings.push(format!("the rename is left out: {why}"));
                return Ok(None);
            }
            None => return Ok(None),
        },
        Move::Command { run, undo, within } => {
            let (run, undo) = (run.clone(), undo.clone());
            (What::Command { run, undo, within: within.0 }, Before::Command)
        }
    }))
}

/// The rename, or why there can be none.
fn rename(pair: &Pair) -> Result<Result<(What, Before), String>> {
    if !pair.stays() {
        return Ok(Err(format!("a name is of its region; the new one is in {}", pair.new.source.region)));
    }
    if matches!(pair.presence, Presence::Broken | Presence::Unseen) {
        return Ok(Err(format!("`{}` has its name, and cannot be renamed as it is", pair.old.source.id)));
    }
    let stamp = Timestamp::now().strftime("%Y%m%d%H%M%S").to_string();
    // 63 characters in all (RDS API reference, DBInstanceIdentifier).
    let stem: String = pair.old.source.id.chars().take(40).collect();
    let aside = pair.old.source.named(&format!("{}-old-{stamp}", stem.trim_end_matches('-')));
    let aside = aside.map_err(|e| EngineError::failed(e.to_string(), e.hint()))?;
    let old_resource = pair.presence.exists().then(|| pair.old.resource_id.clone());
    let new_resource = pair.new.resource_id.clone();
    Ok(Ok((What::Rename, Before::Rename { old_resource, new_resource, aside })))
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
    let lasting = &pair.leads_to().source.id;
    match (what, before) {
        (What::Proxy { name, region, within }, Before::Proxy { targets }) => {
            let back: Vec<&str> = proxy::again(targets, pair).map(|t| t.id.as_str()).collect();
            let back = match back.is_empty() {
                true => "leads nowhere: what it led to is lost, or there was nothing".to_string(),
                false => format!("leads to `{}` again", back.join(", ")),
            };
            let within = Duration(*within);
            (
                format!("proxy `{name}` in {region} leads to `{new}`, and reaches it within {within}"),
                format!("proxy `{name}` {back}"),
            )
        }
        (What::Dns { record, value, ttl, .. }, Before::Dns { record: was }) => (
            format!("`{record}` leads to `{value}` (ttl {ttl} s)"),
            match was {
                Some(r) => format!("`{record}` leads to `{}` again", r.values.join(", ")),
                None => format!("`{record}` is removed again"),
            },
        ),
        (What::Secret { id, keys, region }, _) => {
            let keys: Vec<&str> = keys.keys().map(String::as_str).collect();
            let keys = keys.join(", ");
            (
                format!("secret `{id}` in {region} gets {keys} of `{lasting}`"),
                format!("secret `{id}` gets {keys} of its version before"),
            )
        }
        (What::Kubernetes(change), Before::Kubernetes { replicas, values }) => {
            change.describe(*replicas, values)
        }
        (_, Before::Rename { aside, old_resource: Some(_), .. }) => (
            format!("`{old}` becomes `{}`, `{new}` becomes `{old}`", aside.id),
            format!("`{old}` becomes `{new}` again, `{}` becomes `{old}`", aside.id),
        ),
        (_, Before::Rename { old_resource: None, .. }) => {
            (format!("`{new}` becomes `{old}`"), format!("`{old}` becomes `{new}` again"))
        }
        (What::Command { run, undo, .. }, _) => {
            (format!("run `{}`", run.join(" ")), format!("run `{}`", undo.join(" ")))
        }
        _ => (String::new(), String::new()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair(to: &str, presence: Presence) -> Pair {
        let side = |s: &str| Side { host: "h".into(), ..unknown(&s.parse().unwrap(), Some("db-1")) };
        Pair {
            old: side("rds://us-east-1/shop"),
            new: side(to),
            presence,
            replaced: Vec::new(),
            lasting: None,
            aside: None,
        }
    }

    #[test]
    fn what_is_renamed_is_known_by_the_endpoint_that_stays() {
        let mut p = pair("rds://us-east-1/shop-new", Presence::Gone);
        p.old.host = String::new();
        p.new.host = "shop-new.abc.us-east-1.rds.amazonaws.com".into();
        p.new.reader = "shop-new.ro-abc.us-east-1.rds.amazonaws.com".into();
        let end = called(&p.new, &p.old.source, &p.old);
        assert_eq!((end.source.id.as_str(), end.resource_id.as_str()), ("shop", "db-1"));
        assert_eq!(end.host, "shop.abc.us-east-1.rds.amazonaws.com");
        assert_eq!(end.reader, "shop.ro-abc.us-east-1.rds.amazonaws.com");
        // An endpoint that does not go by the name.
        p.new.host = "shop-newer.abc".into();
        assert_eq!(called(&p.new, &p.old.source, &p.old).host, "shop-newer.abc");
        p.old.host = "127.0.0.1".into();
        assert_eq!(called(&p.new, &p.old.source, &p.old).host, "127.0.0.1");
    }

    #[test]
    fn names_change_hands_only_where_they_can() {
        let here = "rds://us-east-1/shop-new";
        let both = rename(&pair(here, Presence::There)).unwrap().unwrap().1;
        assert!(matches!(both, Before::Rename { old_resource: Some(_), .. }), "{both:?}");
        let one = rename(&pair(here, Presence::Gone)).unwrap().unwrap().1;
        assert!(matches!(one, Before::Rename { old_resource: None, .. }), "{one:?}");
        assert!(rename(&pair(here, Presence::Broken)).unwrap().is_err());
        assert!(rename(&pair("rds://us-west-2/shop-new", Presence::Gone)).unwrap().is_err());
    }

    #[test]
    fn going_back_promises_nothing_that_is_lost() {
        let old: Source = "rds://us-east-1/shop".parse().unwrap();
        let what = What::Proxy { region: old.region.clone(), name: "p".into(), within: 600 };
        let before = Before::Proxy { targets: vec![old] };
        let here = "rds://us-east-1/shop-new";
        assert!(describe(&what, &before, &pair(here, Presence::There)).1.contains("to `shop` again"));
        assert!(describe(&what, &before, &pair(here, Presence::Gone)).1.contains("nowhere"));
    }
}
