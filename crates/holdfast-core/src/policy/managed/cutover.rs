//! How the application gets to a restored database: [`CutoverStep`]s, done in order, undone in reverse.

use super::Engine;
use super::database::dress;
use super::written::CutoverSection;
use crate::managed::Region;
use crate::policy::file::{Named, Text};
use crate::policy::resolve::Resolver;
use crate::time::Duration;
use std::collections::BTreeMap;
use std::ops::Range;
use toml::Spanned;

/// `[[databases.NAME.cutover]]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CutoverStep {
    pub to: Move,
    /// A URL that must answer with success after this step.
    pub health: Option<String>,
    /// How long it may take until it does.
    pub health_within: Duration,
}

/// What a step changes. `{endpoint}`, `{reader}`, `{port}` and `{id}` in values stand for the new database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Move {
    /// Takes the old target out of an RDS Proxy and registers the new one. `within`: until the proxy reaches it.
    Proxy { name: String, within: Duration },
    /// A CNAME record.
    Route53 { zone: String, record: String, ttl: u32 },
    /// Fields of a JSON secret in Secrets Manager; the version before stays. `region`: that of the new database if
    /// it is not written.
    Secret { id: String, keys: BTreeMap<String, String>, region: Option<Region> },
    /// Environment of a workload, then a rollout.
    Kubernetes(KubernetesMove),
    /// The old one gets another name, the new one its name.
    Rename,
    /// Own programs; both get the new and the old endpoint in the environment. `within`: until it must have ended.
    Command { run: Vec<String>, undo: Vec<String>, within: Duration },
}

/// Variables of the containers of a workload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KubernetesMove {
    pub kind: WorkloadKind,
    pub name: String,
    pub namespace: String,
    /// Of the kubeconfig; `None`: its current one.
    pub context: Option<String>,
    /// Path; `None`: as kubectl finds it.
    pub kubeconfig: Option<String>,
    pub env: BTreeMap<String, String>,
    /// To nothing before the change, and back with it: old and new never run side by side.
    pub scale: bool,
    /// How long each wait may take: until the pods are gone, until the new ones are available.
    pub within: Duration,
}

/// What has containers whose environment can be changed, and a rollout that can be waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum WorkloadKind {
    Deployment,
    StatefulSet,
}

impl WorkloadKind {
    fn of(word: &str) -> Option<Self> {
        match word {
            "deployment" | "deployments" | "deploy" => Some(WorkloadKind::Deployment),
            "statefulset" | "statefulsets" | "sts" => Some(WorkloadKind::StatefulSet),
            _ => None,
        }
    }

    /// As kubectl takes it.
    pub fn as_str(self) -> &'static str {
        match self {
            WorkloadKind::Deployment => "deployment",
            WorkloadKind::StatefulSet => "statefulset",
        }
    }
}

/// A name as Kubernetes has it (RFC 1123: letters, digits, hyphens; of workloads also dots).
fn is_name(text: &str) -> bool {
    let fits = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'-' | b'.');
    let edge = |b: Option<&u8>| b.is_some_and(u8::is_ascii_alphanumeric);
    let bytes = text.as_bytes();
    bytes.len() <= 253 && bytes.iter().copied().all(fits) && edge(bytes.first()) && edge(bytes.last())
}

/// A name of an environment variable, as Kubernetes takes it.
fn is_variable(text: &str) -> bool {
    let fits = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.');
    text.bytes().all(fits) && text.bytes().next().is_some_and(|b| !b.is_ascii_digit())
}

const KINDS: &str = "Write one of `proxy`, `route53`, `secret`, `kubernetes`, `rename = true` and `command`.";
/// For each wait of a step, and for a program.
const WITHIN: Duration = Duration(600);
const PLACEHOLDERS: [&str; 4] = ["endpoint", "reader", "port", "id"];

