//! What a verification will make, look at and remove. Printable as text and as JSON; changes nothing.

use super::choose::resolve;
use super::connect::Password;
use super::documents::driver;
use super::evidence::Level;
use super::{Request, begun};
use crate::error::{EngineError, Result};
use crate::managed::{Managed, observed, restore};
use holdfast_core::managed::{Engine, Scaling, tags as keys};
use holdfast_core::time::{Duration as Span, short};
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, UdpSocket};

/// Longer than any verification should take.
const LIFE: Span = Span(12 * 3600);

/// A verification, decided.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    /// Without its security groups: the run makes one, or takes [`Plan::groups`].
    pub restore: restore::Plan,
    /// Security groups that were set apart for this; empty: the run makes one.
    #[serde(default)]
    pub groups: Vec<String>,
    pub wanted: Level,
    /// Who may connect.
    pub cidr: String,
    pub port: u16,
    /// After this the reaper removes it.
    pub expires: Timestamp,
    pub request: Request,
    /// The operation that an earlier run began, and that this plan goes on with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resumes: Option<String>,
    /// Verifications of something else that were begun, and are finished before this one; in words.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub first: Vec<String>,
}

/// Decides everything. One that was begun and not finished is gone on with, if it is what is asked for; if it is
/// not, it is finished first.
///
/// # Errors
/// Whatever would fail later and can be seen now.
pub async fn plan(m: &Managed, r: &Request) -> Result<Plan> {
    let begun = begun(m, r)?;
    if let Some(plan) = begun.plan {
        return Ok(Plan { first: begun.others, ..plan });
    }
    let engine = m.source.engine;
    let wanted = r.level.unwrap_or_default();
    if engine == Engine::DocumentDb && wanted >= Level::L3 {
        driver(m)?;
    }
    let now = Timestamp::now();
    let life = i64::try_from(r.life.unwrap_or(LIFE).0).unwrap_or(i64::MAX);
    let expires = now
        .checked_add(SignedDuration::from_secs(life))
        .map_err(|e| EngineError::usage(format!("a copy cannot live so long: {e}"), "give some hours"))?;
    let expires = restore::moment::whole(expires);
    let mut set = r.set.clone();
    let groups = std::mem::take(&mut set.security_groups);
    let cidr = match &r.from_cidr {
        Some(_) if !groups.is_empty() => {
            return Err(EngineError::usage(
                "the security groups that are given say who may connect",
                "leave out --from-cidr, or the security groups of `isolated` in the policy",
            ));
        }
        Some(text) => checked_cidr(text)?,
        None if !groups.is_empty() => String::new(),
        None => own_address()?,
    };
    smallest(engine, &mut set);
    let request = restore::Request {
        to: name(m.name.as_str(), now),
        region: r.region.clone(),
        what: resolve(m, r.region.as_ref().unwrap_or(&m.source.region), &r.what).await?,
        role_arn: r.role_arn.clone(),
        set,
        tags: r.tags.clone().with(keys::EXPIRES, &expires.to_string()),
        temporary: true,
        resource_id: r.resource_id.clone(),
        ..restore::Request::default()
    };
    let mut restore = restore::plan(m, &request).await?;
    // Looking has just remembered the source, and with it its groups and the secret that RDS manages.
    if wanted >= Level::L3 {
        r.login.check(m)?;
    }
    alone(m, &groups)?;
    let port = restore.target.port.unwrap_or(if engine == Engine::DocumentDb { 27_017 } else { 5_432 });
    restore.target.port = Some(port);
    Ok(Plan {
        restore,
        groups,
        wanted,
        cidr,
        port,
        expires,
        request: r.clone(),
        resumes: None,
        first: begun.others,
    })
}

/// The source's own groups let in its applications: a copy in them could be taken for it.
fn alone(m: &Managed, groups: &[String]) -> Result<()> {
    let own = observed::last(m)?.map(|seen| seen.database.security_groups).unwrap_or_default();
    match groups.iter().find(|g| own.contains(g)) {
        None => Ok(()),
        Some(g) => Err(EngineError::refused(
            format!("`{}` itself is in security group `{g}`: a copy in it would not be alone", m.source),
            "name another group in `isolated`, or none: then one is made for the run",
        )),
    }
}

/// Storage is billed by its size, the instance by its class: the class can be chosen.
fn smallest(engine: Engine, set: &mut restore::Overrides) {
    match engine {
        Engine::Rds => {
            set.class.get_or_insert_with(|| "db.t4g.micro".into());
        }
        Engine::Aurora if set.class.is_none() => {
            set.class = Some(restore::SERVERLESS.into());
            set.scaling.get_or_insert(Scaling { min: 0.5, max: 1.0, pause_after: None });
        }
        Engine::Aurora if set.class.as_deref() == Some(restore::SERVERLESS) => {
            set.scaling.get_or_insert(Scaling { min: 0.5, max: 1.0, pause_after: None });
        }
        Engine::Aurora => {}
        Engine::DocumentDb => {
            set.class.get_or_insert_with(|| "db.t4g.medium".into());
        }
    }
    if engine.is_cluster() {
        set.instances.get_or_insert(1);
    }
    set.public.get_or_insert(false);
    set.deletion_protection = Some(false);
}

