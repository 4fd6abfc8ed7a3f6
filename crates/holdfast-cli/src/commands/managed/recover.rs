//! `holdfast recover`: what happened and when, the ways out, the plan of one of them, and taking it.

use super::ask::{self, Dialog};
use super::recover_shown::{Next, Seen, merge};
use super::{Base, Session, open_in, restore, tiers};
use crate::args::{Cli, RecoverArgs};
use crate::commands::Done;
use crate::{failure, output};
use holdfast_core::ExitCode;
use holdfast_core::managed::{Region, SourceError};
use holdfast_core::time;
use holdfast_engine::EngineError;
use holdfast_engine::managed::Managed;
use holdfast_engine::managed::abroad::Gates;
use holdfast_engine::managed::beside::What;
use holdfast_engine::managed::holdings::{Listing, Wanted, add_evidence, list_without};
use holdfast_engine::managed::identity::is_resource_id;
use holdfast_engine::managed::lineage::Lineage;
use holdfast_engine::managed::measured;
use holdfast_engine::managed::observed;
use holdfast_engine::managed::recover::{From, Incident, Scenario, Way, loses_less, options, with_times};
use holdfast_engine::managed::recovery::{self, Begun, Taken};
use holdfast_engine::managed::restore::plan::plan;
use holdfast_engine::managed::restore::price::hourly;
use holdfast_engine::managed::restore::{At, Request};
use jiff::Timestamp;
use serde_json::json;
use std::collections::BTreeSet;
use std::io::{BufRead, Write};

pub async fn recover(cli: &Cli, a: &RecoverArgs) -> Done {
    let mut person = ask::terminal(cli.json);
    let now = Timestamp::now();
    let scenario = scenario(a, person.as_mut())?;
    let at = moment(a, scenario, now, person.as_mut())?;
    let lost = scenario == Scenario::RegionLoss;
    let base = if lost { Base::Elsewhere } else { Base::Home };
    let s = open_in(cli, a.database.as_deref(), a.wait_for.as_deref(), base).await?;
    let (to, way, region) = (a.to_id.clone(), a.way.clone(), region(a)?);
    let incident = recovery::Incident { scenario, at, to, way, region: region.clone() };
    match recovery::unfinished(&s.managed, &incident) {
        Ok(Some(begun)) => return go_on(cli, a, &s, &begun).await,
        Ok(None) => {}
        // Looking is always allowed.
        Err(e) if !a.yes => s.managed.monitor.warning(e.to_string()),
        Err(e) => return Err(e.into()),
    }
    let gates = s.gates().await?;
    let mut listing = survey(&s, &gates, lost).await?;
    if let Some(e) = listing.blind.take() {
        return Err(EngineError::from(e).into());
    }
    let ways = ways(region.as_ref(), &s, &listing, Incident { scenario, at: at.unwrap_or(now), now })?;
    s.progress.finish();
    let seen = Seen { scenario, at: at.unwrap_or(now), listing: &listing, ways: &ways };
    if !cli.json {
        seen.print(s.ctx.db.name.as_str());
    }
    if let (true, None, Some(gap)) = (a.yes, &a.way, listing.gaps().next()) {
        return Err(failure::refused(
            format!("not everything could be seen, and there may be a better way: {gap}"),
            format!(
                "run it again, or choose one of what was seen: --way {}",
                ways.first().map(Way::name).unwrap_or_default()
            ),
        ));
    }
    if let (true, None, Some(n)) = (a.yes, &a.way, loses_less(&ways)) {
        let (first, less) = (&ways[0], &ways[n]);
        return Err(failure::refused(
            format!(
                "the first way shows {}, but `{}` shows {}",
                time::short(first.shows),
                less.name(),
                time::short(less.shows)
            ),
            format!("say which: --way {} (the first), or --way {}", first.name(), less.name()),
        ));
    }
    let n = chosen(a, &ways, person.as_mut())?;
    let Some(way) = ways.get(n) else {
        return Err(failure::usage("there is no such way", format!("--way takes 1 to {}", ways.len())));
    };
    let there = through(&s, &gates, way.account.as_deref(), &way.region).await?;
    let request = request(a, &s, &there, way, scenario, at.unwrap_or(now)).await?;
    let planned = plan(&there, &request).await;
    let mut next = Next::of(&s, a, &incident, Some(way), &request, way.region.clone());
    next.warnings.extend(patience(way, &incident));
    next.warnings.extend(still_there(&listing, scenario));
    let p = match planned {
        Ok(p) => p,
        // The ways are worth more than the plan that cannot be made.
        Err(e) => {
            let e = anyhow::Error::from(e);
            if cli.json {
                let mut all = seen.document();
                merge(&mut all, json!({ "way": n + 1, "plan": null, "warnings": next.warnings }));
                merge(&mut all, failure::as_json(&e));
                output::json(&all);
                return Ok(failure::judge(&e).0 as u8);
            }
            next.warnings.iter().for_each(|w| s.managed.monitor.warning(w.clone()));
            return Err(e.context(format!("way {} cannot be taken", n + 1)));
        }
    };
    let mut go = a.yes;
    if !cli.json {
        next.print_plan(&s, &p, n);
        if let (Some(d), false, false) = (person.as_mut(), a.plan, a.yes) {
            go = d.agrees("restore it now? it costs money until it is deleted")?;
        }
    }
    if !go {
        match cli.json {
            true => {
                let mut all = seen.document();
                merge(&mut all, next.document(&s, &p, Some(n)));
                output::json(&all);
            }
            false => {
                output::line("nothing was made; to do it:");
                output::line(&format!("  {}", next.command));
            }
        }
        return Ok(if listing.is_whole() { 0 } else { ExitCode::Partial as u8 });
    }
    let taken = Taken { number: n + 1, name: way.name() };
    let begun = recovery::begin(&there, &incident, taken, &request)?;
    let result = recovery::run(&there, &begun, &p).await;
    s.progress.finish();
    let report = result?;
    match cli.json {
        true => {
            let mut all = seen.document();
            merge(&mut all, next.document(&s, &p, Some(n)));
            merge(&mut all, json!({ "restore": report }));
            output::json(&all);
        }
        false => {
            restore::text(&report);
            next.print_after();
        }
    }
    Ok(0)
}

