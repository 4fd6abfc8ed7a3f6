//! Commands for databases that a provider runs. Which command it is, the command line says; which plane, the
//! database's source.

pub mod backup;
pub mod copy;
pub mod cutover;
pub mod expire;
pub mod list;
pub mod reap;
pub mod recover;
pub mod restore;
pub mod retire;

use super::context;
use crate::args::Cli;
use crate::progress::Progress;
use holdfast_core::managed::{Cloud, Region};
use holdfast_core::policy::{ManagedDatabase, ManagedPlan, Policy, Source};
use holdfast_core::time::Duration;
pub use holdfast_engine::managed::holdings::Listing;
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

pub async fn open(cli: &Cli, name: Option<&str>, wait_for: Option<&str>) -> anyhow::Result<Session> {
    let (ctx, progress) = context(cli, name)?;
    let source = source_of(&ctx)?;
    let (database, plan) = parts(&ctx)?;
    let deadline = match wait_for {
        Some(text) => span(text, "--wait-for")?,
        None => Duration(6 * 3600),
    };
    let pace = Pace::from_env(std::time::Duration::from_secs(deadline.0));
    let cloud = connect(&database, &source.region, ctx.state.dir()).await?;
    let managed = Managed::new(&ctx, cloud, pace)?;
    Ok(Session { ctx, managed, database, plan, progress })
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

/// The provider, as the policy and the environment say.
#[cfg(feature = "aws")]
pub async fn connect(
    database: &ManagedDatabase,
    home: &Region,
    state_dir: &Path,
) -> anyhow::Result<Arc<dyn Cloud>> {
    use holdfast_aws::{AwsCloud, Connection};
    use holdfast_engine::managed::changes::ChangeFile;
    let log = Arc::new(ChangeFile::open(state_dir)?);
    let connection = Connection { profile: database.profile.clone(), ..Connection::default() };
    let cloud = AwsCloud::connect(&connection, home, log).await.map_err(EngineError::from)?;
    Ok(Arc::new(cloud))
}

#[cfg(not(feature = "aws"))]
pub async fn connect(_: &ManagedDatabase, _: &Region, _: &Path) -> anyhow::Result<Arc<dyn Cloud>> {
    Err(crate::failure::usage(
        "this holdfast was built without Amazon's managed databases",
        "build it with its default features",
    ))
}
