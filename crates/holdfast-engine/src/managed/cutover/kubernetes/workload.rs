//! A Deployment or StatefulSet as the API shows it: its variables, how far its rollout is, and patches of it. Pure.

use super::{Change, Values};
use crate::error::{EngineError, Result};
use holdfast_core::policy::managed::WorkloadKind;
use serde_json::{Map, Value, json};

/// Whose variables are looked at: ordinary and init containers. Their names are unique among both.
const LISTS: [&str; 2] = ["containers", "initContainers"];

/// How far a rollout is.
#[derive(Debug, PartialEq, Eq)]
pub enum Rollout {
    Done,
    Going(String),
    Failed(String),
}

#[derive(Debug)]
pub struct Workload(Value);

/// A variable of a container, as it is written there.
enum Found {
    Plain(String),
    /// From a ConfigMap, a Secret or a field of the pod.
    Elsewhere,
}

impl Workload {
    /// `None` if it is none.
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let v: Value = serde_json::from_slice(bytes).ok()?;
        v["metadata"]["resourceVersion"].as_str()?;
        v["spec"]["template"]["spec"]["containers"].as_array()?;
        Some(Workload(v))
    }

    fn number(&self, of: &str, key: &str) -> i64 {
        self.0[of][key].as_i64().unwrap_or(0)
    }

    /// How many pods it shall have; 1 if nobody says.
    pub fn replicas(&self) -> u32 {
        self.0["spec"]["replicas"].as_i64().map_or(1, |n| u32::try_from(n).unwrap_or(0))
    }

    fn kind(&self) -> WorkloadKind {
        match self.0["kind"].as_str() {
            Some("StatefulSet") => WorkloadKind::StatefulSet,
            _ => WorkloadKind::Deployment,
        }
    }

    /// List, name and container.
    fn containers(&self) -> impl Iterator<Item = (&'static str, &str, &Value)> {
        let pod = &self.0["spec"]["template"]["spec"];
        LISTS.into_iter().flat_map(move |list| {
            let all = pod[list].as_array().map(Vec::as_slice).unwrap_or_default();
            all.iter().filter_map(move |c| Some((list, c["name"].as_str()?, c)))
        })
    }

    fn variable(container: &Value, name: &str) -> Option<Found> {
        let all = container["env"].as_array()?;
        // Of two of one name the last counts.
        let entry = all.iter().rev().find(|e| e["name"] == name)?;
        Some(match entry.get("valueFrom").is_some_and(|v| !v.is_null()) {
            true => Found::Elsewhere,
            // An empty value is not written.
            false => Found::Plain(entry["value"].as_str().unwrap_or_default().to_string()),
        })
    }

    /// The values now of the variables of a change, in each container that has them.
    pub fn values(&self, change: &Change) -> Result<Values> {
        let mut out = Values::new();
        for name in change.env.keys() {
            let mut found = false;
            for (_, container, c) in self.containers() {
                match Self::variable(c, name) {
                    None => {}
                    Some(Found::Plain(value)) => {
                        found = true;
                        out.entry(container.to_string()).or_default().insert(name.clone(), value);
                    }
                    Some(Found::Elsewhere) => {
                        return Err(EngineError::refused(
                            format!(
                                "{name} of container `{container}` of {change} comes from elsewhere (valueFrom)"
                            ),
                            "change the ConfigMap or Secret that it comes from: with a secret or command step",
                        ));
                    }
                }
            }
            if !found {
                return Err(EngineError::refused(
                    format!("no container of {change} has a variable {name} of its own"),
                    "add it to the workload; what envFrom brings is changed where it comes from, with a command step",
                ));
            }
        }
        Ok(out)
    }

    /// Refuses what no rollout would follow.
    pub fn fit(&self, change: &Change) -> Result<()> {
        let spec = &self.0["spec"];
        let refused = |why: &str, hint: &str| Err(EngineError::refused(format!("{change} {why}"), hint));
        if self.0["metadata"]["deletionTimestamp"].is_string() {
            return refused("is being deleted", "name the workload that the application runs as");
        }
        if spec["paused"] == json!(true) {
            return refused("is paused: nothing would be rolled out", "`kubectl rollout resume` it");
        }
        if self.kind() == WorkloadKind::StatefulSet {
            let strategy = &spec["updateStrategy"];
            if strategy["type"] == "OnDelete" && !change.scale {
                return refused(
                    "replaces its pods only when somebody deletes them (OnDelete)",
                    "set `scale = true` for the step, or use a command step",
                );
            }
            if strategy["rollingUpdate"]["partition"].as_i64().unwrap_or(0) > 0 {
                return refused("has a partition: some pods would stay old", "set its partition to 0");
            }
        }
        Ok(())
    }

    /// Refuses if a variable has gone since the plan was made: it would be added, which is not what was planned.
    pub fn keeps(&self, change: &Change, wanted: &Values) -> Result<()> {
        let there = self.values(change)?;
        let same = wanted
            .iter()
            .all(|(c, vars)| there.get(c).is_some_and(|now| vars.keys().all(|name| now.contains_key(name))));
        match same {
            true => Ok(()),
            false => Err(EngineError::refused(
                format!("the containers of {change} are others than when the plan was made"),
                "somebody deploys it just now: put back with --back, and make a new plan",
            )),
        }
    }

    /// What a variable of a container is now, if it is a plain value.
    fn plain(&self, container: &str, name: &str) -> Option<String> {
        let c = self.containers().find(|(_, n, _)| *n == container)?.2;
        match Self::variable(c, name)? {
            Found::Plain(value) => Some(value),
            Found::Elsewhere => None,
        }
    }

    /// Whether any of these is not as it should be.
    pub fn differs(&self, wanted: &Values) -> bool {
        wanted.iter().any(|(c, vars)| vars.iter().any(|(name, v)| self.plain(c, name).as_ref() != Some(v)))
    }

    /// Of what a step wrote: the former values of what is so still, and the names of what somebody else changed.
    pub fn split(&self, wrote: &Values, before: &Values) -> (Values, Vec<String>) {
        let (mut mine, mut others) = (Values::new(), Vec::new());
        for (container, vars) in wrote {
            for (name, value) in vars {
                let was = before.get(container).and_then(|b| b.get(name));
                let now = self.plain(container, name);
                match was {
                    Some(was) if now.as_ref() == Some(was) => {}
                    Some(was) if now.as_ref() == Some(value) => {
                        mine.entry(container.clone()).or_default().insert(name.clone(), was.clone());
                    }
                    _ => others.push(name.clone()),
                }
            }
        }
        others.dedup();
        (mine, others)
    }

    /// A strategic merge patch (containers and variables are merged by name) that fails if somebody wrote since.
    pub fn patch(&self, values: &Values, replicas: Option<u32>) -> Value {
        let mut pod = Map::new();
        for list in LISTS {
            let changed: Vec<Value> = self
                .containers()
                .filter(|(l, name, _)| *l == list && values.contains_key(*name))
                .map(|(_, name, _)| {
                    let vars = values.get(name).into_iter().flatten();
                    let env: Vec<Value> = vars.map(|(k, v)| json!({ "name": k, "value": v })).collect();
                    json!({ "name": name, "env": env })
                })
                .collect();
            if !changed.is_empty() {
                pod.insert(list.into(), changed.into());
            }
        }
        let mut spec = Map::new();
        if !pod.is_empty() {
            spec.insert("template".into(), json!({ "spec": pod }));
        }
        if let Some(n) = replicas {
            spec.insert("replicas".into(), n.into());
        }
        json!({ "metadata": { "resourceVersion": self.0["metadata"]["resourceVersion"] }, "spec": spec })
    }

    /// Whether the controller has seen the newest change.
    fn observed(&self) -> bool {
        self.number("status", "observedGeneration") >= self.number("metadata", "generation")
    }

    /// Whether it is down to no pod.
    pub fn emptied(&self) -> Rollout {
        let pods = self.number("status", "replicas");
        if self.replicas() > 0 {
            return Rollout::Failed("another program scales it while it should have no pod".into());
        }
        match self.observed() && pods == 0 {
            true => Rollout::Done,
            false => Rollout::Going(format!("{pods} pods are left")),
        }
    }

    /// As `kubectl rollout status` judges (kubectl, pkg/polymorphichelpers/rollout_status.go).
    pub fn rollout(&self) -> Rollout {
        if !self.observed() {
            return Rollout::Going("the change is not seen yet".into());
        }
        let want = i64::from(self.replicas());
        let status = |key: &str| self.number("status", key);
        let (updated, pods) = (status("updatedReplicas"), status("replicas"));
        match self.kind() {
            WorkloadKind::Deployment => {
                let conditions =
                    self.0["status"]["conditions"].as_array().map(Vec::as_slice).unwrap_or_default();
                let late =
                    |c: &&Value| c["type"] == "Progressing" && c["reason"] == "ProgressDeadlineExceeded";
                if let Some(c) = conditions.iter().find(late) {
                    return Rollout::Failed(
                        c["message"].as_str().unwrap_or("its deadline is over").to_string(),
                    );
                }
                let available = status("availableReplicas");
                if updated < want {
                    Rollout::Going(format!("{updated} of {want} pods are new"))
                } else if pods > updated {
                    Rollout::Going(format!("{} old pods are left", pods - updated))
                } else if available < updated {
                    Rollout::Going(format!("{available} of {updated} new pods are available"))
                } else {
                    Rollout::Done
                }
            }
            WorkloadKind::StatefulSet => {
                let ready = status("readyReplicas");
                let revision = |key: &str| self.0["status"][key].as_str().unwrap_or_default();
                if ready < want || pods > want {
                    Rollout::Going(format!("{ready} of {want} pods are ready"))
                } else if want > 0 && revision("updateRevision") != revision("currentRevision") {
                    Rollout::Going(format!("{updated} of {want} pods are new"))
                } else {
                    Rollout::Done
                }
            }
        }
    }
}

