//! Variables of a workload lead to another database: a Deployment or a StatefulSet, changed and rolled out.
//!
//! ```text
//! look: which containers have the variables, with what ─▶ (to no pod) ─▶ values, and pods again ─▶ rolled out
//! ```
//!
//! A variable is changed where it is: in every container (init containers too) that has it as a plain value. One that
//! comes from a ConfigMap or a Secret is not the workload's to change, and refused. With `scale` there is a moment
//! without any pod, so that old and new pods never write into two databases; without it they run side by side while
//! the rollout lasts. A workload with no replicas is not watched by a HorizontalPodAutoscaler (Kubernetes, Horizontal
//! Pod Autoscaling, "implicit maintenance-mode deactivation"), so it does not interfere.
//!
//! The cluster is reached by kubectl ([`kubectl`]; decision 38). Every write carries the resourceVersion that was
//! read: what another program wrote meanwhile is read again, never overwritten.
//!
//! Crash: former values and replicas are in the journal before the first write. Each function looks first and does
//! what is missing. A kubectl that outlives its parent finishes one write, or loses by its resourceVersion.

mod kubectl;
mod workload;

use super::Before;
use crate::error::{EngineError, Result};
use crate::managed::Managed;
use crate::managed::wait::{Answer, Pace};
use holdfast_core::policy::managed::{KubernetesMove, WorkloadKind};
use kubectl::Fault;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;
use workload::{Rollout, Workload};

/// By container: variable and value.
pub type Values = BTreeMap<String, BTreeMap<String, String>>;

/// After so many writes in a row that others came before, they are told of.
const CONFLICTS: u32 = 8;

/// Which workload, and what its variables will be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    pub kind: WorkloadKind,
    pub name: String,
    pub namespace: String,
    pub context: Option<String>,
    pub kubeconfig: Option<String>,
    pub env: BTreeMap<String, String>,
    pub scale: bool,
    /// Seconds for each wait.
    pub within: u64,
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} `{}` in namespace `{}`", self.kind.as_str(), self.name, self.namespace)?;
        match &self.context {
            Some(c) => write!(f, " of `{c}`"),
            None => Ok(()),
        }
    }
}

impl Change {
    pub fn new(k: &KubernetesMove, env: BTreeMap<String, String>) -> Self {
        Change {
            kind: k.kind,
            name: k.name.clone(),
            namespace: k.namespace.clone(),
            context: k.context.clone(),
            kubeconfig: k.kubeconfig.clone(),
            env,
            scale: k.scale,
            within: k.within.0,
        }
    }

    /// What it does and what going back does, for people; without former values.
    pub fn describe(&self, replicas: u32, values: &Values) -> (String, String) {
        let new: Vec<String> = self.env.iter().map(|(k, v)| format!("{k}={v}")).collect();
        let names: Vec<&str> = self.env.keys().map(String::as_str).collect();
        let containers: Vec<&str> = values.keys().map(String::as_str).collect();
        let way = match (self.scale, replicas) {
            (_, 0) => "it has no pods".to_string(),
            (true, n) => format!("down to no pod, then {n} again"),
            (false, n) => format!("{n} pods, one after the other"),
        };
        (
            format!("{self} gets {} in {} ({way})", new.join(", "), containers.join(", ")),
            format!("{self} gets its {} from before ({way})", names.join(", ")),
        )
    }

    /// Whether there is anything to change.
    pub fn differs_from(&self, before: &Values) -> bool {
        self.wanted(before) != *before
    }

    /// What its values would be, container by container.
    fn wanted(&self, before: &Values) -> Values {
        let fill = |vars: &BTreeMap<String, String>| {
            vars.keys().filter_map(|k| Some((k.clone(), self.env.get(k)?.clone()))).collect()
        };
        before.iter().map(|(container, vars)| (container.clone(), fill(vars))).collect()
    }
}

