//! Waiting for the provider: asking again, with progress and an end.
//!
//! The provider's operations end when they end: a snapshot in minutes, a copy to another region in hours.
//! [`Pace::until`] asks, shows what it hears, and gives up at a deadline. Giving up does not stop what goes
//! on there: the operation stays in the journal, and the same command goes on with it.

use crate::error::{EngineError, Result};
use holdfast_core::Monitor;
use holdfast_core::managed::{ManagedError, Status};
use std::future::Future;
use std::time::{Duration, Instant};

/// What an answer that is on its way at the deadline gets.
const GRACE: Duration = Duration::from_secs(1);

/// How often to ask, and for how long.
#[derive(Debug, Clone, Copy)]
pub struct Pace {
    /// Between the first two questions; it doubles up to `most`.
    pub first: Duration,
    pub most: Duration,
    /// After which the command gives up.
    pub deadline: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        Pace {
            first: Duration::from_secs(2),
            // AWS asks callers not to poll more often than twice a minute (RDS waiters: 30 s).
            most: Duration::from_secs(30),
            deadline: Duration::from_secs(6 * 3600),
        }
    }
}

/// What a question found.
#[derive(Debug)]
pub enum Answer<T> {
    Ready(T),
    /// Not yet; what to show, such as `creating, 40 %`.
    Going(String),
    /// It will not get better.
    Failed(String),
    /// Nor will it, for reasons of where it was put: no fault of what it was made from.
    Hindered(String),
}

impl<T> Answer<T> {
    /// Judges a thing by its state.
    pub fn of(status: &Status, percent: Option<u8>, thing: T) -> Self {
        if status.is_available() {
            Answer::Ready(thing)
        } else if status.is_hindered() {
            Answer::Hindered(format!("it is `{status}`"))
        } else if status.is_failed() {
            Answer::Failed(format!("it is `{status}`"))
        } else {
            Answer::Going(match percent.filter(|p| *p > 0) {
                Some(p) => format!("{status}, {p} %"),
                None => status.to_string(),
            })
        }
    }
}

impl Pace {
    /// The pace for this process: `HOLDFAST_POLL` (seconds, such as `0.1`) replaces the time between
    /// questions, for emulators.
    pub fn from_env(deadline: Duration) -> Self {
        let asked = std::env::var("HOLDFAST_POLL").ok().and_then(|v| v.parse::<f64>().ok());
        match asked.filter(|s| (0.01..=600.0).contains(s)).map(Duration::from_secs_f64) {
            Some(d) => Pace { first: d, most: d, deadline },
            None => Pace { deadline, ..Pace::default() },
        }
    }

    /// Asks until the answer is ready. Faults that pass (throttling, a cut connection) are asked through
    /// until the deadline.
    ///
    /// # Errors
    /// What failed, in the provider's words; the deadline; Ctrl-C.
    pub async fn until<T, F>(
        &self,
        what: &str,
        monitor: &dyn Monitor,
        mut ask: impl FnMut() -> F,
    ) -> Result<T>
    where
        F: Future<Output = Result<Answer<T>, ManagedError>>,
    {
        let begun = Instant::now();
        let mut pause = self.first;
        let mut said = String::new();
        loop {
            // The first question may be the change itself.
            if monitor.cancelled() {
                return Err(EngineError::Cancelled);
            }
            let going = match ask().await {
                Ok(Answer::Ready(t)) => return Ok(t),
                Ok(Answer::Failed(why)) => {
                    return Err(EngineError::failed(
                        format!("{what}: {why}"),
                        "the provider's events of the last hours tell why",
                    ));
                }
                Ok(Answer::Hindered(why)) => {
                    return Err(EngineError::Unreachable {
                        what: format!("{what}: {why}"),
                        hint: "it is where it was put that hinders it: another class, subnet group or parameter group; \
                               the provider's events tell why"
                            .into(),
                    });
                }
                Ok(Answer::Going(text)) => text,
                Err(e) if e.retryable() => e.to_string(),
                Err(e) => return Err(e.into()),
            };
            if monitor.cancelled() {
                return Err(EngineError::Cancelled);
            }
            let waited = begun.elapsed();
            if waited >= self.deadline {
                return Err(EngineError::NotYet {
                    what: format!("{what}: not ready after {} ({going})", holdfast_core::time::human(waited)),
                    hint: "it goes on at the provider; run the same command again to go on waiting, \
                           `--wait-for` sets for how long"
                        .into(),
                });
            }
            if going != said {
                monitor.phase(&format!("{what}: {going}"));
                said = going;
            }
            // The last question is at the deadline, not a pause after it.
            self.rest(pause.min(self.deadline.saturating_sub(waited)), monitor).await;
            pause = (pause * 2).min(self.most);
        }
    }

