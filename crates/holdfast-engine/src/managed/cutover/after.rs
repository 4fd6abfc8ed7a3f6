//! What a cutover leaves behind: the old database in quarantine, the new one in service.
//!
//! Crash: tags are set, not added to; setting them again changes nothing.

use super::run::State;
use crate::error::{EngineError, Result};
use crate::managed::{Managed, lineage};
use holdfast_core::managed::{Instance, Source, Tags, tags as keys};
use jiff::{SignedDuration, Timestamp};

/// The old one stays, marked; what it is called now may have changed.
pub(super) async fn quarantine(m: &Managed, state: &State) -> Result<Timestamp> {
    let until = Timestamp::now()
        .checked_add(SignedDuration::from_secs(i64::try_from(state.quarantine).unwrap_or(i64::MAX)))
        .unwrap_or(Timestamp::MAX);
    let old = state.old_name();
    // Its ARN has its name in it.
    let d = m.cloud.describe(old).await?;
    if d.resource_id != state.pair.old.resource_id {
        return Err(EngineError::refused(
            format!("`{old}` is another database than the one that was replaced"),
            "a step of the cutover gave its name away; mark the old one yourself, then move the record of the \
             operation out of state-dir/operations",
        ));
    }
    let tags = Tags::default()
        .with(keys::STATE, "quarantine")
        .with(keys::QUARANTINED_UNTIL, &until.to_string())
        .with(keys::DATABASE, m.name.as_str());
    m.cloud.add_tags(&old.region, &d.arn, &tags).await?;
    // The rights of whoever retires it end where the mark does: its instances need it too.
    for i in members(m, old).await? {
        m.cloud.add_tags(&old.region, &i.arn, &tags).await?;
    }
    Ok(until)
}

/// Takes the marks of an earlier quarantine off: nobody may retire what the application uses. `replaced`: the resource
/// ids of what it replaces, whose snapshots are those of the policy's database from now on too ([`lineage`]).
pub(super) async fn in_service(m: &Managed, source: &Source, replaced: &[String]) -> Result<()> {
    let d = m.cloud.describe(source).await?;
    if !replaced.is_empty() {
        let tags = Tags::default()
            .with(keys::REPLACES, &lineage::written(replaced, &d.resource_id))
            .with(keys::DATABASE, m.name.as_str());
        m.cloud.add_tags(&source.region, &d.arn, &tags).await?;
    }
    // Nor may it be reaped, whatever it inherited.
    let ends = [keys::STATE, keys::QUARANTINED_UNTIL, keys::EXPIRES];
    if ends.iter().any(|k| d.tags.get(k).is_some()) {
        m.cloud.remove_tags(&source.region, &d.arn, &ends).await?;
        for i in members(m, source).await? {
            m.cloud.remove_tags(&source.region, &i.arn, &ends).await?;
        }
    }
    Ok(())
}

/// The instances of a cluster.
async fn members(m: &Managed, source: &Source) -> Result<Vec<Instance>> {
    match source.engine.is_cluster() {
        true => Ok(m.cloud.instances(source).await?),
        false => Ok(Vec::new()),
    }
}