#[cfg(test)]
pub mod tests {
    use super::*;

    pub fn change(env: &[(&str, &str)]) -> Change {
        Change {
            kind: WorkloadKind::Deployment,
            name: "backend".into(),
            namespace: "shop".into(),
            context: None,
            kubeconfig: None,
            env: env.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect(),
            scale: false,
            within: 1,
        }
    }

    fn workload(edit: impl FnOnce(&mut Value)) -> Workload {
        let mut v = json!({
            "kind": "Deployment",
            "metadata": { "resourceVersion": "7", "generation": 2 },
            "spec": { "replicas": 2, "template": { "spec": {
                "containers": [
                    { "name": "app", "env": [{ "name": "HOST", "value": "old" }, { "name": "EMPTY" }] },
                    { "name": "sidecar", "env": [{ "name": "OTHER", "value": "x" }] },
                    { "name": "bare" },
                ],
                "initContainers": [{ "name": "migrate", "env": [{ "name": "HOST", "value": "old2" }] }],
            } } },
            "status": { "observedGeneration": 2, "replicas": 2, "updatedReplicas": 2, "availableReplicas": 2 },
        });
        edit(&mut v);
        Workload::parse(&serde_json::to_vec(&v).unwrap()).unwrap()
    }

    fn values(all: &[(&str, &str, &str)]) -> Values {
        let mut out = Values::new();
        for (c, k, v) in all {
            out.entry(c.to_string()).or_default().insert(k.to_string(), v.to_string());
        }
        out
    }