/// What is there now. Changes nothing.
///
/// # Errors
/// The workload cannot be read; a variable is not there or not a plain value; nothing would roll it out.
pub async fn look(m: &Managed, change: &Change) -> Result<Before> {
    let w = match kubectl::get(change).await {
        Ok(w) => w,
        Err(Fault::Final(e)) => return Err(e),
        Err(Fault::Passing(why) | Fault::Conflict(why)) => {
            return Err(EngineError::failed(
                format!("{change} cannot be read: {why}"),
                "check that `kubectl get` of it works with this kubeconfig and context",
            ));
        }
    };
    if m.monitor.cancelled() {
        return Err(EngineError::Cancelled);
    }
    w.fit(change)?;
    Ok(Before::Kubernetes { replicas: w.replicas(), values: w.values(change)? })
}

/// Forward: the new values, rolled out. Bears being done again.
pub async fn write(m: &Managed, change: &Change, replicas: u32, before: &Values) -> Result<()> {
    let wanted = change.wanted(before);
    // To no pod only if something is to be changed: what was done before is not done again.
    let now = read(m, change).await?;
    now.keeps(change, &wanted)?;
    if change.scale && now.differs(&wanted) {
        edit(m, change, |w| down(w, w.differs(&wanted))).await?;
        gone(m, change).await?;
    }
    edit(m, change, |w| {
        // Only what the step itself took away is given back.
        let count = (change.scale && w.replicas() == 0 && replicas > 0).then_some(replicas);
        (w.differs(&wanted) || count.is_some()).then(|| w.patch(&wanted, count))
    })
    .await?;
    rolled_out(m, change, &wanted).await
}

/// Backward: only what still is as the step wrote it. Bears being done again. What was left is told.
pub async fn put_back(
    m: &Managed,
    change: &Change,
    replicas: u32,
    before: &Values,
) -> Result<Option<String>> {
    let wrote = change.wanted(before);
    let now = read(m, change).await?;
    let (mine, others) = now.split(&wrote, before);
    if change.scale && !mine.is_empty() {
        edit(m, change, |w| down(w, !w.split(&wrote, before).0.is_empty())).await?;
        gone(m, change).await?;
    }
    edit(m, change, |w| {
        let count = (change.scale && w.replicas() == 0 && replicas > 0).then_some(replicas);
        let mine = w.split(&wrote, before).0;
        (!mine.is_empty() || count.is_some()).then(|| w.patch(&mine, count))
    })
    .await?;
    rolled_out(m, change, &mine).await?;
    Ok((!others.is_empty()).then(|| {
        format!("{} of {change} was changed by somebody else meanwhile: it stays", others.join(", "))
    }))
}

/// To no pod, if there is a reason and it is not there yet.
fn down(w: &Workload, reason: bool) -> Option<serde_json::Value> {
    (reason && w.replicas() > 0).then(|| w.patch(&Values::new(), Some(0)))
}

/// Reads through faults that pass.
async fn read(m: &Managed, change: &Change) -> Result<Workload> {
    until(m, change, &change.to_string(), async || match kubectl::get(change).await {
        Ok(w) => Ok(Answer::Ready(w)),
        Err(Fault::Passing(why) | Fault::Conflict(why)) => Ok(Answer::Going(why)),
        Err(Fault::Final(e)) => Err(e),
    })
    .await
}

