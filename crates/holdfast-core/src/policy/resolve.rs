//! From what is written to what is meant: [`resolve`].
//!
//! Each noun resolves itself in its own file, as a method of [`Resolver`], which collects problems
//! instead of stopping. A value that could not be resolved becomes `None` (or its default) *and* a
//! problem; a policy comes out only when there was no problem at all, so no default can slip in.

use super::env::Lookup;
use super::file::{PlanSection, PolicyFile, Reading, Scalar, Text, list, read};
use super::locate::{Position, nearest};
use super::managed::{VaultPlace, is_managed_place};
use super::problem::{PolicyError, Problem};
use super::{Policy, Source, database};
use crate::id::DatabaseName;
use crate::time::Duration;
use std::collections::BTreeMap;
use std::ops::Range;
use std::path::{Path, PathBuf};
use toml::Spanned;

/// See [`Policy::parse_with`].
pub fn resolve(text: &str, origin: &Path, lookup: Lookup<'_>) -> Result<Policy, PolicyError> {
    let Reading { file, mistakes, left_out, places } = read(text, lookup);
    let mut r = Resolver {
        text,
        origin,
        problems: Vec::new(),
        left_out,
        vaults: Vec::new(),
        cold: Vec::new(),
        managed_places: BTreeMap::new(),
        managed_vaults: Vec::new(),
        policies: Vec::new(),
    };
    for m in mistakes {
        r.problem(m.span, m.message, m.hint);
    }
    let Some(file) = file else { return Err(r.into_error()) };

    if file.version.is_none() {
        r.missing(&[], "version", 0..0, "Write `version = 1` as the first line.");
    }
    let managed =
        |v: &super::file::VaultSection| v.url.as_ref().is_some_and(|u| is_managed_place(&u.get_ref().0));
    for (name, v) in &file.vaults {
        let names = if managed(v) { &mut r.managed_vaults } else { &mut r.vaults };
        names.push(name.get_ref().clone());
    }
    r.policies = file.policies.keys().map(|n| n.get_ref().clone()).collect();

    let mut vaults: BTreeMap<String, super::Vault> = BTreeMap::new();
    let mut managed_vaults: BTreeMap<String, super::ManagedVault> = BTreeMap::new();
    for (name, section) in &file.vaults {
        let twin = if managed(section) {
            let Some(vault) = r.managed_vault(name, section) else { continue };
            let same = |v: &&super::ManagedVault| v.place == vault.place && v.account == vault.account;
            let twin = managed_vaults.values().find(same).map(|v| v.name.clone());
            r.managed_places.insert(vault.name.clone(), vault.place.clone());
            managed_vaults.insert(vault.name.clone(), vault);
            twin
        } else {
            let Some(vault) = r.vault(name, section) else { continue };
            let place = |url: &str| url.trim_end_matches('/').to_string();
            let same = |v: &&super::Vault| place(&v.url) == place(&vault.url) && v.options == vault.options;
            let twin = vaults.values().find(same).map(|v| v.name.clone());
            vaults.insert(vault.name.clone(), vault);
            twin
        };
        if let (Some(twin), Some(url)) = (twin, &section.url) {
            r.problem(
                url.span(),
                format!("vaults `{twin}` and `{}` are the same place", name.get_ref()),
                "Give each vault a place of its own: two names for one place are one copy.",
            );
        }
    }
    r.cold = vaults.values().filter(|v| v.is_cold()).map(|v| v.name.clone()).collect();
    let mut policies = BTreeMap::new();
    let mut managed_plans = BTreeMap::new();
    for (name, section) in &file.policies {
        if r.is_managed_plan(&file, name, section) {
            if let Some(plan) = r.managed_plan(name, section) {
                managed_plans.insert(name.get_ref().clone(), plan);
            }
        } else if let Some(plan) = r.plan(name, section) {
            policies.insert(name.get_ref().clone(), plan);
        }
    }
    let mut databases: BTreeMap<DatabaseName, super::Database> = BTreeMap::new();
    for (name, section) in &file.databases {
        let Some(mut db) = r.database(name, section) else { continue };
        if db.managed.is_none() {
            let plan = policies.get(&db.policy);
            db.vault_names = plan.map_or_else(|| r.hot_vaults(), |p| r.vaults_of(p));
            if r.hot_vaults().is_empty() && !r.left_out_at_top() {
                r.problem(
                    name.span(),
                    "there is no vault for this database",
                    "Add a `[vaults.local]` section.",
                );
            }
        }
        databases.insert(db.name.clone(), db);
    }
    let state_dir = r.path(file.state_dir.as_ref());
    let tuning = r.tuning(&file.tuning);
    let limits = r.limits(&file.limits);
    let prices = r.prices(&file.prices);

    if !r.problems.is_empty() {
        return Err(r.into_error());
    }
    Ok(Policy {
        origin: origin.to_path_buf(),
        state_dir,
        databases,
        vaults,
        managed_vaults,
        policies,
        managed_plans,
        tuning,
        limits,
        prices,
        places,
    })
}

