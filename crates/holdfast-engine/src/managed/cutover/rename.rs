//! Two databases exchange a name: the old one steps aside, the new one takes its identifier and so its endpoint.
//!
//! Names change hands, so each half looks at resource ids first: done before, it does nothing.

use super::Pair;
use crate::error::Result;
use crate::managed::Managed;
use crate::managed::wait::Answer;
use holdfast_core::managed::{Database, Modification, Source};

/// `old`: its resource id; `None`: it is gone, and its name is free.
pub async fn swap(m: &Managed, pair: &Pair, old: Option<&str>, new: &str, aside: &Source) -> Result<()> {
    if let Some(old) = old {
        rename(m, old, &pair.old.source, aside).await?;
    }
    rename(m, new, &pair.new.source, &pair.old.source).await
}

/// Back to where each was, however far the swap had come.
pub async fn swap_back(m: &Managed, pair: &Pair, old: Option<&str>, new: &str, aside: &Source) -> Result<()> {
    rename(m, new, &pair.old.source, &pair.new.source).await?;
    match old {
        Some(old) => rename(m, old, aside, &pair.old.source).await,
        None => Ok(()),
    }
}

/// The database with this resource id gets the name `to`, if it does not have it.
async fn rename(m: &Managed, id: &str, from: &Source, to: &Source) -> Result<()> {
    if settled(m, id, [from, to]).await? == to {
        return Ok(());
    }
    let change = Modification { new_id: Some(to.id.clone()), ..Modification::default() };
    m.pace
        .until(&format!("rename to `{}`", to.id), &*m.monitor, async || {
            // A backup of its own may run just now: that is waited for.
            match m.cloud.modify(from, &change).await {
                // A try whose answer was lost has renamed it, or does just now: where it is, is looked at below.
                Err(e) if e.is_not_found() => Ok(Answer::Ready(())),
                Err(e) if e.is_wrong_state() => match m.cloud.describe(from).await {
                    Ok(d) if d.resource_id == id && is_moving(&d) => Ok(Answer::Ready(())),
                    _ => Err(e),
                },
                other => other.map(|_| Answer::Ready(())),
            }
        })
        .await?;
    m.pace
        .until(&format!("rename to `{}`", to.id), &*m.monitor, async || {
            // As long as the old name has it, the new one is not asked for: what is not there yet costs patience.
            for name in [from, to] {
                match m.cloud.describe(name).await {
                    Ok(d) if d.resource_id == id && name == from => {
                        return Ok(Answer::Going(d.status.to_string()));
                    }
                    Ok(d) if d.resource_id == id => return Ok(Answer::of(&d.status, None, ())),
                    Ok(_) => {}
                    Err(e) if e.is_not_found() => {}
                    Err(e) => return Err(e),
                }
            }
            Ok(Answer::Going("renaming".into()))
        })
        .await
}

fn is_moving(d: &Database) -> bool {
    d.status.as_str() == "renaming" || d.pending.iter().any(|p| p == "identifier")
}

/// Which of two names a database has, once no rename of it is under way: for some minutes of a rename the old name
/// answers still, or neither does. Somebody else's rename to a third name is waited for until the deadline.
async fn settled<'a>(m: &Managed, id: &str, names: [&'a Source; 2]) -> Result<&'a Source> {
    m.pace
        .until(&format!("name of `{id}`"), &*m.monitor, async || {
            for name in names {
                match m.cloud.describe(name).await {
                    Ok(d) if d.resource_id == id => {
                        return Ok(match is_moving(&d) {
                            true => Answer::Going(d.status.to_string()),
                            false => Answer::Ready(name),
                        });
                    }
                    Ok(_) => {}
                    Err(e) if e.is_not_found() => {}
                    Err(e) => return Err(e),
                }
            }
            Ok(Answer::Going("neither name answers: renaming".into()))
        })
        .await
}
