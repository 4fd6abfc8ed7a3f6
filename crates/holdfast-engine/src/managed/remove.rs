//! Taking away what an operation made: a database with its instances, a security group.
//!
//! Nothing here has a final snapshot, so two tags are asked for, each time, right before the call: the operation's
//! own, and an end of life ([`condemn`] gives one to what failed). What lacks either, or has an instance that
//! somebody else added, stays.
//!
//! Crash: each call bears being made again; the next run finds less and goes on.

use super::wait::{Answer, Pace};
use crate::error::{EngineError, Result};
use holdfast_core::Monitor;
use holdfast_core::managed::{Cloud, Deletion, FinalSnapshot, Instance, Region, Source, Tags, tags as keys};
use holdfast_core::monitor::Event;
use jiff::Timestamp;

/// The names of what exists of a database that operation `owner` made; empty if there is none, or not by it.
pub async fn of_operation(cloud: &dyn Cloud, source: &Source, owner: &str) -> Result<Vec<String>> {
    let database = match cloud.describe(source).await {
        Err(e) if e.is_not_found() => return Ok(Vec::new()),
        other => other?,
    };
    if database.tags.operation() != Some(owner) {
        return Ok(Vec::new());
    }
    let kind = if source.engine.is_cluster() { "cluster" } else { "instance" };
    let mut names = vec![format!("{kind} `{}` ({})", source.id, database.status)];
    if source.engine.is_cluster() {
        let instances = cloud.instances(source).await?;
        names.extend(instances.iter().map(|i| format!("instance `{}` ({})", i.id, i.status)));
    }
    Ok(names)
}

/// Gives what operation `owner` made an end of life that is over, so that it may be removed.
pub async fn condemn(cloud: &dyn Cloud, source: &Source, owner: &str, now: Timestamp) -> Result<()> {
    let database = match cloud.describe(source).await {
        Err(e) if e.is_not_found() => return Ok(()),
        other => other?,
    };
    require_owner(&database.tags, owner, &source.to_string())?;
    let tags = Tags::default().with(keys::EXPIRES, &now.to_string());
    Ok(cloud.add_tags(&source.region, &database.arn, &tags).await?)
}

/// Deletes a database that operation `owner` made and that has an end of life, its instances first, and waits until
/// it is gone. False if it was gone already.
///
/// # Errors
/// It is not `owner`'s, or not temporary; what the provider says.
pub async fn database(
    cloud: &dyn Cloud,
    pace: &Pace,
    monitor: &dyn Monitor,
    source: &Source,
    owner: &str,
) -> Result<bool> {
    let found = match cloud.describe(source).await {
        Err(e) if e.is_not_found() => return Ok(false),
        other => other?,
    };
    require_owner(&found.tags, owner, &source.to_string())?;
    require_end(&found.tags, &source.to_string())?;
    require_mark(&found.tags, source)?;
    if source.engine.is_cluster() {
        let instances = cloud.instances(source).await?;
        require_own_instances(&instances, owner)?;
        for i in &instances {
            let what = format!("removal of instance `{}`", i.id);
            pace.until(&what, monitor, async || {
                cloud.delete_instance(&source.region, &i.id).await.map(Answer::Ready)
            })
            .await?;
        }
    }
    let how = Deletion { final_snapshot: FinalSnapshot::Skip, delete_automated_backups: true };
    // What is being created, and a cluster whose instances are going, is in a state that passes.
    pace.until(&format!("removal of `{source}`"), monitor, async || {
        cloud.delete(source, &how).await.map(Answer::Ready)
    })
    .await?;
    pace.until(&format!("removal of `{source}`"), monitor, async || match cloud.describe(source).await {
        Err(e) if e.is_not_found() => Ok(Answer::Ready(())),
        Err(e) => Err(e),
        Ok(d) => Ok(Answer::Going(d.status.to_string())),
    })
    .await?;
    Ok(true)
}