/// Reads, decides, writes; again from the start if somebody else wrote between. `None`: nothing is to be changed.
async fn edit(
    m: &Managed,
    change: &Change,
    decide: impl Fn(&Workload) -> Option<serde_json::Value>,
) -> Result<()> {
    let mut conflicts = 0;
    until(m, change, &format!("change of {change}"), async || {
        let w = match kubectl::get(change).await {
            Ok(w) => w,
            Err(Fault::Passing(why) | Fault::Conflict(why)) => return Ok(Answer::Going(why)),
            Err(Fault::Final(e)) => return Err(e),
        };
        let Some(patch) = decide(&w) else { return Ok(Answer::Ready(())) };
        match kubectl::patch(change, &patch).await {
            // Whether it is there is for the next look to say.
            Ok(()) => Ok(Answer::Going("written".into())),
            Err(Fault::Passing(why)) => Ok(Answer::Going(why)),
            Err(Fault::Conflict(why)) => {
                conflicts += 1;
                match conflicts < CONFLICTS {
                    true => Ok(Answer::Going("somebody else changed it just now".into())),
                    false => Err(EngineError::failed(
                        format!("{change} is changed by another program all the time ({why})"),
                        "stop what deploys or scales it (`kubectl get -o yaml --show-managed-fields` names it), \
                         then run the cutover again",
                    )),
                }
            }
            Err(Fault::Final(e)) => Err(e),
        }
    })
    .await
}

/// Until it has no pod any more.
async fn gone(m: &Managed, change: &Change) -> Result<()> {
    until(m, change, &format!("{change} to no pod"), async || match kubectl::get(change).await {
        Ok(w) => Ok(match w.emptied() {
            Rollout::Done => Answer::Ready(()),
            Rollout::Going(text) => Answer::Going(text),
            Rollout::Failed(why) => return Err(failed(change, &why)),
        }),
        Err(Fault::Passing(why) | Fault::Conflict(why)) => Ok(Answer::Going(why)),
        Err(Fault::Final(e)) => Err(e),
    })
    .await
}

/// Until all of its pods are new and available, and the values still are those that were written.
async fn rolled_out(m: &Managed, change: &Change, wrote: &Values) -> Result<()> {
    until(m, change, &format!("rollout of {change}"), async || match kubectl::get(change).await {
        Ok(w) if w.differs(wrote) => Err(EngineError::failed(
            format!("{change} has other values than those that were just written"),
            "another program puts them back, such as one that deploys from a repository: change them there",
        )),
        Ok(w) => Ok(match w.rollout() {
            Rollout::Done => Answer::Ready(()),
            Rollout::Going(text) => Answer::Going(text),
            Rollout::Failed(why) => return Err(failed(change, &why)),
        }),
        Err(Fault::Passing(why) | Fault::Conflict(why)) => Ok(Answer::Going(why)),
        Err(Fault::Final(e)) => Err(e),
    })
    .await
}

fn failed(change: &Change, why: &str) -> EngineError {
    EngineError::failed(
        format!("rollout of {change}: {why}"),
        format!(
            "`kubectl -n {} describe {}/{}` and its pods tell why",
            change.namespace,
            change.kind.as_str(),
            change.name
        ),
    )
}

/// Asks until it is ready, as long as the step may take.
async fn until<T>(
    m: &Managed,
    change: &Change,
    what: &str,
    mut ask: impl AsyncFnMut() -> Result<Answer<T>>,
) -> Result<T> {
    let within = Duration::from_secs(change.within);
    let pace = Pace { deadline: within.min(m.pace.deadline), ..m.pace };
    let begun = std::time::Instant::now();
    let mut pause = pace.first;
    let mut said = String::new();
    loop {
        let going = match ask().await? {
            Answer::Ready(t) => return Ok(t),
            Answer::Failed(why) | Answer::Hindered(why) => return Err(failed(change, &why)),
            Answer::Going(text) => text,
        };
        if m.monitor.cancelled() {
            return Err(EngineError::Cancelled);
        }
        if begun.elapsed() >= pace.deadline {
            return Err(EngineError::failed(
                format!("{what}: not ready after {} s ({going})", begun.elapsed().as_secs()),
                "`within` of the step sets how long it may take; `kubectl describe` tells what it waits for",
            ));
        }
        if going != said {
            m.monitor.phase(&format!("{what}: {going}"));
            said = going;
        }
        pace.rest(pause, &*m.monitor).await;
        pause = (pause * 2).min(pace.most);
    }
}