/// The recovery that an earlier run began: its own request again, whatever ways there are by now.
async fn go_on(cli: &Cli, a: &RecoverArgs, s: &Session, begun: &Begun) -> Done {
    let to = Some(begun.request.to.clone());
    let incident = recovery::Incident { scenario: begun.scenario, at: begun.at, to, way: None, region: None };
    let region = begun.request.region.clone().unwrap_or_else(|| s.managed.source.region.clone());
    let next = Next::of(s, a, &incident, None, &begun.request, region);
    let head = json!({ "scenario": begun.scenario, "at": begun.at, "resumes": begun.id });
    let report = match if a.yes { recovery::ended(&s.managed, begun)? } else { None } {
        Some(report) => report,
        None => {
            let there = match &begun.request.account {
                None => s.managed.clone(),
                account => through(s, &s.gates().await?, account.as_deref(), &next.region).await?,
            };
            let p = match plan(&there, &begun.request).await {
                Ok(p) => p,
                Err(e) => {
                    if a.yes && !e.goes_on() {
                        recovery::give_up(&s.managed, begun, &e)?;
                    }
                    return Err(e.into());
                }
            };
            if !a.yes {
                s.progress.finish();
                match cli.json {
                    true => {
                        let mut all = head;
                        merge(&mut all, next.document(s, &p, None));
                        output::json(&all);
                    }
                    false => {
                        output::line(&format!("a recovery was begun {}", time::short(begun.begun)));
                        output::line(p.to_string().trim_end());
                        output::line("to go on with it:");
                        output::line(&format!("  {}", next.command));
                    }
                }
                return Ok(0);
            }
            s.progress.finish();
            if !cli.json {
                output::line(&format!("going on with the recovery begun {}", time::short(begun.begun)));
                output::line(p.to_string().trim_end());
                restore::price_text(hourly(&p, &s.ctx.policy.prices.managed));
            }
            let result = recovery::run(&there, begun, &p).await;
            s.progress.finish();
            result?
        }
    };
    s.progress.finish();
    match cli.json {
        true => {
            let mut all = head;
            merge(&mut all, json!({ "restore": report, "next": next.cutover, "warnings": next.warnings }));
            output::json(&all);
        }
        false => {
            restore::text(&report);
            next.print_after();
        }
    }
    Ok(0)
}