/// Deletes a security group once nothing is in it any more.
pub async fn group(
    cloud: &dyn Cloud,
    pace: &Pace,
    monitor: &dyn Monitor,
    region: &Region,
    id: &str,
) -> Result<()> {
    pace.until(&format!("removal of security group `{id}`"), monitor, async || {
        cloud.delete_group(region, id).await.map(Answer::Ready)
    })
    .await
}

fn require_owner(tags: &Tags, owner: &str, what: &str) -> Result<()> {
    if tags.operation() == Some(owner) {
        return Ok(());
    }
    let whose = match tags.operation() {
        Some(other) => format!("operation {other}"),
        None => "somebody else".into(),
    };
    Err(EngineError::refused(
        format!("`{what}` was made by {whose}, not by operation {owner}: it stays"),
        "if it is not needed, delete it by hand",
    ))
}

fn require_end(tags: &Tags, what: &str) -> Result<()> {
    match tags.expires() {
        Some(_) => Ok(()),
        None => Err(EngineError::refused(
            format!("`{what}` has no end of life ({}): it stays", keys::EXPIRES),
            "what is meant to stay is deleted by hand, with a final snapshot",
        )),
    }
}

/// What a person restored from a snapshot of ours may carry its tags, end of life included.
fn require_mark(tags: &Tags, source: &Source) -> Result<()> {
    if is_marked(tags, source) {
        return Ok(());
    }
    Err(EngineError::refused(
        format!(
            "`{source}` was not restored by holdfast under this name: its tags are inherited, and it stays"
        ),
        "if it is not needed, delete it by hand, with a final snapshot",
    ))
}

/// Whether Holdfast restored this very database, under the name that it has now.
pub(super) fn is_marked(tags: &Tags, source: &Source) -> bool {
    tags.get(keys::MADE) == Some(&keys::database_mark(source))
}

fn require_own_instances(instances: &[Instance], owner: &str) -> Result<()> {
    instances.iter().try_for_each(|i| require_owner(&i.tags, owner, &i.id))
}

/// Shows progress, and does not hear Ctrl-C: for taking away what costs money after somebody has pressed it.
#[derive(Debug)]
pub struct Undisturbed<'a>(pub &'a dyn Monitor);

impl Monitor for Undisturbed<'_> {
    fn event(&self, event: Event) {
        self.0.event(event);
    }

    fn advance(&self, bytes: u64) {
        self.0.advance(bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::managed::testing::observed_cluster;

    #[test]
    fn only_what_is_ours_and_temporary_goes() {
        let ours = Tags::default().with(keys::OPERATION, "op-1");
        assert!(require_owner(&ours, "op-1", "x").is_ok());
        assert!(require_owner(&ours, "op-2", "x").unwrap_err().to_string().contains("operation op-1"));
        assert!(require_owner(&Tags::default(), "op-1", "x").unwrap_err().to_string().contains("somebody"));
        assert!(require_end(&ours, "x").is_err());
        assert!(require_end(&ours.clone().with(keys::EXPIRES, "soon"), "x").is_err());
        assert!(require_end(&ours.clone().with(keys::EXPIRES, "2026-11-22T00:00:00Z"), "x").is_ok());
        let source: Source = "rds://us-east-1/copy".parse().unwrap();
        assert!(require_mark(&ours, &source).is_err(), "inherited from a snapshot");
        assert!(require_mark(&ours.clone().with(keys::MADE, "us-east-1/other"), &source).is_err());
        assert!(require_mark(&ours.with(keys::MADE, "us-east-1/copy"), &source).is_ok());
    }

    #[test]
    fn an_instance_that_somebody_added_keeps_its_cluster() {
        let mut instances = observed_cluster("aurora://us-east-1/feed").instances;
        instances.iter_mut().for_each(|i| i.tags.set(keys::OPERATION, "op-1"));
        assert!(require_own_instances(&instances, "op-1").is_ok());
        instances[1].tags = Tags::default();
        assert!(require_own_instances(&instances, "op-1").is_err());
    }
}
