//! Commands for databases that a provider runs. Which command it is, the command line says; which plane, the
//! database's source.

pub mod apply;
mod ask;
pub mod backup;
mod backup_job;
pub mod copy;
pub mod cutover;
pub mod doctor;
pub mod expire;
pub mod list;
pub mod reap;
pub mod recover;
mod recover_shown;
pub mod restore;
pub mod retire;
pub mod verify;

use super::context;
use crate::args::Cli;
use crate::progress::{Progress, Style};
use crate::{failure, policy};
use holdfast_core::managed::{Cloud, DocumentServers, Region, SourceError};
use holdfast_core::monitor::{Event, Monitor};
use holdfast_core::policy::{ManagedDatabase, ManagedPlan, Policy, Source};
use holdfast_core::time::Duration;
use holdfast_engine::managed::abroad::{Gate, Gates, foreign};
use holdfast_engine::managed::doctor::open_operations;
pub use holdfast_engine::managed::holdings::Listing;
use holdfast_engine::managed::identity;
use holdfast_engine::managed::journal::Journal;
use holdfast_engine::managed::tiers;
use holdfast_engine::managed::wait::Pace;
use holdfast_engine::managed::{Managed, source_of};
use holdfast_engine::{Context, EngineError};
use std::path::Path;
use std::sync::Arc;

/// A managed database of the policy, and how to work on it.
pub struct Session {
    pub ctx: Context,
    pub managed: Managed,
    pub database: ManagedDatabase,
    pub plan: ManagedPlan,
    pub progress: Arc<Progress>,
}

/// Whether the database is one that a provider runs. Without a name: the policy's only one.
pub fn is_managed(policy: &Policy, name: Option<&str>) -> bool {
    let all: Vec<_> = policy.databases.values().collect();
    let found = match (name, all.as_slice()) {
        (Some(n), _) => all.iter().find(|d| d.name.as_str() == n).copied(),
        (None, [only]) => Some(*only),
        _ => None,
    };
    found.is_some_and(|d| !matches!(d.source, Source::Postgres { .. }))
}

/// Whoever stops a command must know what it leaves: the provider goes on, and charges for it.
pub fn left_open(cli: &Cli, database: Option<&str>) {
    let Ok(p) = policy::locate(cli.config.as_deref()).and_then(|path| policy::read(&path)) else { return };
    let names = p.databases.keys().map(|k| k.as_str()).filter(|n| is_managed(&p, Some(n)));
    // What was copied may have been named, and not its database.
    let only = database.filter(|d| p.databases.keys().any(|k| k.as_str() == *d));
    let names: Vec<&str> = names.filter(|n| only.is_none_or(|d| d == *n)).collect();
    if names.is_empty() {
        return;
    }
    let Ok(journal) = Journal::open(&p.state_dir()) else { return };
    let progress = Progress::new(Style::choose(cli.json, cli.no_progress), cli.verbose, cli.no_progress);
    // What cannot be read is told of by the next command.
    let open = names.into_iter().flat_map(|n| open_operations(&journal, &p, n).unwrap_or_default());
    open.for_each(|text| progress.event(Event::Warning(text)));
}

/// From where calls are made that have no region of their own, such as those for a role (STS).
#[derive(Debug, Clone)]
pub enum Base {
    /// The database's region.
    Home,
    /// It is lost, and nothing is asked of it: any other that the policy names.
    Elsewhere,
    /// The one where something is to be made.
    There(Region),
}

impl Base {
    /// `region` as it was typed; what is none is told of by who uses it.
    fn region(typed: Option<&str>) -> Self {
        typed.and_then(|r| r.parse().ok()).map_or(Base::Home, Base::There)
    }
}

pub async fn open(cli: &Cli, name: Option<&str>, wait_for: Option<&str>) -> anyhow::Result<Session> {
    open_in(cli, name, wait_for, Base::Home).await
}

/// The same, from somewhere else.
///
/// # Errors
/// These are credentials of another account than the policy's, where names may be the same.
pub async fn open_in(
    cli: &Cli,
    name: Option<&str>,
    wait_for: Option<&str>,
    base: Base,
) -> anyhow::Result<Session> {
    let s = open_any(cli, name, wait_for, base).await?;
    identity::account(&s.managed, &s.database).await?;
    Ok(s)
}

/// Whatever account it is: for who says so himself.
pub async fn open_any(
    cli: &Cli,
    name: Option<&str>,
    wait_for: Option<&str>,
    base: Base,
) -> anyhow::Result<Session> {
    let (ctx, progress) = context(cli, name)?;
    let source = source_of(&ctx)?;
    if let Some(vault) = &cli.vault {
        return Err(failure::usage(
            format!(
                "--vault `{vault}` does not decide where a provider keeps the backups of `{}`",
                source.id
            ),
            "tiers of the policy name their vaults: --tier NAME; `holdfast copy --to VAULT` brings copies elsewhere",
        ));
    }
    let (database, plan) = parts(&ctx)?;
    let deadline = match wait_for {
        Some(text) => span(text, "--wait-for")?,
        None => Duration(6 * 3600),
    };
    let pace = Pace::from_env(std::time::Duration::from_secs(deadline.0));
    let there = !matches!(base, Base::Home);
    let home = match base {
        Base::Home => source.region.clone(),
        Base::There(region) => region,
        Base::Elsewhere => {
            let others = tiers::regions(&ctx.policy, &plan, &Gates::default())?;
            let places = database.places.values().filter_map(|p| p.region.parse().ok());
            let other = others.into_iter().chain(places).find(|r| *r != source.region);
            other.unwrap_or_else(|| source.region.clone())
        }
    };
    let cloud = connect_to(&database, &home, there, ctx.state.dir(), None).await?;
    let managed = Managed::new(&ctx, cloud, pace)?.with_documents(documents());
    Ok(Session { ctx, managed, database, plan, progress })
}