fn scenario<R: BufRead, W: Write>(
    a: &RecoverArgs,
    person: Option<&mut Dialog<R, W>>,
) -> anyhow::Result<Scenario> {
    match (&a.scenario, person) {
        (Some(text), _) => text.parse().map_err(|e: String| failure::usage(e, "see holdfast recover --help")),
        (None, Some(d)) => {
            let words = Scenario::ALL.map(Scenario::words);
            let n = d.choose("what happened", &words, None)?;
            Scenario::ALL.get(n).copied().ok_or_else(|| failure::usage("what happened?", "give --scenario"))
        }
        (None, None) => {
            let all: Vec<&str> = Scenario::ALL.iter().map(|s| s.as_str()).collect();
            Err(failure::usage("what happened?", format!("say it with --scenario: {}", all.join(", "))))
        }
    }
}

/// When it began. Of a loss it may be left out.
fn moment<R: BufRead, W: Write>(
    a: &RecoverArgs,
    scenario: Scenario,
    now: Timestamp,
    person: Option<&mut Dialog<R, W>>,
) -> anyhow::Result<Option<Timestamp>> {
    match (&a.at, scenario.needs_time(), person) {
        (Some(text), ..) => read_moment(text, now).map(Some),
        (None, true, Some(d)) => {
            let question = "when did it begin, with its zone, such as 2026-11-21T09:35:00+01:00";
            d.ask(question, |text| read_moment(text, now).map_err(|e| failure::text(&e))).map(Some)
        }
        (None, true, None) => Err(failure::usage(
            format!("when did the {scenario} begin?"),
            "write it with --at and a zone: nothing later than that may be restored",
        )),
        (None, false, _) => Ok(None),
    }
}

/// A time that counts from now would be another one when the same command goes on.
fn read_moment(text: &str, now: Timestamp) -> anyhow::Result<Timestamp> {
    match At::parse(text)? {
        At::Time(t) if t > now => Err(failure::usage(
            format!("{} lies in the future", time::short(t)),
            "give the time of the incident, with its zone",
        )),
        At::Time(t) => Ok(t),
        At::Latest => Err(failure::usage(
            "`latest` is no time of an incident",
            "give a time with its zone, such as 2026-11-21T09:35:00+01:00",
        )),
    }
}

/// What there is of this database, without its own region if that is lost.
async fn survey(s: &Session, gates: &Gates, lost: bool) -> anyhow::Result<Listing> {
    let m = &s.managed;
    let regions = tiers::regions(&s.ctx.policy, &s.plan, gates)?;
    let seen = observed::last(m).unwrap_or_else(|e| {
        m.monitor.warning(e.to_string());
        None
    });
    let id = s.database.resource_id.as_deref();
    if let Some(id) = id.filter(|id| !is_resource_id(id)) {
        m.monitor.warning(format!(
            "the policy's resource-id `{id}` is none of Amazon's: what this host saw last tells databases of one name apart"
        ));
    }
    let id = id.filter(|id| is_resource_id(id));
    let remembered = seen.as_ref().map(|o| Lineage::seen(&o.database)).unwrap_or_default();
    let gates = gates.clone();
    let (name, source, resource_id) = (m.name.clone(), m.source.clone(), id.map(str::to_string));
    let wanted = Wanted { name, source, regions, remembered, resource_id, gates };
    let mut listing = list_without(&*m.cloud, &[wanted], lost.then_some(&m.source.region)).await;
    add_evidence(&mut listing, &m.journal)?;
    for h in &mut listing.databases {
        h.set_apart(id, seen.as_ref().map(|o| &o.database));
    }
    Ok(listing)
}