    #[test]
    fn only_what_has_the_variable_is_changed() {
        let w = workload(|_| {});
        let c = change(&[("HOST", "new")]);
        let before = w.values(&c).unwrap();
        assert_eq!(before, values(&[("app", "HOST", "old"), ("migrate", "HOST", "old2")]));
        assert_eq!(
            w.patch(&c.wanted(&before), Some(0)),
            json!({
                "metadata": { "resourceVersion": "7" },
                "spec": { "replicas": 0, "template": { "spec": {
                    "containers": [{ "name": "app", "env": [{ "name": "HOST", "value": "new" }] }],
                    "initContainers": [{ "name": "migrate", "env": [{ "name": "HOST", "value": "new" }] }],
                } } },
            })
        );
        assert_eq!(w.values(&change(&[("EMPTY", "x")])).unwrap(), values(&[("app", "EMPTY", "")]));
        assert!(w.values(&change(&[("NONE", "x")])).unwrap_err().to_string().contains("no container"));
    }

    #[test]
    fn what_comes_from_elsewhere_is_refused() {
        let w = workload(|v| {
            v["spec"]["template"]["spec"]["containers"][1]["env"] =
                json!([{ "name": "HOST", "valueFrom": { "secretKeyRef": { "name": "db", "key": "host" } } }]);
        });
        let e = w.values(&change(&[("HOST", "new")])).unwrap_err();
        assert!(e.to_string().contains("sidecar") && e.hint().unwrap().contains("Secret"), "{e}");
    }

