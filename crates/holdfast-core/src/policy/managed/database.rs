//! What only a managed database has: [`ManagedDatabase`].

use super::Engine;
use super::alarm::Alarm;
use super::cutover::CutoverStep;
use super::pattern::IdPattern;
use super::written::{CheckSection, ConnectSection, IsolatedSection, PlaceSection};
use crate::policy::database::Source;
use crate::policy::file::{DatabaseSection, Named, Text};
use crate::policy::resolve::Resolver;
use crate::size::ByteSize;
use crate::time::Duration;
use serde::{Deserialize, Serialize};
use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::path::PathBuf;
use toml::Spanned;

/// The part of `[databases.NAME]` that is for managed databases.
#[derive(Debug, Clone, PartialEq)]
pub struct ManagedDatabase {
    pub engine: Engine,
    pub region: String,
    pub id: String,
    /// `db-…` or `cluster-…`: names the database, and its retained backups, after it is gone.
    pub resource_id: Option<String>,
    pub account: Option<String>,
    pub profile: Option<String>,
    /// Assumed for everything that is done to this database.
    pub role: Option<String>,
    pub encrypted: bool,
    /// The key that it is encrypted with, as far as the policy knows.
    pub kms_key: Option<String>,
    /// What it has allocated (RDS) or uses (Aurora, DocumentDB), for estimates.
    pub size: Option<ByteSize>,
    /// How much of it changes in a day, for estimates.
    pub daily_change: Option<ByteSize>,
    /// Dollars a month that backups may cost.
    pub budget: Option<u32>,
    /// Of snapshots that somebody asks for.
    pub snapshot_id: IdPattern,
    pub tags: BTreeMap<String, String>,
    pub connect: Option<Connect>,
    pub checks: BTreeMap<String, ContentCheck>,
    pub places: BTreeMap<String, Place>,
    pub cutover: Vec<CutoverStep>,
    pub alarms: BTreeMap<String, Alarm>,
}

impl ManagedDatabase {
    /// What a restore in `region` gets.
    pub fn place_in(&self, region: &str) -> Option<&Place> {
        self.place_of(region, None)
    }

    /// The same in another account than the database's, where `account` names one.
    pub fn place_of(&self, region: &str, account: Option<&str>) -> Option<&Place> {
        self.places.values().find(|p| p.region == region && p.account.as_deref() == account)
    }
}

/// `[databases.NAME.connect]`: how a restored copy is looked into.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Connect {
    pub user: String,
    pub database: Option<String>,
    pub password: Password,
    /// `None`: the provider's bundle.
    pub ca_file: Option<PathBuf>,
}

/// Where the password is; never what it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Password {
    /// A name or ARN in Secrets Manager.
    Secret(String),
    /// The name of a variable.
    Env(String),
    File(PathBuf),
}

/// `[databases.NAME.checks.CHECK]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContentCheck {
    pub content: Content,
    pub database: Option<String>,
    /// What the number must be.
    pub expect: Option<Expect>,
    /// The time may lie this far before the moment that was restored.
    pub within: Option<Duration>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Content {
    /// One row, one column: a number or a time.
    Sql(String),
    /// Documents are counted, all of them.
    Collection { name: String, newest: Option<String>, indexes: Vec<String> },
}

