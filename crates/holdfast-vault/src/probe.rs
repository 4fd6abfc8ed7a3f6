//! Does a store honour create-if-absent? (R9)
//!
//! Some gateways ignore `If-None-Match: *` and answer 200 to everybody; some honour it only when
//! nobody races. So the probe races: several creates of one name at once, three rounds, and each
//! round must have exactly one winner, whose bytes are what is read afterwards.

use crate::error::{Result, StoreErrorKind, VaultError};
use crate::store::{Created, Store};
use bytes::Bytes;

/// Objects below this folder belong to probes; anyone may delete them.
pub const PROBE_FOLDER: &str = "probe";

/// Ok if the store can carry a vault, [`VaultError::WeakStore`] with what it did if not.
pub async fn probe_conditional_create(store: &Store) -> Result<()> {
    const WRITERS: usize = 8;
    for round in 0..3 {
        let name = format!("{PROBE_FOLDER}/{:016x}-{round}", rand::random::<u64>());
        let tries = (0..WRITERS).map(|i| {
            let body = Bytes::from(format!("holdfast probe {i} {:016x}", rand::random::<u64>()));
            let name = name.as_str();
            async move { (body.clone(), store.create_by_condition(name, body).await.map(|(made, _)| made)) }
        });
        let results = futures::future::join_all(tries).await;
        let verdict = judge(store, &name, results).await;
        // Best effort: a vault that may not delete keeps a few bytes of litter.
        let _ = store.delete(&name).await;
        verdict?;
    }
    Ok(())
}

async fn judge(store: &Store, name: &str, results: Vec<(Bytes, Result<Created>)>) -> Result<()> {
    let weak = |why: String| VaultError::WeakStore(store.url().to_string(), why);
    let mut winner = None;
    let mut winners = 0;
    for (body, result) in results {
        match result {
            Ok(_) => {
                winners += 1;
                winner = Some(body);
            }
            Err(e) if e.store_kind() == Some(StoreErrorKind::Exists) => {}
            Err(e) if e.store_kind() == Some(StoreErrorKind::Unsupported) => {
                return Err(weak("it does not know conditional writes".into()));
            }
            Err(e) => return Err(e),
        }
    }
    match winner {
        None => Err(weak("nobody could create an object".into())),
        Some(_) if winners > 1 => Err(weak(format!("{winners} writers created the same object at once"))),
        Some(body) => {
            if store.get(name).await? == body {
                Ok(())
            } else {
                Err(weak("the object holds what a refused writer sent".into()))
            }
        }
    }
}