    #[test]
    fn only_what_the_step_wrote_goes_back() {
        let before = values(&[("app", "HOST", "old"), ("migrate", "HOST", "old2"), ("app", "PORT", "1")]);
        let wrote = values(&[("app", "HOST", "new"), ("migrate", "HOST", "new"), ("app", "PORT", "2")]);
        let w = workload(|v| {
            v["spec"]["template"]["spec"]["containers"][0]["env"] =
                json!([{ "name": "HOST", "value": "new" }, { "name": "PORT", "value": "3" }]);
        });
        let (mine, others) = w.split(&wrote, &before);
        assert_eq!(mine, values(&[("app", "HOST", "old")]), "migrate has its old value already");
        assert_eq!(others, ["PORT"]);
    }

    #[test]
    fn a_rollout_is_over_when_all_pods_are_new_and_available() {
        assert_eq!(workload(|_| {}).rollout(), Rollout::Done);
        type Edit = fn(&mut Value);
        let going: [Edit; 4] = [
            |v| v["status"]["observedGeneration"] = json!(1),
            |v| v["status"]["updatedReplicas"] = json!(1),
            |v| v["status"]["replicas"] = json!(3),
            |v| v["status"]["availableReplicas"] = json!(1),
        ];
        for edit in going {
            assert!(matches!(workload(edit).rollout(), Rollout::Going(_)));
        }
        let late = workload(|v| {
            v["status"]["conditions"] = json!([{ "type": "Progressing", "reason": "ProgressDeadlineExceeded", "message": "too late" }]);
        });
        assert_eq!(late.rollout(), Rollout::Failed("too late".into()));
        let set = |current: &str, ready: u32| {
            workload(|v| {
                v["kind"] = json!("StatefulSet");
                v["status"] = json!({ "observedGeneration": 2, "replicas": 2, "readyReplicas": ready,
                    "updateRevision": "b", "currentRevision": current });
            })
        };
        assert!(matches!(set("a", 2).rollout(), Rollout::Going(_)));
        assert!(matches!(set("b", 1).rollout(), Rollout::Going(_)));
        assert_eq!(set("b", 2).rollout(), Rollout::Done);
    }

    #[test]
    fn down_to_no_pod_is_down() {
        let w = |replicas: u32, pods: u32| {
            workload(|v| {
                v["spec"]["replicas"] = json!(replicas);
                v["status"]["replicas"] = json!(pods);
            })
        };
        assert!(matches!(w(0, 1).emptied(), Rollout::Going(_)));
        assert_eq!(w(0, 0).emptied(), Rollout::Done);
        assert!(matches!(w(2, 0).emptied(), Rollout::Failed(_)), "an autoscaler is at it");
    }

    #[test]
    fn what_no_rollout_follows_is_refused() {
        let fit = |edit: fn(&mut Value)| workload(edit).fit(&change(&[]));
        assert!(fit(|_| {}).is_ok());
        assert!(fit(|v| v["spec"]["paused"] = json!(true)).is_err());
        assert!(fit(|v| v["metadata"]["deletionTimestamp"] = json!("2026-11-22T00:00:00Z")).is_err());
        let set = |strategy: Value| {
            let w = workload(|v| {
                v["kind"] = json!("StatefulSet");
                v["spec"]["updateStrategy"] = strategy;
            });
            w.fit(&change(&[]))
        };
        assert!(set(json!({ "type": "RollingUpdate", "rollingUpdate": { "partition": 0 } })).is_ok());
        assert!(set(json!({ "type": "RollingUpdate", "rollingUpdate": { "partition": 1 } })).is_err());
        assert!(set(json!({ "type": "OnDelete" })).is_err());
    }

    #[test]
    fn no_json_panics() {
        for text in [
            "",
            "{",
            "[]",
            "{\"metadata\":{\"resourceVersion\":1}}",
            "{\"metadata\":{\"resourceVersion\":\"1\"}}",
        ] {
            assert!(Workload::parse(text.as_bytes()).is_none(), "{text}");
        }
        let odd = br#"{"metadata":{"resourceVersion":"1","generation":"x"},"spec":{"replicas":-4,
            "template":{"spec":{"containers":[{"name":5},{"env":3},{"name":"a","env":[1,{"name":"HOST","value":7}]}]}}}}"#;
        let w = Workload::parse(odd).unwrap();
        assert_eq!(w.replicas(), 0);
        assert_eq!(w.values(&change(&[("HOST", "n")])).unwrap(), values(&[("a", "HOST", "")]));
        let _ = (w.rollout(), w.emptied(), w.fit(&change(&[])).is_ok());
    }
}