/// Collects problems while the nouns resolve themselves.
pub(super) struct Resolver<'a> {
    text: &'a str,
    origin: &'a Path,
    problems: Vec<Problem>,
    left_out: Vec<Vec<String>>,
    /// The names of all native vaults written, resolvable or not.
    pub(super) vaults: Vec<String>,
    /// Those of them that are cold.
    pub(super) cold: Vec<String>,
    /// Where the managed vaults that could be resolved are.
    pub(super) managed_places: BTreeMap<String, VaultPlace>,
    /// The names of all vaults of the managed plane that are written.
    pub(super) managed_vaults: Vec<String>,
    /// The names of all policies written, resolvable or not.
    pub(super) policies: Vec<String>,
}

impl Resolver<'_> {
    pub(super) fn problem(&mut self, at: Range<usize>, message: impl Into<String>, hint: impl IntoHint) {
        let Position { line, column } = Position::of(self.text, at.start);
        let file = self.origin.to_path_buf();
        self.problems.push(Problem { file, line, column, message: message.into(), hint: hint.into_hint() });
    }

    /// Complains of keys that are written where they mean nothing.
    pub(super) fn misplaced<const N: usize>(
        &mut self,
        keys: [(&str, Option<Range<usize>>); N],
        what: &str,
        hint: &str,
    ) {
        for (key, span) in keys {
            if let Some(span) = span {
                self.problem(span, format!("`{key}` {what}"), hint);
            }
        }
    }

    /// Whether the databases that follow this plan are managed; of one that nobody follows, what it says.
    fn is_managed_plan(&mut self, file: &PolicyFile, name: &Text, w: &PlanSection) -> bool {
        let follows = file
            .databases
            .values()
            .filter(|d| d.policy.as_ref().is_some_and(|p| p.get_ref() == name.get_ref()));
        let sources = follows.filter_map(|d| Source::parse(&d.source.as_ref()?.get_ref().0).ok());
        let (managed, native): (Vec<Source>, Vec<Source>) = sources.partition(|s| s.managed().is_some());
        if !managed.is_empty() && !native.is_empty() {
            self.problem(
                name.span(),
                format!("policy `{}` is followed by native and by managed databases", name.get_ref()),
                "Make a policy for each: they go to different vaults and keep their log in different ways.",
            );
        }
        let named = |v: &Text| self.managed_vaults.contains(v.get_ref());
        let to_managed =
            w.tiers.values().filter_map(|t| t.vaults.as_ref()).flat_map(|v| v.get_ref()).any(named)
                || w.copies.values().filter_map(|c| c.to.as_ref()).any(named);
        !managed.is_empty() || (native.is_empty() && (w.pitr.is_some() || to_managed))
    }

    fn into_error(mut self) -> PolicyError {
        self.problems.sort_by_key(|p| (p.line, p.column));
        PolicyError { problems: self.problems }
    }

    /// Reports that the table at `path` lacks `key`, unless a neighbour was left out: it may be
    /// that very key, misspelt, and has been reported.
    pub(super) fn missing(&mut self, path: &[&str], key: &str, at: Range<usize>, hint: &str) {
        if self.left_out_under(path) {
            return;
        }
        let place = if path.is_empty() { String::new() } else { format!(" in [{}]", path.join(".")) };
        self.problem(at, format!("`{key}` is missing{place}"), hint);
    }

    /// Whether an entry directly in the table at `path` was left out.
    pub(super) fn left_out_under(&self, path: &[&str]) -> bool {
        self.left_out.iter().any(|p| p.len() == path.len() + 1 && p.iter().zip(path).all(|(a, b)| a == b))
    }

    pub(super) fn was_left_out(&self, path: &[&str], key: &str) -> bool {
        let wanted: Vec<&str> = path.iter().copied().chain([key]).collect();
        self.left_out.iter().any(|p| *p == wanted)
    }

    /// Whether a whole section was left out, so that any name may be missing.
    pub(super) fn left_out_at_top(&self) -> bool {
        self.left_out_under(&[])
    }

    /// A name of the user's own, fit to be a folder.
    pub(super) fn name(&mut self, name: &Text, what: &str) -> Option<String> {
        match name.get_ref().parse::<DatabaseName>() {
            Ok(_) => Some(name.get_ref().clone()),
            Err(e) => {
                let message = format!("`{}` is not a valid {what} name", e.value);
                self.problem(name.span(), message, database::sentence(e.rule));
                None
            }
        }
    }

    /// The vaults that backups can go to.
    pub(super) fn hot_vaults(&self) -> Vec<String> {
        self.vaults.iter().filter(|v| !self.cold.contains(v)).cloned().collect()
    }

    /// What a database of this plan uses, in the order in which it is tried.
    pub(super) fn vaults_of(&self, plan: &super::Plan) -> Vec<String> {
        let mut out = match plan.tier_vaults() {
            none if none.is_empty() => self.hot_vaults(),
            tiers => tiers,
        };
        for c in plan.copies.values() {
            if !out.contains(&c.to) {
                out.push(c.to.clone());
            }
        }
        out
    }

    pub(super) fn known_vault(&mut self, name: &Text) -> Option<String> {
        if self.managed_vaults.contains(name.get_ref()) {
            self.problem(
                name.span(),
                format!(
                    "vault `{}` is of the managed plane, and this policy is for native databases",
                    name.get_ref()
                ),
                "Name a vault that holdfast writes, such as `file:///…` or `s3://…`.",
            );
            return None;
        }
        let known = self.vaults.clone();
        self.known(name, "vault", "vaults", &known)
    }

    pub(super) fn known_managed_vault(&mut self, name: &Text) -> Option<String> {
        if self.vaults.contains(name.get_ref()) {
            self.problem(
                name.span(),
                format!(
                    "holdfast writes to vault `{}` itself, and this policy is for managed databases",
                    name.get_ref()
                ),
                "Name a vault `snapshots://REGION` or `aws-backup://REGION/VAULT`.",
            );
            return None;
        }
        let known = self.managed_vaults.clone();
        self.known(name, "vault", "vaults", &known)
    }

    pub(super) fn known_policy(&mut self, name: &Text) -> Option<String> {
        let known = self.policies.clone();
        self.known(name, "policy", "policies", &known)
    }

    fn known(&mut self, name: &Text, what: &str, section: &str, known: &[String]) -> Option<String> {
        let n = name.get_ref();
        if known.contains(n) {
            return Some(n.clone());
        }
        if self.was_left_out(&[section], n) || self.left_out_at_top() {
            return None;
        }
        let hint = match nearest(n, known.iter().map(String::as_str)) {
            Some(k) => format!("Did you mean `{k}`?"),
            None if known.is_empty() => format!("Add a `[{section}.{n}]` section."),
            None => format!("There is {}; or add a `[{section}.{n}]` section.", list(known)),
        };
        self.problem(name.span(), format!("there is no {what} `{n}`"), hint);
        None
    }

    /// A path, joined to the folder of the policy file.
    pub(super) fn path(&mut self, written: Option<&Text>) -> Option<PathBuf> {
        let w = written?;
        let text = w.get_ref();
        if text.is_empty() || text.contains('\0') {
            self.problem(w.span(), "this is not a path", "Write an absolute path.");
        } else if text == "~" || text.starts_with("~/") || text.starts_with('$') {
            self.problem(
                w.span(),
                format!("`{text}` is not expanded here as a shell would"),
                "Write the whole path; a relative one starts at the folder of the policy file.",
            );
        }
        Some(self.origin.parent().unwrap_or(Path::new("")).join(text))
    }

    /// A span of time, more than nothing and less than a century.
    pub(super) fn duration(&mut self, written: Option<&Spanned<Scalar>>) -> Option<Duration> {
        const EXAMPLE: &str = "Write for example `\"30d\"`, `\"12h\"`, `\"5m\"` or `\"90s\"`.";
        const CENTURY: u64 = 36_525 * 86_400;
        let w = written?;
        let text = w.get_ref();
        let message = match text {
            Scalar::Number(n) => format!("`{n}` has no unit"),
            Scalar::Flag(_) => format!("`{text}` is not a span of time"),
            Scalar::Text(t) => match t.parse::<Duration>() {
                Ok(Duration(0)) => format!("`{t}` is no time at all"),
                Ok(Duration(s)) if s > CENTURY => format!("`{t}` is more than a century"),
                Ok(d) => return Some(d),
                Err(_) => format!("`{t}` is not a span of time"),
            },
        };
        self.problem(w.span(), message, EXAMPLE);
        None
    }
}

/// What can be given as a hint.
pub(super) trait IntoHint {
    fn into_hint(self) -> Option<String>;
}

impl IntoHint for &str {
    fn into_hint(self) -> Option<String> {
        Some(self.to_string())
    }
}

impl IntoHint for String {
    fn into_hint(self) -> Option<String> {
        Some(self)
    }
}

impl IntoHint for Option<String> {
    fn into_hint(self) -> Option<String> {
        self
    }
}
