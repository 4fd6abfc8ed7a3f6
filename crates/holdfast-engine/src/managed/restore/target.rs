//! What the new database looks like: [`shape`].
//!
//! The provider fills in its defaults for whatever is left out, and a database with the default security group and
//! parameters is one that nobody can reach or that behaves differently (provider rules X17). So everything is
//! carried from the source, as it is or as it was last seen, and replaced by what is asked for. What neither knows is
//! missing, and refused by name.

use super::{Overrides, Request};
use crate::error::{EngineError, Result};
use crate::managed::observed::Observed;
use holdfast_core::managed::{Engine, NewInstance, RestoreTarget, Scaling, Source, Tags};

/// The class of an instance that takes its size from the cluster's limits.
pub const SERVERLESS: &str = "db.serverless";
/// How a group is called that every region has: `default.postgres17`, `default:postgres-17`.
const DEFAULT_GROUP: &str = "default";

/// What the backup itself says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Backup {
    pub engine_name: String,
    /// GiB provisioned: less is not possible. `None` for clusters, which grow by themselves.
    pub size_gib: Option<u32>,
}

/// A database to be made, with its instances.
#[derive(Debug, Clone, PartialEq)]
pub struct Shape {
    pub target: RestoreTarget,
    /// Of a cluster: the first one becomes its writer.
    pub instances: Vec<NewInstance>,
    /// To be switched on at the end: a half-made database must be removable.
    pub protect: bool,
    pub notes: Vec<String>,
}

/// Decides. `like` is the source, as it is or was; its region tells whether its groups exist where `to` is.
///
/// # Errors
/// Settings that are missing or impossible, all missing ones at once.
pub fn shape(to: &Source, like: Option<&Observed>, backup: &Backup, request: &Request) -> Result<Shape> {
    let set = &request.set;
    fits_engine(to.engine, set)?;
    let mut missing = Missing::default();
    let mut notes = Vec::new();
    let here = request.account.is_none() && like.is_some_and(|l| l.database.source.region == to.region);
    let mut target = match like {
        Some(l) => RestoreTarget::like(&l.database, to.clone()),
        None => blank(to.clone()),
    };
    target.engine_name.clone_from(&backup.engine_name);
    target.engine_version.clone_from(&set.engine_version);

    if !here {
        target.subnet_group = None;
        target.security_groups.clear();
    }
    let groups = [&mut target.parameter_group, &mut target.option_group];
    groups.into_iter().for_each(|g| *g = g.take().filter(|name| here || name.starts_with(DEFAULT_GROUP)));
    replace(&mut target.subnet_group, &set.subnet_group);
    replace(&mut target.parameter_group, &set.parameter_group);
    replace(&mut target.option_group, &set.option_group);
    replace(&mut target.multi_az, &set.multi_az);
    replace(&mut target.availability_zone, &set.availability_zone);
    replace(&mut target.public, &set.public);
    replace(&mut target.port, &set.port);
    if set.storage_kind.is_some() {
        target.iops = None;
    }
    replace(&mut target.storage_kind, &set.storage_kind);
    replace(&mut target.allocated_gib, &set.allocated_gib);
    replace(&mut target.iops, &set.iops);
    replace(&mut target.throughput, &set.throughput);
    replace(&mut target.scaling, &set.scaling);
    replace(&mut target.key, &set.key);
    replace(&mut target.iam_auth, &set.iam_auth);
    if let Some(exports) = &set.log_exports {
        target.log_exports.clone_from(exports);
    }
    if !set.security_groups.is_empty() {
        target.security_groups.clone_from(&set.security_groups);
    }

    missing.unless(target.subnet_group.is_some(), "--subnet-group");
    // A temporary copy gets a group of its own.
    missing.unless(request.temporary || !target.security_groups.is_empty(), "--security-group");
    if request.temporary {
        if target.parameter_group.is_none() {
            notes
                .push("no parameter group is known there: the copy runs with the provider's defaults".into());
        }
        target.security_groups.clear();
        target.tags = Tags::default();
        target.multi_az = (to.engine == Engine::Rds).then_some(false);
        target.log_exports.clear();
        target.iam_auth = None;
        target.copy_tags = None;
    } else {
        missing.unless(target.parameter_group.is_some(), "--parameter-group");
        // A default one is chosen by AWS itself.
        let own = like.and_then(|l| l.database.option_group.as_ref());
        let own = own.filter(|name| !name.starts_with(DEFAULT_GROUP));
        missing.unless(target.option_group.is_some() || own.is_none(), "--option-group");
    }
    if target.multi_az == Some(true) && target.availability_zone.is_some() {
        return Err(EngineError::usage(
            "a Multi-AZ instance chooses its zones itself",
            "leave out the availability zone, or set Multi-AZ to no",
        ));
    }
    storage(backup, set)?;
    let instances = match to.engine {
        Engine::Rds => {
            replace(&mut target.class, &set.class);
            missing.unless(target.class.is_some(), "--class");
            Vec::new()
        }
        _ => {
            target.class = None;
            instances(to, like.filter(|_| !request.temporary), here, set, &mut missing)?
        }
    };
    missing.refuse(to, like, request.account.as_deref())?;
    scaling(target.scaling, &instances)?;
    for (key, value) in request.tags.iter() {
        target.tags.set(key, value);
    }
    let protect = match request.temporary {
        true => false,
        false => set.deletion_protection.unwrap_or(like.is_some_and(|l| l.database.deletion_protection)),
    };
    Ok(Shape { target, instances, protect, notes })
}