    /// For questions before anything was begun: an end at the deadline even if an answer never comes, and no word of
    /// what goes on, because nothing does. Not for changes: one that is cut off may have been made.
    ///
    /// # Errors
    /// Those of `asking`; a deadline is [`EngineError::Failed`].
    pub async fn before<T>(&self, what: &str, asking: impl Future<Output = Result<T>>) -> Result<T> {
        const HINT: &str = "nothing was begun, and nothing is under way: run it again when it can be reached and is \
                            available, or wait longer with `--wait-for`";
        // An answer at the deadline tells more than its absence.
        match tokio::time::timeout(self.deadline + GRACE, asking).await {
            Ok(Err(EngineError::NotYet { what, .. })) => Err(EngineError::failed(what, HINT)),
            Ok(other) => other,
            Err(_) => {
                let waited = holdfast_core::time::human(self.deadline);
                Err(EngineError::failed(format!("{what}: no answer within {waited}"), HINT))
            }
        }
    }

    /// Sleeps, and wakes up when the user asks to stop.
    pub(super) async fn rest(&self, pause: Duration, monitor: &dyn Monitor) {
        let end = Instant::now() + pause;
        while !monitor.cancelled() {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            tokio::time::sleep(left.min(Duration::from_millis(250))).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use holdfast_core::monitor::Collect;
    use std::sync::atomic::{AtomicU32, Ordering};

    fn pace(deadline: Duration) -> Pace {
        let d = Duration::from_millis(10);
        Pace { first: d, most: d, deadline }
    }

    async fn ask(n: &AtomicU32, states: &[&str]) -> Result<Answer<u32>, ManagedError> {
        let i = n.fetch_add(1, Ordering::Relaxed);
        let status = states.get(i as usize).or(states.last()).copied().unwrap_or("available");
        Ok(Answer::of(&Status::new(status), Some(40), i))
    }

    #[tokio::test]
    async fn asks_until_it_is_ready() {
        let (n, m) = (AtomicU32::new(0), Collect::default());
        let got = pace(Duration::from_secs(5))
            .until("snapshot `s`", &m, || ask(&n, &["creating", "creating", "available"]))
            .await
            .unwrap();
        assert_eq!(got, 2);
        let shown = format!("{:?}", m.events.lock().unwrap());
        assert_eq!(shown.matches("snapshot `s`: creating, 40 %").count(), 1, "{shown}");
    }

    #[tokio::test]
    async fn a_failed_thing_is_not_waited_for() {
        let (n, m) = (AtomicU32::new(0), Collect::default());
        let e = pace(Duration::from_secs(5)).until("it", &m, || ask(&n, &["creating", "failed"])).await;
        assert_eq!(e.unwrap_err().to_string(), "it: it is `failed`");
    }

    #[tokio::test]
    async fn the_deadline_says_where_it_stood() {
        let (n, m) = (AtomicU32::new(0), Collect::default());
        let e = pace(Duration::from_millis(30)).until("it", &m, || ask(&n, &["creating"])).await.unwrap_err();
        assert!(e.to_string().contains("creating, 40 %"), "{e}");
        assert!(e.hint().unwrap().contains("--wait-for"));
    }

    #[tokio::test]
    async fn the_last_pause_does_not_pass_the_deadline() {
        let (n, m, begun) = (AtomicU32::new(0), Collect::default(), Instant::now());
        let hour = Duration::from_secs(3600);
        let slow = Pace { first: hour, most: hour, deadline: Duration::from_millis(30) };
        let e = slow.until("it", &m, || ask(&n, &["creating"])).await;
        assert!(matches!(e, Err(EngineError::NotYet { .. })));
        assert!(begun.elapsed() < Duration::from_secs(30));
    }

    #[tokio::test]
    async fn before_anything_is_begun_nothing_goes_on() {
        let (n, m) = (AtomicU32::new(0), Collect::default());
        let p = pace(Duration::from_millis(30));
        let e = p.before("it", p.until("it", &m, || ask(&n, &["modifying"]))).await.unwrap_err();
        assert!(matches!(e, EngineError::Failed { .. }), "{e}");
        assert!(e.to_string().contains("modifying") && e.hint().unwrap().contains("nothing was begun"));
        let e = p.before("it", std::future::pending::<Result<u32>>()).await.unwrap_err();
        assert!(e.to_string().contains("no answer within"), "{e}");
    }

    #[tokio::test]
    async fn ctrl_c_ends_the_waiting() {
        let (n, m) = (AtomicU32::new(0), Collect::default());
        m.cancel.store(true, Ordering::Relaxed);
        let e = pace(Duration::from_secs(5)).until("it", &m, || ask(&n, &["creating"])).await;
        assert!(matches!(e, Err(EngineError::Cancelled)));
    }
}