fn region(a: &RecoverArgs) -> anyhow::Result<Option<Region>> {
    let read = |text: &String| {
        let bad = |e: SourceError| failure::usage(e.to_string(), e.hint());
        text.parse().map_err(bad)
    };
    a.region.as_ref().map(read).transpose()
}

fn ways(
    only: Option<&Region>,
    s: &Session,
    listing: &Listing,
    incident: Incident,
) -> anyhow::Result<Vec<Way>> {
    let name = s.managed.name.as_str();
    let mut ways = listing.databases.first().map(|h| options(h, incident)).unwrap_or_default();
    ways.retain(|w| only.is_none_or(|r| w.region == *r));
    if ways.is_empty() {
        let regions = listing.failures.iter().map(|(r, _)| r.to_string());
        let vaults = listing.unseen.iter().map(|u| format!("vault {} in account {}", u.vault, u.account));
        let unseen: BTreeSet<String> = regions.chain(vaults).collect();
        let place = only.map(|r| format!(" in {r}")).unwrap_or_default();
        let what = format!(
            "nothing of `{name}` that can be seen{place} shows a moment before {}",
            time::short(incident.at)
        );
        if !unseen.is_empty() {
            // Missing is not empty.
            let regions = unseen.into_iter().collect::<Vec<_>>().join(", ");
            return Err(failure::UsageError {
                what: format!(
                    "{what}, but {regions} could not be seen whole: {}",
                    listing.gaps().next().unwrap_or_default()
                ),
                hint: "run it again when it can be seen; `holdfast doctor` says what may not be read".into(),
                code: ExitCode::Partial,
            }
            .into());
        }
        if incident.scenario == Scenario::RegionLoss {
            let home = &s.managed.source.region;
            return Err(EngineError::not_found(
                format!(
                    "nothing of `{name}` that shows a moment before {} was seen outside of {home}",
                    time::short(incident.at)
                ),
                format!(
                    "what is in {home} itself is not looked at when it is lost; for the next time, write copies to \
                     another region into the policy, or `pitr.replicate`"
                ),
            )
            .into());
        }
        let hint = "look at `holdfast list`; a vault that the policy does not name may have more";
        return Err(EngineError::not_found(what, hint).into());
    }
    with_times(&mut ways, &measured::all(&s.managed.journal, name)?);
    Ok(ways)
}

/// The database as it is worked on in the account where its way leads.
async fn through(
    s: &Session,
    gates: &Gates,
    account: Option<&str>,
    region: &Region,
) -> anyhow::Result<Managed> {
    let Some(account) = account else { return Ok(s.managed.clone()) };
    let gate = gates.into_account(account, Some(region)).ok_or_else(|| {
        failure::refused(
            format!("no vault of the policy is in account {account}"),
            "put it back into the policy: its `profile` or `role` is the way there",
        )
    })?;
    Ok(s.managed.through(gate.enter().await?))
}

/// Counted from 0.
fn chosen<R: BufRead, W: Write>(
    a: &RecoverArgs,
    ways: &[Way],
    person: Option<&mut Dialog<R, W>>,
) -> anyhow::Result<usize> {
    match (&a.way, person) {
        (Some(text), _) => {
            let number = text.parse::<usize>().ok().filter(|n| (1..=ways.len()).contains(n)).map(|n| n - 1);
            number.or_else(|| ways.iter().position(|w| w.name() == *text)).ok_or_else(|| {
                failure::usage(
                    format!("there is no way `{text}`"),
                    format!("--way takes 1 to {}, or what is restored", ways.len()),
                )
            })
        }
        (None, Some(d)) if !a.yes && !a.plan && ways.len() > 1 => {
            let n = d.ask("which way [1]", |text| match text {
                "" => Ok(1),
                _ => match text.parse() {
                    Ok(n) if (1..=ways.len()).contains(&n) => Ok(n),
                    _ => Err(format!("write a number from 1 to {}", ways.len())),
                },
            })?;
            Ok(n - 1)
        }
        _ => Ok(0),
    }
}

