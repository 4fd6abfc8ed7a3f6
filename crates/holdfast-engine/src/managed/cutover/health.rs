//! Whether the application is well: a URL answers with success.

use crate::error::{EngineError, Result};
use crate::managed::Managed;
use std::time::{Duration, Instant};

/// A single answer may come from a process that has not noticed yet: this many in a row count.
const IN_A_ROW: u32 = 3;
const PAUSE: Duration = Duration::from_secs(1);
const ANSWER: Duration = Duration::from_secs(10);

/// As anybody may read it: whoever is asked may want a password or a token in the URL.
pub fn shown(url: &str) -> String {
    match reqwest::Url::parse(url) {
        Ok(mut u) if u.has_host() => {
            let _ = (u.set_username(""), u.set_password(None));
            u.set_query(None);
            u.set_fragment(None);
            u.to_string()
        }
        _ => "what is no URL".into(),
    }
}

/// Asks until it is well three times running, or the time is over.
pub async fn wait(m: &Managed, url: &str, within: Duration) -> Result<()> {
    let name = format!("`{}`", shown(url));
    let client = reqwest::Client::builder().timeout(ANSWER).build();
    let client = client.map_err(|e| {
        EngineError::failed(
            format!("cannot ask {name}: {e}"),
            "check `health` of the cutover step, and the proxy settings",
        )
    })?;
    let begun = Instant::now();
    let (mut well, mut last) = (0, String::from("not asked yet"));
    while well < IN_A_ROW {
        match client.get(url).send().await {
            Ok(r) if r.status().is_success() => well += 1,
            Ok(r) => (well, last) = (0, r.status().to_string()),
            Err(e) => (well, last) = (0, chain(&e.without_url())),
        }
        if well >= IN_A_ROW {
            break;
        }
        if m.monitor.cancelled() {
            return Err(EngineError::Cancelled);
        }
        // One that is well now may finish its three in a row.
        if well == 0 && begun.elapsed() >= within {
            return Err(EngineError::failed(
                format!("{name} is not well after {} s: {last}", within.as_secs()),
                "health-within of the step sets for how long it is asked",
            ));
        }
        m.monitor.phase(&format!("health of {name}: {}", if well > 0 { "well" } else { last.as_str() }));
        tokio::time::sleep(PAUSE).await;
    }
    Ok(())
}

/// With its causes: that a request failed says nothing, that a name has no address does.
fn chain(e: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(e.source(), |e| e.source()).map(ToString::to_string);
    std::iter::once(e.to_string()).chain(causes).collect::<Vec<_>>().join(": ")
}

#[cfg(test)]
mod tests {
    #[test]
    fn no_password_of_a_url_is_shown() {
        let text = super::shown("https://probe:hush@api.example.com/health?token=hush#hush");
        assert_eq!(text, "https://api.example.com/health");
        assert!(!super::shown("probe:hush@ x").contains("hush"));
    }
}