fn replace<T: Clone>(value: &mut Option<T>, by: &Option<T>) {
    if by.is_some() {
        value.clone_from(by);
    }
}

#[derive(Default)]
struct Missing(Vec<&'static str>);

impl Missing {
    fn unless(&mut self, known: bool, flag: &'static str) {
        if !known {
            self.0.push(flag);
        }
    }

    fn refuse(self, to: &Source, like: Option<&Observed>, account: Option<&str>) -> Result<()> {
        if self.0.is_empty() {
            return Ok(());
        }
        let there = account.map(|a| format!(" of account {a}")).unwrap_or_default();
        let and = account.map(|a| format!(" and account = \"{a}\"")).unwrap_or_default();
        let why = match like {
            Some(l) => format!("what `{}` uses does not exist in {}{there}", l.database.source, to.region),
            None => "the source is gone, and this host never saw it".into(),
        };
        Err(EngineError::usage(
            format!("{why}: it is not known what `{to}` should have"),
            format!(
                "give {}, or write it into [databases.NAME.places.PLACE] with region = \"{}\"{and}; the provider's own \
                 defaults are seldom what an application needs",
                self.0.join(", "),
                to.region
            ),
        ))
    }
}

fn fits_engine(engine: Engine, set: &Overrides) -> Result<()> {
    let cluster = [
        (set.instances.is_some(), "a number of instances"),
        (set.scaling.is_some(), "serverless limits"),
        (set.instance_parameter_group.is_some(), "a parameter group of its instances"),
        (set.key.is_some(), "another key (copy the snapshot with it first)"),
    ];
    let instance = [
        (set.allocated_gib.is_some(), "a size of its storage"),
        (set.iops.is_some() || set.throughput.is_some(), "a speed of its storage"),
        (set.multi_az.is_some(), "Multi-AZ (it has instances in several zones)"),
        (set.availability_zone.is_some(), "one availability zone"),
        (set.option_group.is_some(), "an option group"),
    ];
    let (wrong, what) = match engine.is_cluster() {
        true => (&instance[..], "cluster"),
        false => (&cluster[..], "instance"),
    };
    match wrong.iter().find(|(given, _)| *given) {
        Some((_, name)) => Err(EngineError::usage(
            format!("an {engine} {what} cannot be restored with {name}"),
            "leave that setting out",
        )),
        None => Ok(()),
    }
}

/// Storage never shrinks, and grows by at least a tenth (provider rules §5b).
fn storage(backup: &Backup, set: &Overrides) -> Result<()> {
    let (Some(has), Some(wanted)) = (backup.size_gib, set.allocated_gib) else { return Ok(()) };
    if wanted < has {
        return Err(EngineError::refused(
            format!("{wanted} GiB are less than the {has} GiB of the backup: storage does not shrink"),
            "restore with the same size; only a dump goes into a smaller one",
        ));
    }
    if wanted != has && wanted < has + has.div_ceil(10) {
        return Err(EngineError::refused(
            format!("{wanted} GiB are less than a tenth more than the {has} GiB of the backup"),
            format!("AWS takes {has} GiB, or {} and more", has + has.div_ceil(10)),
        ));
    }
    Ok(())
}

fn scaling(limits: Option<Scaling>, instances: &[NewInstance]) -> Result<()> {
    let serverless = instances.iter().any(|i| i.class == SERVERLESS);
    let Some(Scaling { min, max, .. }) = limits else {
        return match serverless {
            true => Err(EngineError::usage(
                format!("instances of class {SERVERLESS} need limits"),
                "give --acu MIN-MAX, such as 0.5-2",
            )),
            false => Ok(()),
        };
    };
    let half = |v: f64| (v * 2.0).fract() == 0.0;
    if half(min) && half(max) && min >= 0.0 && max >= 1.0 && min <= max {
        return Ok(());
    }
    Err(EngineError::usage(
        format!("serverless limits of {min} to {max} are not possible"),
        "give halves of a unit, at most 1 or more, such as 0.5-2",
    ))
}

/// The instances of a cluster: the source's, or as many and as large as asked for.
fn instances(
    to: &Source,
    like: Option<&Observed>,
    here: bool,
    set: &Overrides,
    missing: &mut Missing,
) -> Result<Vec<NewInstance>> {
    let known = like.map_or(&[][..], |l| &l.instances);
    let count = set.instances.map_or(known.len().max(1), |n| n as usize);
    if !(1..=16).contains(&count) {
        return Err(EngineError::usage(
            format!("a cluster has 1 to 16 instances, not {count}"),
            "without an instance nobody can connect",
        ));
    }
    let first = known.first();
    let mut out = Vec::new();
    for n in 0..count {
        let model = known.get(n).or(first);
        let class = set.class.clone().or_else(|| model.map(|m| m.class.clone()));
        let class = class.or_else(|| set.scaling.map(|_| SERVERLESS.to_string()));
        let Some(class) = class else {
            missing.unless(false, "--class");
            return Ok(Vec::new());
        };
        let group = model.and_then(|m| m.parameter_group.clone());
        let foreign = group.as_ref().is_some_and(|g| !here && !g.starts_with(DEFAULT_GROUP));
        if foreign && set.instance_parameter_group.is_none() && n == 0 {
            missing.unless(false, "--instance-parameter-group");
        }
        let id = to.named(&format!("{}-{}", to.id, n + 1)).map_err(|e| {
            EngineError::usage(format!("no name for instance {}: {e}", n + 1), "choose a shorter identifier")
        })?;
        let public = set.public.or_else(|| model.map(|m| m.public));
        out.push(NewInstance {
            id: id.id,
            class,
            parameter_group: set.instance_parameter_group.clone().or(group.filter(|_| !foreign)),
            availability_zone: None,
            public: public.filter(|_| to.engine == Engine::Aurora),
            promotion_tier: known.get(n).and_then(|m| m.promotion_tier),
            tags: Tags::default(),
        });
    }
    Ok(out)
}

fn blank(source: Source) -> RestoreTarget {
    RestoreTarget {
        source,
        engine_name: String::new(),
        engine_version: None,
        class: None,
        subnet_group: None,
        security_groups: Vec::new(),
        parameter_group: None,
        option_group: None,
        multi_az: None,
        availability_zone: None,
        public: None,
        port: None,
        storage_kind: None,
        allocated_gib: None,
        iops: None,
        throughput: None,
        scaling: None,
        key: None,
        iam_auth: None,
        log_exports: Vec::new(),
        copy_tags: None,
        deletion_protection: false,
        tags: Tags::default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::managed::testing::{observed_cluster, observed_instance};

    fn to(text: &str) -> Source {
        text.parse().unwrap()
    }

    fn backup(gib: Option<u32>) -> Backup {
        Backup { engine_name: "postgres".into(), size_gib: gib }
    }

    #[test]
    fn everything_comes_along_but_protection() {
        let like = observed_instance("rds://us-east-1/shop");
        let s = shape(&to("rds://us-east-1/shop-2"), Some(&like), &backup(Some(100)), &Request::default());
        let s = s.unwrap();
        let t = &s.target;
        assert_eq!(t.subnet_group.as_deref(), Some("private"));
        assert_eq!(t.security_groups, ["sg-1"]);
        assert_eq!(
            (t.parameter_group.as_deref(), t.option_group.as_deref()),
            (Some("shop-17"), Some("shop-opt"))
        );
        assert_eq!((t.class.as_deref(), t.multi_az, t.port), (Some("db.r6g.large"), Some(true), Some(5433)));
        assert_eq!(
            (t.log_exports.as_slice(), t.tags.get("team")),
            (&["postgresql".to_string()][..], Some("web"))
        );
        assert_eq!(t.tags.get("holdfast:database"), None);
        assert!(s.protect && !t.deletion_protection);
    }

    #[test]
    fn in_another_region_its_groups_are_missing_by_name() {
        let like = observed_instance("rds://us-east-1/shop");
        let dest = to("rds://us-west-2/shop");
        let mut r = Request::default();
        let e = shape(&dest, Some(&like), &backup(Some(100)), &r).unwrap_err();
        let hint = e.hint().unwrap();
        for flag in ["--subnet-group", "--security-group", "--parameter-group", "--option-group"] {
            assert!(hint.contains(flag), "{hint}");
        }
        assert!(!hint.contains("--class"), "{hint}");
        r.set.subnet_group = Some("west".into());
        r.set.security_groups = vec!["sg-9".into()];
        r.set.parameter_group = Some("west-17".into());
        r.set.option_group = Some("west-opt".into());
        let s = shape(&dest, Some(&like), &backup(Some(100)), &r).unwrap();
        assert_eq!((s.target.subnet_group.as_deref(), s.target.multi_az), (Some("west"), Some(true)));
        // Every region has the default groups.
        let mut like = like;
        like.database.parameter_group = Some("default.postgres17".into());
        r.set.parameter_group = None;
        let s = shape(&dest, Some(&like), &backup(Some(100)), &r).unwrap();
        assert_eq!(s.target.parameter_group.as_deref(), Some("default.postgres17"));
    }

    #[test]
    fn a_source_that_nobody_saw_needs_everything() {
        let e = shape(&to("rds://us-east-1/shop-2"), None, &backup(None), &Request::default()).unwrap_err();
        let hint = e.hint().unwrap();
        for flag in ["--subnet-group", "--security-group", "--parameter-group", "--class"] {
            assert!(hint.contains(flag), "{hint}");
        }
    }

    #[test]
    fn clusters_get_the_instances_that_the_source_has() {
        let like = observed_cluster("aurora://us-east-1/feed");
        let dest = to("aurora://us-east-1/feed-2");
        let mut r = Request::default();
        let s = shape(&dest, Some(&like), &backup(None), &r).unwrap();
        let got: Vec<_> =
            s.instances.iter().map(|i| (i.id.as_str(), i.class.as_str(), i.promotion_tier)).collect();
        let expected = [("feed-2-1", "db.r6g.large", Some(0)), ("feed-2-2", SERVERLESS, Some(5))];
        assert_eq!(got, expected);
        assert_eq!(s.target.class, None);
        (r.set.instances, r.set.class) = (Some(3), Some("db.r8g.large".into()));
        let s = shape(&dest, Some(&like), &backup(None), &r).unwrap();
        assert_eq!(s.instances.iter().filter(|i| i.class == "db.r8g.large").count(), 3);
        r.set.instances = Some(0);
        assert!(shape(&dest, Some(&like), &backup(None), &r).is_err());
    }

    #[test]
    fn serverless_needs_limits() {
        let mut like = observed_cluster("aurora://us-east-1/feed");
        like.database.scaling = None;
        let dest = to("aurora://us-east-1/feed-2");
        let mut r = Request::default();
        r.set.class = Some(SERVERLESS.into());
        let e = shape(&dest, Some(&like), &backup(None), &r).unwrap_err();
        assert!(e.hint().unwrap().contains("--acu"), "{e}");
        for (min, max, ok) in
            [(0.5, 1.0, true), (0.0, 8.0, true), (2.0, 1.0, false), (0.3, 1.0, false), (0.5, 0.5, false)]
        {
            r.set.scaling = Some(Scaling { min, max, pause_after: None });
            assert_eq!(shape(&dest, Some(&like), &backup(None), &r).is_ok(), ok, "{min} to {max}");
        }
    }

    #[test]
    fn storage_never_shrinks_and_grows_by_a_tenth() {
        let like = observed_instance("rds://us-east-1/shop");
        let mut r = Request::default();
        for (gib, ok) in [(99, false), (100, true), (105, false), (110, true)] {
            r.set.allocated_gib = Some(gib);
            let got = shape(&to("rds://us-east-1/shop-2"), Some(&like), &backup(Some(100)), &r);
            assert_eq!(got.is_ok(), ok, "{gib}");
        }
        let feed = observed_cluster("aurora://us-east-1/feed");
        let e = shape(&to("aurora://us-east-1/feed-2"), Some(&feed), &backup(None), &r).unwrap_err();
        assert!(e.to_string().contains("size of its storage"), "{e}");
    }

    #[test]
    fn a_temporary_copy_is_small_and_alone() {
        let like = observed_instance("rds://us-east-1/shop");
        let mut r = Request { temporary: true, ..Request::default() };
        r.set.class = Some("db.t4g.micro".into());
        let s = shape(&to("rds://us-east-1/v-1"), Some(&like), &backup(Some(100)), &r).unwrap();
        assert_eq!((s.target.class.as_deref(), s.target.multi_az), (Some("db.t4g.micro"), Some(false)));
        // A tag of the source may put the copy into somebody's backup plan.
        assert_eq!(s.target.tags.get("team"), None);
        assert!(!s.protect && s.target.log_exports.is_empty());
    }
}