impl Session {
    /// Who gets into the accounts of its vaults.
    pub async fn gates(&self) -> anyhow::Result<Gates> {
        let (policy, m) = (&self.ctx.policy, &self.managed);
        gates(policy, &self.database, &self.plan, &*m.cloud, self.ctx.state.dir()).await
    }
}

/// Who gets into the accounts of the vaults that a plan goes to, as the policy says. Nobody is asked there yet.
pub async fn gates(
    policy: &Policy,
    database: &ManagedDatabase,
    plan: &ManagedPlan,
    cloud: &dyn Cloud,
    state_dir: &Path,
) -> anyhow::Result<Gates> {
    let vaults = &policy.managed_vaults;
    let own = match (&database.account, foreign(vaults, plan, None).next()) {
        (Some(account), _) => Some(account.clone()),
        (None, None) => return Ok(Gates::default()),
        // Without an answer, a vault that names its account is taken for another one's.
        (None, Some(_)) => cloud.identity().await.ok().map(|me| me.account),
    };
    let mut all = Gates::new(own.clone());
    for v in foreign(vaults, plan, own.as_deref()) {
        let region: Region =
            v.place.region().parse().map_err(|e: SourceError| failure::usage(e.to_string(), e.hint()))?;
        let cloud = match (&v.profile, &v.role) {
            (None, None) => Err("the policy names no way to get there".to_string()),
            // A role is assumed by whoever works on the database, unless the vault has a profile too.
            (profile, role) => {
                let profile = profile.clone().or_else(|| database.profile.clone());
                let there = ManagedDatabase { profile, role: role.clone(), ..database.clone() };
                connect_to(&there, &region, true, state_dir, v.account.clone())
                    .await
                    .map_err(|e| failure::text(&e))
            }
        };
        let account = v.account.clone().unwrap_or_default();
        all.add(Gate { vault: v.name.clone(), account, region, cloud });
    }
    Ok(all)
}

/// A span of an option.
fn span(text: &str, option: &str) -> anyhow::Result<Duration> {
    text.parse::<Duration>().map_err(|_| {
        crate::failure::usage(
            format!("{option}: `{text}` is no span"),
            format!("write for example {option} 6h"),
        )
    })
}

fn parts(ctx: &Context) -> anyhow::Result<(ManagedDatabase, ManagedPlan)> {
    match (ctx.db.managed.clone(), ctx.policy.managed_plan_of(&ctx.db).cloned()) {
        (Some(d), Some(p)) => Ok((d, p)),
        _ => Err(EngineError::usage(
            format!("`{}` is no managed database", ctx.db.name),
            "its source is rds://, aurora:// or docdb://",
        )
        .into()),
    }
}

/// The driver for copies of DocumentDB.
fn documents() -> Option<Arc<dyn DocumentServers>> {
    #[cfg(feature = "aws")]
    return Some(Arc::new(holdfast_docdb::DocumentClients));
    #[cfg(not(feature = "aws"))]
    return None;
}

/// The provider, as the policy and the environment say.
pub async fn connect(
    database: &ManagedDatabase,
    home: &Region,
    state_dir: &Path,
) -> anyhow::Result<Arc<dyn Cloud>> {
    connect_to(database, home, false, state_dir, None).await
}

/// The same; `there`: calls without a region of their own go to `home` whatever the environment says; `account`: that of a
/// vault, for the log of changes.
#[cfg(feature = "aws")]
async fn connect_to(
    database: &ManagedDatabase,
    home: &Region,
    there: bool,
    state_dir: &Path,
    account: Option<String>,
) -> anyhow::Result<Arc<dyn Cloud>> {
    use holdfast_aws::{AwsCloud, Connection};
    use holdfast_engine::managed::changes::ChangeFile;
    let log = Arc::new(ChangeFile::new(state_dir).of_account(account));
    let (profile, role) = (database.profile.clone(), database.role.clone());
    let connection = Connection { profile, role, there, ..Connection::default() };
    let cloud = AwsCloud::connect(&connection, home, log).await.map_err(EngineError::from)?;
    Ok(Arc::new(cloud))
}

#[cfg(not(feature = "aws"))]
async fn connect_to(
    _: &ManagedDatabase,
    _: &Region,
    _: bool,
    _: &Path,
    _: Option<String>,
) -> anyhow::Result<Arc<dyn Cloud>> {
    Err(crate::failure::usage(
        "this holdfast was built without Amazon's managed databases",
        "build it with its default features",
    ))
}