impl Resolver<'_> {
    pub(super) fn cutover(
        &mut self,
        engine: Engine,
        database: &str,
        w: &[Spanned<CutoverSection>],
    ) -> Vec<CutoverStep> {
        let mut out = Vec::new();
        for (i, step) in w.iter().enumerate() {
            // A misspelt key has been reported; what it meant is not known.
            let sure = !self.left_out_under(&["databases", database, "cutover", &i.to_string()]);
            out.extend(self.step(engine, step, sure));
        }
        out
    }

    fn step(&mut self, engine: Engine, spanned: &Spanned<CutoverSection>, sure: bool) -> Option<CutoverStep> {
        let (w, at) = (spanned.get_ref(), spanned.span());
        let rename = self.flag(w.rename.as_ref()).unwrap_or(false);
        let kinds = [
            w.proxy.is_some(),
            w.route53.is_some(),
            w.secret.is_some(),
            w.kubernetes.is_some(),
            rename,
            w.command.is_some(),
        ];
        if kinds.iter().filter(|k| **k).count() != 1 {
            if sure {
                self.problem(at, "a step of the cutover changes exactly one thing", KINDS);
            }
            return None;
        }
        self.strangers(w);
        let text = |t: &Option<Text>| t.as_ref().map(|t| t.get_ref().clone());
        let to = if let Some(name) = text(&w.proxy) {
            if engine == Engine::DocumentDb {
                self.problem(
                    at,
                    "DocumentDB has no proxy",
                    "Use `route53`, `secret`, `kubernetes` or `command`.",
                );
            }
            // "Currently, each proxy has one target group, named default" (RDS user guide, RDS Proxy concepts).
            if let Some(group) = w.target_group.as_ref().filter(|g| g.get_ref() != "default") {
                self.problem(
                    group.span(),
                    format!("a proxy has no target group `{}`: it has one, `default`", group.get_ref()),
                    "Leave `target-group` out.",
                );
            }
            Move::Proxy { name, within: self.duration(w.within.as_ref()).unwrap_or(WITHIN) }
        } else if let Some(zone) = text(&w.route53) {
            let Some(record) = text(&w.record) else {
                self.problem(at, "`record` is missing", "Write the name that the application connects to.");
                return None;
            };
            let ttl = self.duration(w.ttl.as_ref()).map_or(60, |d| u32::try_from(d.0).unwrap_or(u32::MAX));
            Move::Route53 { zone, record, ttl }
        } else if let Some(id) = text(&w.secret) {
            let mut keys = self.placeholders(&w.keys);
            if keys.is_empty() {
                keys.insert("host".into(), "{endpoint}".into());
            }
            Move::Secret { id, keys, region: self.step_region(w.region.as_ref()) }
        } else if let Some(workload) = text(&w.kubernetes) {
            Move::Kubernetes(self.kubernetes(&workload, w, at)?)
        } else if rename {
            Move::Rename
        } else {
            let words =
                |c: &Option<Spanned<Vec<Text>>>| c.as_ref().map(|c| dress(c.get_ref())).unwrap_or_default();
            let (run, undo) = (words(&w.command), words(&w.undo));
            if run.is_empty() || undo.is_empty() {
                self.problem(
                    at,
                    "a command of the cutover needs an `undo`",
                    "Write the program that takes it back: `undo = [\"/usr/local/bin/point-back\"]`.",
                );
            }
            Move::Command { run, undo, within: self.duration(w.within.as_ref()).unwrap_or(WITHIN) }
        };
        let health_within = self.duration(w.health_within.as_ref()).unwrap_or(Duration(300));
        if let Some(h) = &w.health
            && !(h.get_ref().starts_with("https://") || h.get_ref().starts_with("http://"))
        {
            self.problem(
                h.span(),
                "`health` is not a URL",
                "Write for example `https://api.example.com/health`.",
            );
        }
        Some(CutoverStep { to, health: text(&w.health), health_within })
    }

    fn kubernetes(&mut self, workload: &str, w: &CutoverSection, at: Range<usize>) -> Option<KubernetesMove> {
        let at = w.kubernetes.as_ref().map_or(at, Spanned::span);
        let parts = workload.split_once('/').map(|(kind, name)| (WorkloadKind::of(kind), name));
        let Some((Some(kind), name)) = parts.filter(|(_, name)| is_name(name)) else {
            let hint = "Write `kubernetes = \"deployment/NAME\"` or `\"statefulset/NAME\"`; for others use `command`.";
            self.problem(at, format!("`{workload}` is no workload that holdfast can change"), hint);
            return None;
        };
        let namespace = w.namespace.as_ref().map_or("default", |n| n.get_ref().as_str());
        if let Some(n) = w.namespace.as_ref().filter(|n| !is_name(n.get_ref()) || n.get_ref().contains('.')) {
            let hint = "Namespaces have lower-case letters, digits and hyphens.";
            self.problem(n.span(), format!("`{}` is not the name of a namespace", n.get_ref()), hint);
        }
        for name in w.env.keys().filter(|name| !is_variable(name.get_ref())) {
            let hint = "Write for example `env = { DATABASE_HOST = \"{endpoint}\" }`.";
            self.problem(name.span(), format!("`{}` is not the name of a variable", name.get_ref()), hint);
        }
        let env = self.placeholders(&w.env);
        if env.is_empty() {
            let hint = "Write for example `env = { DATABASE_HOST = \"{endpoint}\" }`.";
            self.problem(at, "this step changes no variable", hint);
        }
        Some(KubernetesMove {
            kind,
            name: name.to_string(),
            namespace: namespace.to_string(),
            context: w.context.as_ref().map(|t| t.get_ref().clone()),
            kubeconfig: w.kubeconfig.as_ref().map(|t| t.get_ref().clone()),
            env,
            scale: self.flag(w.scale.as_ref()).unwrap_or(false),
            within: self.duration(w.within.as_ref()).unwrap_or(WITHIN),
        })
    }

    fn step_region(&mut self, written: Option<&Text>) -> Option<Region> {
        let text = written?;
        match text.get_ref().parse::<Region>() {
            Ok(region) => Some(region),
            Err(e) => {
                self.problem(text.span(), e.to_string(), e.hint());
                None
            }
        }
    }

    /// Keys that belong to another kind of step.
    fn strangers(&mut self, w: &CutoverSection) {
        let first = |m: &Named<Text>| m.first_key_value().map(|(k, _)| k.span());
        let keys: [(&str, Option<Range<usize>>, bool); 12] = [
            ("target-group", w.target_group.as_ref().map(Spanned::span), w.proxy.is_some()),
            ("record", w.record.as_ref().map(Spanned::span), w.route53.is_some()),
            ("ttl", w.ttl.as_ref().map(Spanned::span), w.route53.is_some()),
            ("keys", first(&w.keys), w.secret.is_some()),
            ("region", w.region.as_ref().map(Spanned::span), w.secret.is_some()),
            ("context", w.context.as_ref().map(Spanned::span), w.kubernetes.is_some()),
            ("kubeconfig", w.kubeconfig.as_ref().map(Spanned::span), w.kubernetes.is_some()),
            (
                "within",
                w.within.as_ref().map(Spanned::span),
                w.kubernetes.is_some() || w.proxy.is_some() || w.command.is_some(),
            ),
            ("namespace", w.namespace.as_ref().map(Spanned::span), w.kubernetes.is_some()),
            ("env", first(&w.env), w.kubernetes.is_some()),
            ("scale", w.scale.as_ref().map(Spanned::span), w.kubernetes.is_some()),
            ("undo", w.undo.as_ref().map(Spanned::span), w.command.is_some()),
        ];
        for (key, span, fits) in keys {
            if let (Some(span), false) = (span, fits) {
                self.problem(span, format!("`{key}` does not belong to this kind of step"), "Take it out.");
            }
        }
    }

    fn placeholders(&mut self, w: &Named<Text>) -> BTreeMap<String, String> {
        let mut out = BTreeMap::new();
        for (key, value) in w {
            let mut rest = value.get_ref().as_str();
            while let Some((_, after)) = rest.split_once('{') {
                let name = after.split('}').next().unwrap_or("");
                if !PLACEHOLDERS.contains(&name) {
                    self.problem(
                        value.span(),
                        format!("`{{{name}}}` is not known here"),
                        "Write `{endpoint}`, `{reader}`, `{port}` or `{id}`.",
                    );
                }
                rest = after;
            }
            out.insert(key.get_ref().clone(), value.get_ref().clone());
        }
        out
    }
}