/// `> 0`
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Expect {
    pub relation: Relation,
    pub number: i64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Relation {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

impl Relation {
    /// Whether it holds of what compares like this; of what cannot be compared nothing does.
    pub fn holds_of(self, found: Option<Ordering>) -> bool {
        match self {
            Relation::Equal => found == Some(Ordering::Equal),
            Relation::NotEqual => matches!(found, Some(Ordering::Less | Ordering::Greater)),
            Relation::Less => found == Some(Ordering::Less),
            Relation::LessOrEqual => matches!(found, Some(Ordering::Less | Ordering::Equal)),
            Relation::Greater => found == Some(Ordering::Greater),
            Relation::GreaterOrEqual => matches!(found, Some(Ordering::Greater | Ordering::Equal)),
        }
    }
}

impl std::fmt::Display for Expect {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let sign = match self.relation {
            Relation::Equal => "=",
            Relation::NotEqual => "!=",
            Relation::Less => "<",
            Relation::LessOrEqual => "<=",
            Relation::Greater => ">",
            Relation::GreaterOrEqual => ">=",
        };
        write!(f, "{sign} {}", self.number)
    }
}

impl Expect {
    pub fn holds(self, found: i64) -> bool {
        self.relation.holds_of(Some(found.cmp(&self.number)))
    }

    pub fn parse(s: &str) -> Option<Expect> {
        const RELATIONS: [(&str, Relation); 6] = [
            (">=", Relation::GreaterOrEqual),
            ("<=", Relation::LessOrEqual),
            ("!=", Relation::NotEqual),
            (">", Relation::Greater),
            ("<", Relation::Less),
            ("=", Relation::Equal),
        ];
        RELATIONS.iter().find_map(|(sign, relation)| {
            let number = s.trim().strip_prefix(sign)?.trim().parse().ok()?;
            Some(Expect { relation: *relation, number })
        })
    }
}

/// `[databases.NAME.places.PLACE]`: what a restored database gets in a region. In the region of the source
/// what is not written is carried over from it; elsewhere nothing can be.
#[derive(Debug, Clone, PartialEq)]
pub struct Place {
    pub region: String,
    /// Twelve digits; `None`: that of the database.
    pub account: Option<String>,
    pub subnet_group: Option<String>,
    pub security_groups: Vec<String>,
    pub parameter_group: Option<String>,
    pub option_group: Option<String>,
    pub class: Option<String>,
    pub multi_az: Option<bool>,
    /// Of a cluster, which is restored without any.
    pub instances: Option<u32>,
    /// Serverless v2.
    pub capacity: Option<Capacity>,
    /// Where throwaway copies live.
    pub isolated: Option<Isolated>,
}

/// Aurora capacity units.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Capacity {
    pub min: f64,
    pub max: f64,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Isolated {
    pub subnet_group: String,
    /// Empty: Holdfast makes one for the run and removes it.
    pub security_groups: Vec<String>,
}

/// The texts without their places.
pub(super) fn dress(texts: &[Text]) -> Vec<String> {
    texts.iter().map(|t| t.get_ref().clone()).collect()
}

const SNAPSHOT_ID: &str = "{id}-manual-%Y%m%d-%H%M%S";

impl Resolver<'_> {
    pub(in crate::policy) fn managed_database(
        &mut self,
        name: &Text,
        w: &DatabaseSection,
        source: &Source,
    ) -> Option<ManagedDatabase> {
        let (engine, region, id) = source.managed()?;
        let database = name.get_ref().as_str();
        self.misplaced(
            [
                ("data-directory", w.data_directory.as_ref().map(Spanned::span)),
                ("bin-dir", w.bin_dir.as_ref().map(Spanned::span)),
                ("method", w.method.as_ref().map(Spanned::span)),
                ("members", w.members.first().map(Spanned::span)),
            ],
            "is for a PostgreSQL cluster that holdfast reads itself",
            "Take it out: the provider has the files of this database.",
        );
        let resource_id = w.resource_id.as_ref().map(|r| {
            let wanted = if engine.is_cluster() { "cluster-" } else { "db-" };
            let good = r.get_ref().strip_prefix(wanted).is_some_and(|rest| {
                !rest.is_empty() && rest.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit())
            });
            if !good {
                self.problem(
                    r.span(),
                    format!("this is no resource id of {engine}"),
                    format!("It looks like `{wanted}ABCDEFGHIJKLMNOPQRSTUVWXYZ`; the provider shows it beside the name."),
                );
            }
            r.get_ref().clone()
        });
        let connect = w.connect.as_ref().and_then(|c| self.connect(database, c));
        let mut checks = BTreeMap::new();
        for (check, c) in &w.checks {
            if let Some(found) = self.check(engine, check, c) {
                checks.insert(check.get_ref().clone(), found);
            }
        }
        if let (true, Some((check, _))) = (w.connect.is_none(), w.checks.first_key_value()) {
            let hint = format!("Add `[databases.{database}.connect]` with `user` and where its password is.");
            self.problem(check.span(), "checks need a connection", hint);
        }
        let places = self.places(engine, database, &w.places);
        let text = |t: &Option<Text>| t.as_ref().map(|t| t.get_ref().clone());
        Some(ManagedDatabase {
            engine,
            region: region.to_string(),
            id: id.to_string(),
            resource_id,
            account: self.account(w.account.as_ref()),
            profile: text(&w.profile),
            role: self.arn(w.role.as_ref(), "iam", "role"),
            encrypted: self.flag(w.encrypted.as_ref()).unwrap_or(true),
            kms_key: self.kms_key(w.kms_key.as_ref()),
            size: self.size(w.size.as_ref()),
            daily_change: self.size(w.daily_change.as_ref()),
            budget: w.budget.as_ref().map(|b| *b.get_ref()),
            snapshot_id: self.pattern(w.snapshot_id.as_ref(), SNAPSHOT_ID),
            tags: self.tags(&w.tags),
            connect,
            checks,
            places,
            cutover: self.cutover(engine, database, &w.cutover),
            alarms: self.alarms(database, &w.alarms),
        })
    }

    /// Complains of everything in `w` that only managed databases have.
    pub(in crate::policy) fn not_managed(&mut self, w: &DatabaseSection) {
        fn first<T>(m: &Named<T>) -> Option<std::ops::Range<usize>> {
            m.first_key_value().map(|(k, _)| k.span())
        }
        self.misplaced(
            [
                ("resource-id", w.resource_id.as_ref().map(Spanned::span)),
                ("account", w.account.as_ref().map(Spanned::span)),
                ("profile", w.profile.as_ref().map(Spanned::span)),
                ("role", w.role.as_ref().map(Spanned::span)),
                ("encrypted", w.encrypted.as_ref().map(Spanned::span)),
                ("kms-key", w.kms_key.as_ref().map(Spanned::span)),
                ("size", w.size.as_ref().map(Spanned::span)),
                ("daily-change", w.daily_change.as_ref().map(Spanned::span)),
                ("budget", w.budget.as_ref().map(Spanned::span)),
                ("snapshot-id", w.snapshot_id.as_ref().map(Spanned::span)),
                ("connect", w.connect.as_ref().map(Spanned::span)),
                ("cutover", w.cutover.first().map(Spanned::span)),
                ("tags", first(&w.tags)),
                ("checks", first(&w.checks)),
                ("places", first(&w.places)),
                ("alarms", first(&w.alarms)),
            ],
            "is for managed databases (rds://, aurora://, docdb://)",
            "Take it out.",
        );
    }

    fn connect(&mut self, database: &str, w: &Spanned<ConnectSection>) -> Option<Connect> {
        let c = w.get_ref();
        let path = ["databases", database, "connect"];
        if c.user.is_none() {
            self.missing(&path, "user", w.span(), "Write a role that may read what the checks read.");
        }
        let file = self.path(c.password_file.as_ref());
        let all = [
            c.password_secret.as_ref().map(|s| Password::Secret(s.get_ref().clone())),
            c.password_env.as_ref().map(|s| Password::Env(s.get_ref().clone())),
            file.map(Password::File),
        ];
        let mut given: Vec<Password> = all.into_iter().flatten().collect();
        if given.len() != 1 {
            self.problem(
                w.span(),
                "the password must come from exactly one place",
                "Write `password-secret` (Secrets Manager), `password-env` (a variable) or `password-file`.",
            );
        }
        Some(Connect {
            user: c.user.as_ref()?.get_ref().clone(),
            database: c.database.as_ref().map(|d| d.get_ref().clone()),
            password: given.pop()?,
            ca_file: self.path(c.ca_file.as_ref()),
        })
    }

    fn check(&mut self, engine: Engine, name: &Text, w: &CheckSection) -> Option<ContentCheck> {
        let good_name = self.name(name, "check");
        let content = match (&w.sql, &w.collection) {
            (Some(sql), None) if engine == Engine::DocumentDb => {
                self.problem(sql.span(), "DocumentDB has no SQL", "Write `collection = \"users\"`.");
                None
            }
            (None, Some(c)) if engine != Engine::DocumentDb => {
                self.problem(
                    c.span(),
                    "only DocumentDB has collections",
                    "Write `sql = \"select count(*) from users\"`.",
                );
                None
            }
            (Some(sql), None) => Some(Content::Sql(sql.get_ref().clone())),
            (None, Some(c)) => Some(Content::Collection {
                name: c.get_ref().clone(),
                newest: w.newest.as_ref().map(|n| n.get_ref().clone()),
                indexes: dress(&w.indexes),
            }),
            _ => {
                self.problem(
                    name.span(),
                    "a check looks at one thing",
                    "Write `sql`, or `collection` for DocumentDB.",
                );
                None
            }
        };
        let expect = w.expect.as_ref().and_then(|e| {
            let found = Expect::parse(e.get_ref());
            if found.is_none() {
                self.problem(
                    e.span(),
                    format!("`{}` expects nothing", e.get_ref()),
                    "Write for example `\"> 0\"`.",
                );
            }
            found
        });
        let within = self.duration(w.within.as_ref());
        let looks_at_time = w.sql.is_some() || w.newest.is_some();
        if let (Some(at), false) = (&w.within, looks_at_time) {
            self.problem(
                at.span(),
                "`within` needs a time",
                "Write `newest = \"createdAt\"`, the field that has it.",
            );
        }
        if expect.is_none()
            && within.is_none()
            && w.indexes.is_empty()
            && w.expect.is_none()
            && w.within.is_none()
        {
            self.problem(
                name.span(),
                "this check accepts anything",
                "Write `expect = \"> 0\"`, or `within = \"7d\"` for a time.",
            );
        }
        good_name?;
        let database = w.database.as_ref().map(|d| d.get_ref().clone());
        Some(ContentCheck { content: content?, database, expect, within })
    }

    fn places(&mut self, engine: Engine, database: &str, w: &Named<PlaceSection>) -> BTreeMap<String, Place> {
        let mut out: BTreeMap<String, Place> = BTreeMap::new();
        for (name, p) in w {
            let good_name = self.name(name, "place");
            let path = ["databases", database, "places", name.get_ref()];
            let Some(region) = &p.region else {
                self.missing(&path, "region", name.span(), "Write for example `region = \"us-west-2\"`.");
                continue;
            };
            let account = self.account(p.account.as_ref());
            if out.values().any(|o| o.region == *region.get_ref() && o.account == account) {
                let message = format!("there are two places in `{}`", region.get_ref());
                self.problem(region.span(), message, "A restore has to know which one: keep one of them.");
            }
            let fits = |w: bool| if w { None } else { Some(name.span()) };
            self.misplaced(
                [
                    ("instances", p.instances.as_ref().and_then(|_| fits(engine.is_cluster()))),
                    ("capacity", p.capacity.as_ref().and_then(|_| fits(engine == Engine::Aurora))),
                    ("multi-az", p.multi_az.as_ref().and_then(|_| fits(engine == Engine::Rds))),
                    ("option-group", p.option_group.as_ref().and_then(|_| fits(engine == Engine::Rds))),
                ],
                &format!("is nothing that {engine} has"),
                "Take it out: the provider would ignore it.",
            );
            let capacity = p.capacity.as_ref().and_then(|c| {
                let (min, max) = (c.get_ref().min.as_ref(), c.get_ref().max.as_ref());
                let found = min.zip(max).map(|(a, b)| Capacity { min: *a.get_ref(), max: *b.get_ref() });
                // Steps of half a unit, up to 256 (Aurora user guide, ServerlessV2ScalingConfiguration).
                let half = |v: f64| (v * 2.0).fract() == 0.0;
                let good = found.is_some_and(|f| {
                    f.min >= 0.0
                        && f.max >= 1.0
                        && f.min <= f.max
                        && f.max <= 256.0
                        && half(f.min)
                        && half(f.max)
                });
                if !good {
                    self.problem(
                        c.span(),
                        "this is no range of capacity",
                        "Write for example `{ min = 0.5, max = 16 }`.",
                    );
                }
                found
            });
            let place = Place {
                region: region.get_ref().clone(),
                account,
                subnet_group: p.subnet_group.as_ref().map(|s| s.get_ref().clone()),
                security_groups: dress(&p.security_groups),
                parameter_group: p.parameter_group.as_ref().map(|s| s.get_ref().clone()),
                option_group: p.option_group.as_ref().map(|s| s.get_ref().clone()),
                class: self.class(p.class.as_ref()),
                multi_az: self.flag(p.multi_az.as_ref()),
                instances: p.instances.as_ref().map(|n| *n.get_ref()),
                capacity,
                isolated: p.isolated.as_ref().and_then(|i| self.isolated(i)),
            };
            if let Some(n) = good_name {
                out.insert(n, place);
            }
        }
        out
    }

    fn isolated(&mut self, w: &Spanned<IsolatedSection>) -> Option<Isolated> {
        let Some(subnet_group) = &w.get_ref().subnet_group else {
            self.problem(
                w.span(),
                "`subnet-group` is missing",
                "Name one whose subnets reach nothing of production.",
            );
            return None;
        };
        let security_groups = dress(&w.get_ref().security_groups);
        Some(Isolated { subnet_group: subnet_group.get_ref().clone(), security_groups })
    }

    /// `db.t4g.micro`
    pub(super) fn class(&mut self, w: Option<&Text>) -> Option<String> {
        let w = w?;
        let c = w.get_ref();
        let good = c.strip_prefix("db.").is_some_and(|r| {
            !r.is_empty()
                && r.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b".-".contains(&b))
        });
        if !good {
            self.problem(
                w.span(),
                format!("`{c}` is not a class of instances"),
                "Write for example `db.t4g.micro`.",
            );
        }
        Some(c.clone())
    }

    pub(super) fn pattern(&mut self, w: Option<&Text>, default: &str) -> IdPattern {
        let text = w.map_or(default, |t| t.get_ref().as_str());
        match (text.parse::<IdPattern>(), w) {
            (Ok(p), _) => p,
            (Err(why), at) => {
                let hint = format!("Write for example `{default}`.");
                self.problem(at.map_or(0..0, Spanned::span), format!("`{text}` names nothing: {why}"), hint);
                IdPattern::plain()
            }
        }
    }

    /// Tags that the provider accepts and that do not clash with Holdfast's own.
    pub(super) fn tags(&mut self, w: &Named<Text>) -> BTreeMap<String, String> {
        let mut out = BTreeMap::new();
        for (key, value) in w {
            let (k, v) = (key.get_ref(), value.get_ref());
            let lower = k.to_ascii_lowercase();
            let allowed = |s: &str| s.chars().all(|c| c.is_alphanumeric() || " _.:/=+-@".contains(c));
            if lower.starts_with("aws:") || lower.starts_with("rds:") || lower.starts_with("holdfast:") {
                self.problem(key.span(), format!("`{k}` is a reserved tag"), "Choose another name for it.");
            } else if k.is_empty() || k.len() > 128 || v.len() > 256 || !allowed(k) || !allowed(v) {
                self.problem(
                    key.span(),
                    format!("`{k}` is a tag that the provider does not take"),
                    "Up to 128 letters for the name, 256 for the value: letters, digits, blanks and `_.:/=+-@`.",
                );
            }
            out.insert(k.clone(), v.clone());
        }
        out
    }
}