/// Who says that all is lost, and it is not, should know before it costs money.
fn still_there(listing: &Listing, scenario: Scenario) -> Option<String> {
    let all = || listing.databases.first().into_iter().flat_map(|h| &h.beside);
    if let Some(b) = all().find(|b| b.what == What::Renamed) {
        return Some(format!(
            "the database with this resource-id is there and called `{}` now: write that into `source`, and its own \
             window is a way, too",
            b.source.id
        ));
    }
    let found = listing.databases.first().filter(|_| scenario == Scenario::CompleteLoss)?;
    let status = found.status.as_deref().filter(|s| *s == "available")?;
    Some(format!(
        "`{}` is there and `{status}`: it is not lost; to go back to a moment before a fault, take --scenario corruption",
        found.source
    ))
}

/// The end of a window moves on: who can wait some minutes loses less.
fn patience(way: &Way, incident: &recovery::Incident) -> Option<String> {
    let at = incident.at.filter(|_| incident.scenario.needs_time())?;
    let reached = matches!(way.from, From::Source { .. }) && way.loss.as_secs() > 1;
    reached.then(|| {
        format!(
            "the provider reaches {} by now; its end moves on every 5 minutes: wait until it has passed {}, and \
             nothing before the incident is lost",
            time::short(way.shows),
            time::short(at)
        )
    })
}

async fn request(
    a: &RecoverArgs,
    s: &Session,
    m: &Managed,
    way: &Way,
    scenario: Scenario,
    at: Timestamp,
) -> anyhow::Result<Request> {
    let drawn = || recovery::name(m, &s.plan.restore_id, way, scenario, Timestamp::now());
    Ok(Request {
        to: a.to_id.clone().unwrap_or_else(drawn),
        region: Some(way.region.clone()),
        account: way.account.clone(),
        source_lost: scenario == Scenario::RegionLoss,
        what: way.from.what(),
        nearest: a.nearest,
        incident: Some(at),
        role_arn: recovery::role(m, &s.ctx.policy, way).await?,
        resource_id: s.database.resource_id.clone(),
        // The ways were judged already, before looking at what is there now: whoever takes one was told whose it is.
        of_another: true,
        set: restore::places(s, &way.region, way.account.as_deref()),
        tags: restore::tags(s),
        ..Request::default()
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser as _;

    fn args(more: &[&str]) -> RecoverArgs {
        let all = ["holdfast", "recover", "shop"].iter().chain(more);
        match Cli::parse_from(all).command {
            crate::args::Command::Recover(a) => a,
            _ => unreachable!(),
        }
    }

    fn person(text: &str) -> Dialog<&[u8], Vec<u8>> {
        Dialog::new(text.as_bytes(), Vec::new())
    }

    const NOBODY: Option<&mut Dialog<&[u8], Vec<u8>>> = None;

    #[test]
    fn what_is_missing_is_asked_for() {
        let now: Timestamp = "2026-11-22T10:00:00Z".parse().unwrap();
        let a = args(&[]);
        assert_eq!(scenario(&a, Some(&mut person("2\n"))).unwrap(), Scenario::Corruption);
        let mut d = person("10 minutes ago\n2026-11-22 09:00\n2026-11-22T09:00:00+01:00\n");
        let t = moment(&a, Scenario::Corruption, now, Some(&mut d)).unwrap();
        assert_eq!(t, Some("2026-11-22T08:00:00Z".parse().unwrap()));
        // A loss is seen when it is there.
        assert_eq!(moment(&a, Scenario::RegionLoss, now, Some(&mut person(""))).unwrap(), None);
    }

    #[test]
    fn without_a_terminal_it_is_a_usage_error() {
        let now = Timestamp::now();
        let code = |e: anyhow::Error| failure::judge(&e).0;
        assert_eq!(code(scenario(&args(&[]), NOBODY).unwrap_err()), ExitCode::Usage);
        let none = moment(&args(&[]), Scenario::Corruption, now, NOBODY);
        assert_eq!(code(none.unwrap_err()), ExitCode::Usage);
        for text in ["10 minutes ago", "now", "latest", "2026-11-22 09:00", "2999-01-01T00:00:00Z"] {
            let e = moment(&args(&["--at", text]), Scenario::Corruption, now, NOBODY).unwrap_err();
            assert_eq!(code(e), ExitCode::Usage, "{text}");
        }
    }
}