/// An identifier that says what it is, and leaves room for those of its instances.
fn name(db: &str, now: Timestamp) -> String {
    let db: String = clean(db).chars().take(24).collect();
    let tail = format!("{:04x}", rand::random::<u16>());
    clean(&format!("verify-{db}-{}-{tail}", now.strftime("%m%d%H%M%S")))
}

/// Lower case; what an identifier does not take becomes a hyphen, and hyphens stand alone.
fn clean(text: &str) -> String {
    let lower = text.to_ascii_lowercase();
    let parts = lower.split(|c: char| !c.is_ascii_alphanumeric()).filter(|p| !p.is_empty());
    parts.collect::<Vec<_>>().join("-")
}

/// An address or a network, and not all of them.
fn checked_cidr(text: &str) -> Result<String> {
    let bad = || {
        EngineError::usage(
            format!("`{text}` is not an address with the length of its network"),
            "write 10.0.0.7/32, or 10.0.0.0/24; everybody (/0) is nobody's isolation",
        )
    };
    let (address, length) = text.split_once('/').ok_or_else(bad)?;
    let address: IpAddr = address.parse().map_err(|_| bad())?;
    let length: u8 = length.parse().map_err(|_| bad())?;
    let most = if address.is_ipv4() { 32 } else { 128 };
    if !(1..=most).contains(&length) {
        return Err(bad());
    }
    Ok(format!("{address}/{length}"))
}

/// The address with which this host talks to its network. Nothing is sent.
fn own_address() -> Result<String> {
    let ask = || -> std::io::Result<IpAddr> {
        let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
        // Any address beyond the own network shows the route.
        socket.connect((Ipv4Addr::new(192, 0, 2, 1), 9))?;
        Ok(socket.local_addr()?.ip())
    };
    match ask() {
        Ok(ip) => Ok(format!("{ip}/32")),
        Err(e) => Err(EngineError::usage(
            format!("this host's own address is not known: {e}"),
            "give --from-cidr ADDRESS/32",
        )),
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.restore)?;
        let mut line = |name: &str, text: &str| writeln!(f, "  {name:<12}{text}");
        let isolated = match self.groups.is_empty() {
            true => format!("a security group of its own lets in {} at port {}", self.cidr, self.port),
            false => format!("security groups {}, set apart for this", self.groups.join(" ")),
        };
        line("isolated", &isolated)?;
        let checks = &self.request.checks;
        let always = match (self.restore.source.engine, self.wanted) {
            (Engine::DocumentDb, Level::L4) => "a login, the documents of every collection counted",
            (Engine::DocumentDb, Level::L3) => "a login",
            (_, Level::L4) => "a session in every database, rows counted, foreign keys followed, amcheck",
            (_, Level::L3) => "a session in every database",
            (_, Level::L2) => "the provider says that it is available",
        };
        line("looks at", always)?;
        // Below L4 nothing is asked of the content.
        if self.wanted >= Level::L4 {
            for a in &checks.assertions {
                line("", &a.name)?;
            }
            for c in &checks.fresh {
                line("", &format!("newest {}.{} within {}", c.table, c.column, c.within))?;
            }
            for c in &checks.collections {
                line("", &format!("{} ({})", c.name, c.collection))?;
            }
        }
        if self.wanted >= Level::L3 {
            let from = match &self.request.login.password {
                Password::Managed => "the secret that RDS manages".to_string(),
                Password::Secret { id, .. } => format!("secret {id}"),
                Password::Env(name) => format!("variable {name}"),
                Password::File(path) => format!("file {}", path.display()),
                Password::Reset => "set anew on the copy".into(),
                Password::None => "none".into(),
            };
            line("password", &from)?;
        }
        line("removed", &format!("at the end; by the reaper after {}", short(self.expires)))?;
        for other in &self.first {
            line("first", other)?;
        }
        match &self.resumes {
            Some(id) => line("resumes", id),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_fit_for_a_cluster_and_its_instances() {
        let now = "2026-11-22T04:05:06Z".parse().unwrap();
        for db in ["shop", "1st_Shop.eu--x", &"x".repeat(63)] {
            let name = name(db, now);
            assert!(name.starts_with("verify-") && name.len() <= 50, "{name}");
            let source = format!("aurora://us-east-1/{name}-1");
            assert!(source.parse::<holdfast_core::managed::Source>().is_ok(), "{source}");
        }
    }

    #[test]
    fn everybody_is_not_let_in() {
        for text in ["0.0.0.0/0", "::/0", "10.0.0.1", "10.0.0.1/33", "shop/32", ""] {
            assert!(checked_cidr(text).is_err(), "{text}");
        }
        assert_eq!(checked_cidr("10.0.0.7/32").unwrap(), "10.0.0.7/32");
    }

    #[test]
    fn the_smallest_class_unless_told_otherwise() {
        let mut set = restore::Overrides::default();
        smallest(Engine::Aurora, &mut set);
        assert_eq!((set.class.as_deref(), set.instances), (Some("db.serverless"), Some(1)));
        assert_eq!(set.scaling.unwrap().max, 1.0);
        let mut set = restore::Overrides { class: Some("db.r6g.large".into()), ..Default::default() };
        smallest(Engine::Rds, &mut set);
        assert_eq!((set.class.as_deref(), set.instances), (Some("db.r6g.large"), None));
    }
}
