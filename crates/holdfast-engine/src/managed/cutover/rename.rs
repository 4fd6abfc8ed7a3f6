//! Two databases exchange a name: the old one steps aside, the new one takes its identifier and so its endpoint.
//!
//! Names change hands, so each half looks at resource ids first: done before, it does nothing.

use super::Pair;
use crate::error::{EngineError, Result};
use crate::managed::Managed;
use crate::managed::wait::Answer;
use holdfast_core::managed::{Modification, Source};

pub async fn swap(m: &Managed, pair: &Pair, old: &str, new: &str, aside: &Source) -> Result<()> {
    rename(m, old, &pair.old.source, aside).await?;
    rename(m, new, &pair.new.source, &pair.old.source).await
}

pub async fn swap_back(m: &Managed, pair: &Pair, old: &str, new: &str, aside: &Source) -> Result<()> {
    // Only if it had come that far.
    if resource(m, &pair.old.source).await?.as_deref() == Some(new) {
        rename(m, new, &pair.old.source, &pair.new.source).await?;
    }
    if resource(m, aside).await?.as_deref() == Some(old) {
        rename(m, old, aside, &pair.old.source).await?;
    }
    Ok(())
}

/// The database with this resource id gets another name. A rename takes minutes, and for some of them neither name
/// answers.
async fn rename(m: &Managed, id: &str, from: &Source, to: &Source) -> Result<()> {
    if resource(m, to).await?.as_deref() != Some(id) {
        match resource(m, from).await? {
            Some(found) if found == id => {}
            other => {
                return Err(EngineError::refused(
                    format!("`{from}` is `{}`, not `{id}`", other.unwrap_or_else(|| "gone".into())),
                    "somebody renamed it meanwhile; look at the databases before anything else",
                ));
            }
        }
        let change = Modification { new_id: Some(to.id.clone()), ..Modification::default() };
        m.cloud.modify(from, &change).await?;
    }
    m.pace
        .until(&format!("rename to `{}`", to.id), &*m.monitor, async || {
            // As long as the old name has it, the new one is not asked for: what is not there yet costs patience.
            match m.cloud.describe(from).await {
                Ok(d) if d.resource_id == id => return Ok(Answer::Going(d.status.to_string())),
                Ok(_) => {}
                Err(e) if e.is_not_found() => {}
                Err(e) => return Err(e),
            }
            match m.cloud.describe(to).await {
                Ok(d) if d.resource_id == id => Ok(Answer::of(&d.status, None, ())),
                Ok(_) => Ok(Answer::Going("the name is another's still".into())),
                Err(e) if e.is_not_found() => Ok(Answer::Going("renaming".into())),
                Err(e) => Err(e),
            }
        })
        .await
}

async fn resource(m: &Managed, source: &Source) -> Result<Option<String>> {
    match m.cloud.describe(source).await {
        Ok(d) => Ok(Some(d.resource_id)),
        Err(e) if e.is_not_found() => Ok(None),
        Err(e) => Err(e.into()),
    }
}
