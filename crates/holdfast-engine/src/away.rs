//! Vaults that gave no answer: [`Away`]. One that is away keeps an operation from none of the others.
//!
//! [`each`] asks one after the other. What failed is told beside what was answered; only if nobody answered is
//! the operation itself an error, the first one. So with one vault nothing is hidden, and with several a
//! caller who prints answers prints [`Away`] as well, and ends as *partial*.
//!
//! Crash: as of whatever is asked.

use crate::context::Context;
use crate::error::{EngineError, Result};
use holdfast_core::policy;
use serde::Serialize;

/// A vault that was asked and did not answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Away {
    pub vault: String,
    pub error: String,
    pub hint: String,
}

impl Away {
    fn new(vault: &str, e: &EngineError) -> Self {
        let otherwise = || "see `holdfast doctor`; run it again when the vault is back".to_string();
        Away { vault: vault.into(), error: e.to_string(), hint: e.hint().unwrap_or_else(otherwise) }
    }
}

impl std::fmt::Display for Away {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "vault `{}` was left out: {}. {}", self.vault, self.error, self.hint)
    }
}

/// Asks for each of `items`, which belongs to the vault that `name` says. Errors: the first one if there is no
/// answer at all; at once, if the user cancels.
pub async fn each<I, T>(
    items: impl IntoIterator<Item = I>,
    name: impl Fn(&I) -> String,
    mut ask: impl AsyncFnMut(I) -> Result<T>,
) -> Result<(Vec<T>, Vec<Away>)> {
    let (mut answers, mut away, mut first) = (Vec::new(), Vec::new(), None);
    for item in items {
        let vault = name(&item);
        match ask(item).await {
            Ok(answer) => answers.push(answer),
            Err(EngineError::Cancelled) => return Err(EngineError::Cancelled),
            Err(e) => {
                away.push(Away::new(&vault, &e));
                first.get_or_insert(e);
            }
        }
    }
    match first {
        Some(e) if answers.is_empty() => Err(e),
        _ => Ok((answers, away)),
    }
}

/// The same for the vaults of the database.
pub async fn each_vault<T>(
    ctx: &Context,
    ask: impl AsyncFnMut(policy::Vault) -> Result<T>,
) -> Result<(Vec<T>, Vec<Away>)> {
    each(ctx.vaults()?, |v| v.name.clone(), ask).await
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn asked(answers: &[Result<u32, &str>]) -> Result<(Vec<u32>, Vec<Away>)> {
        let all = answers.iter().enumerate();
        each(all, |(n, _)| n.to_string(), async |(_, a)| a.map_err(|e| EngineError::failed(e, ""))).await
    }

    #[tokio::test]
    async fn one_that_fails_hides_no_other() {
        let (answers, away) = asked(&[Ok(1), Err("gone"), Ok(3)]).await.unwrap();
        assert_eq!((answers, away.len()), (vec![1, 3], 1));
        assert_eq!((away[0].vault.as_str(), away[0].error.as_str()), ("1", "gone"));
        assert!(away[0].hint.contains("doctor"));
        assert_eq!(asked(&[Err("first"), Err("second")]).await.unwrap_err().to_string(), "first");
        assert_eq!(asked(&[]).await.unwrap(), (vec![], vec![]));
    }

    #[tokio::test]
    async fn a_user_who_cancels_is_heard() {
        let mut n = 0;
        let ask = async |_| {
            n += 1;
            Err::<(), _>(EngineError::Cancelled)
        };
        let ended = each([1, 2], u32::to_string, ask).await;
        assert!(matches!(ended, Err(EngineError::Cancelled)));
        assert_eq!(n, 1);
    }
}
