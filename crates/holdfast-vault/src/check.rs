//! Is everything in a vault what it was when it was written? Findings, never repairs.
//!
//! [`check_cluster`] reads objects and judges them:
//! - every record: header, signature, text;
//! - every pack of a point: there, as long and with the digest that the manifest says; with the
//!   private key every frame is opened and its content digest compared;
//! - every map and manifest: complete, and pointing into packs that exist;
//! - every WAL object: authenticated; the segments that points need are there with the digest that
//!   the point names, and each timeline has no holes.
//!
//! With `fast` no pack is read: only records, manifests and the presence and length of packs.
//!
//! Where the store keeps versions, whatever lies over an object is a finding in either way: it costs
//! nothing more than the listing that is made anyway.

use crate::error::{Result, StoreErrorKind, VaultError};
use crate::keys::Signer;
use crate::lock;
use crate::names::{self, PackClass, PackId, run_of};
use crate::object::{HEADER_LEN, Header};
use crate::pack::{check_sealed, check_whole};
use crate::point::{Body, Point};
use crate::reader::{PackSet, PointReader};
use crate::store::Store;
use crate::store::versions::Hidden;
use crate::vault::{ClusterVault, Vault, unhex32};
use crate::walindex::WalListing;
use crate::walobj;
use holdfast_core::{Monitor, RunId, SegmentName};
use std::collections::{BTreeMap, BTreeSet};

/// Something that is not as it should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// Object (or point) that it concerns.
    pub name: String,
    pub what: String,
    /// Damage fails the check; the rest is worth knowing.
    pub damage: bool,
    /// Something lies over the object, which is itself whole: `check --undelete` takes it away.
    pub hidden: bool,
}

/// What a check went through.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CheckReport {
    pub points: u64,
    pub packs: u64,
    pub segments: u64,
    pub records: u64,
    pub bytes_read: u64,
    pub findings: Vec<Finding>,
}

impl CheckReport {
    fn damage(&mut self, name: &str, what: impl Into<String>) {
        self.findings.push(Finding { name: name.into(), what: what.into(), damage: true, hidden: false });
    }

    /// What lies over objects, of all that was listed. Nothing that a vault does puts it there.
    fn hidden(&mut self, all: Vec<Hidden>) {
        for h in all {
            let what = over(&h);
            self.findings.push(Finding { name: h.name, what, damage: true, hidden: true });
        }
    }

    fn blind(&mut self, store: &Store) {
        if store.blind() {
            self.note(
                "the bucket",
                "it keeps versions, and this role may not list them: what lies over objects is not seen; \
                 allow s3:ListBucketVersions",
            );
        }
    }

    /// The report of a cluster whose own record is missing.
    pub fn missing(name: &str) -> Self {
        let mut r = CheckReport::default();
        r.damage(name, "it is missing");
        r
    }

    /// The report of a cluster that cannot even be opened.
    pub fn of_error(name: &str, e: VaultError) -> Result<Self> {
        let mut r = CheckReport::default();
        r.absorb(name, e)?;
        Ok(r)
    }

    fn note(&mut self, name: &str, what: impl Into<String>) {
        self.findings.push(Finding { name: name.into(), what: what.into(), damage: false, hidden: false });
    }

    pub fn damaged(&self) -> bool {
        self.findings.iter().any(|f| f.damage)
    }

    /// Takes an error that means damage as a finding; anything else ends the check.
    fn absorb(&mut self, name: &str, e: VaultError) -> Result<()> {
        match e {
            VaultError::Damaged { name, what } => self.damage(&name, what),
            VaultError::Codec { name, what } => self.damage(&name, what),
            // What is missing is what was asked for, which may be a part of `name`.
            VaultError::Store(s) if s.kind == StoreErrorKind::NotFound => {
                self.damage(&s.name, "it is missing")
            }
            VaultError::WrongKey(_) => self.damage(name, "it needs the key of an epoch that nobody knows"),
            VaultError::NewerFormat { .. } => self.damage(name, "its format version is unknown"),
            e => return Err(e),
        }
        Ok(())
    }
}

/// What lies over an object, in words.
pub fn over(h: &Hidden) -> String {
    let markers = h.over.iter().filter(|o| o.marker).count();
    let times = |n: usize, one: &str| format!("{n} {one}{}", if n == 1 { "" } else { "s" });
    let parts = [(markers, "delete marker"), (h.over.len() - markers, "later version")];
    let parts: Vec<String> = parts.into_iter().filter(|(n, _)| *n > 0).map(|(n, w)| times(n, w)).collect();
    let last = h.over.iter().map(|o| o.at).max();
    let at = last.map(|t| format!(", the last of {}", holdfast_core::time::short(t))).unwrap_or_default();
    format!("somebody put {} over it{at}; the original is there, and is what is read", parts.join(" and "))
}

/// Is the version that would be kept one of ours? Its header says for which name it was sealed. What has no
/// header (the descriptor, copies of keys) was written in one piece, and is the oldest that was.
pub async fn is_original(vault: &Vault, h: &Hidden) -> Result<bool> {
    if h.over.iter().all(|o| o.marker) || !h.name.starts_with("db/") {
        return Ok(true);
    }
    let bytes = vault.store().head_of_version(&h.name, &h.original, HEADER_LEN as u64).await?;
    Ok(Header::decode(&bytes, vault.keys(), vault.place(&h.name)).is_ok())
}

/// Checks what stands above the clusters: the descriptor and its copy.
pub async fn check_descriptor(vault: &Vault) -> Result<CheckReport> {
    let mut report = CheckReport::default();
    if let Some(what) = vault.trouble() {
        let name = names::DESCRIPTOR;
        report.damage(name, format!("{what}; put a copy of `{}` in its place", names::DESCRIPTOR_COPY));
    }
    match vault.copy_of_descriptor().await {
        Ok(true) => {}
        Ok(false) => report.damage(names::DESCRIPTOR_COPY, "it is not a copy of the descriptor"),
        Err(e) if e.is_not_found() => {
            report.note(names::DESCRIPTOR_COPY, "it is missing; `holdfast init` run again writes it");
        }
        Err(e) => report.absorb(names::DESCRIPTOR_COPY, e)?,
    }
    let store = vault.store();
    if store.keeps_versions().await? {
        let _ = store.list("keys").await?;
        report.hidden(store.hidden("").into_iter().filter(|h| !h.name.starts_with("db/")).collect());
    }
    report.blind(store);
    Ok(report)
}

/// Checks one cluster's folder.
pub async fn check_cluster(cluster: &ClusterVault, fast: bool, monitor: &dyn Monitor) -> Result<CheckReport> {
    let mut report = CheckReport::default();
    let objects = cluster.store().list(&cluster.path().folder()).await?;
    report.hidden(cluster.store().hidden(&cluster.path().folder()));
    let sizes: BTreeMap<&str, u64> = objects.iter().map(|l| (l.name.as_str(), l.size)).collect();
    if !fast {
        monitor.event(holdfast_core::monitor::Event::Total(objects.iter().map(|o| o.size).sum()));
    }
    let (points, removed) = records(cluster, &sizes, &mut report).await?;
    missing_points(cluster, &points, &removed, &mut report);
    let mut used: BTreeMap<PackId, (u64, [u8; 32])> = BTreeMap::new();
    for p in &points {
        if monitor.cancelled() {
            break;
        }
        report.points += 1;
        if let Err(e) = walk_point(cluster, p, &sizes, &mut used, &mut report).await {
            report.absorb(&cluster.path().point(&p.id), e)?;
        }
    }
    packs(cluster, &used, &sizes, fast, monitor, &mut report).await?;
    wal(cluster, &points, &sizes, (fast, !removed.is_empty()), monitor, &mut report).await?;
    index(cluster, &sizes, &mut report).await?;
    if !fast {
        locks(cluster, &mut report).await?;
    }
    report.findings.sort_by(|a, b| (&a.name, &a.what).cmp(&(&b.name, &b.what)));
    report.findings.dedup();
    Ok(report)
}

/// Does the index tell of WAL that is not there? A sweep takes it out of the index first, so somebody else
/// removed it, and nobody would miss it.
async fn index(cluster: &ClusterVault, sizes: &BTreeMap<&str, u64>, report: &mut CheckReport) -> Result<()> {
    let size = cluster.record().wal_segment_size;
    for (segment, _) in WalListing::read(cluster).await?.segments(size) {
        let name = cluster.path().segment(segment.timeline, &segment.to_string());
        if !sizes.contains_key(name.as_str()) && cluster.store().head(&name).await?.is_none() {
            let index = cluster.path().index();
            report.damage(
                &name,
                format!("the index tells of it, and it is not there; remove `{index}`, which is made again"),
            );
        }
    }
    Ok(())
}

/// What is locked shorter than a point that needs it, where the vault is locked. A request for each object.
async fn locks(cluster: &ClusterVault, report: &mut CheckReport) -> Result<()> {
    let Some(rule) = cluster.store().lock_rule() else { return Ok(()) };
    if !cluster.store().knows_locks().await? {
        report.note("the bucket", "the policy asks for locks, and it knows none: nothing is locked");
        return Ok(());
    }
    let points = cluster.survey().await?.points;
    let found = match lock::look(cluster, &rule, &points, jiff::Timestamp::now()).await {
        // Found above.
        Err(e) if report.damaged() && !e.retryable() => return Ok(()),
        found => found?,
    };
    for s in found.short {
        let need = holdfast_core::time::short(s.need);
        let is = match s.now {
            Some(r) => format!("locked until {} only", holdfast_core::time::short(r.until)),
            None => "not locked".into(),
        };
        report.note(&s.name, format!("it is {is}, and a point needs it until {need}; see `holdfast lock`"));
    }
    Ok(())
}

/// Checks what one point needs: its packs, its tree, its WAL.
pub async fn check_point(
    cluster: &ClusterVault,
    point: &Point,
    fast: bool,
    monitor: &dyn Monitor,
) -> Result<CheckReport> {
    let mut report = CheckReport { points: 1, ..Default::default() };
    let folder = cluster.path().runs();
    let mut objects = cluster.store().list(&folder).await?;
    for need in &point.wal {
        let name = cluster.path().segment(need.name.timeline, &need.name.to_string());
        objects.extend(cluster.store().head(&name).await?);
    }
    let sizes: BTreeMap<&str, u64> = objects.iter().map(|l| (l.name.as_str(), l.size)).collect();
    let mut used: BTreeMap<PackId, (u64, [u8; 32])> = BTreeMap::new();
    if let Err(e) = walk_point(cluster, point, &sizes, &mut used, &mut report).await {
        report.absorb(&cluster.path().point(&point.id), e)?;
    }
    if !fast {
        let total = used.values().map(|(len, _)| len).sum();
        monitor.event(holdfast_core::monitor::Event::Total(total));
    }
    packs(cluster, &used, &sizes, fast, monitor, &mut report).await?;
    wal(cluster, std::slice::from_ref(point), &sizes, (fast, false), monitor, &mut report).await?;
    report.findings.retain(|f| f.damage);
    Ok(report)
}

/// Checks a point that was just written: reads back and authenticates every byte of the packs that its own
/// run wrote and of its WAL, walks its whole tree, and asks of the packs that were there before that they
/// are there.
pub async fn check_arrival(
    cluster: &ClusterVault,
    point: &Point,
    monitor: &dyn Monitor,
) -> Result<CheckReport> {
    let mut report = CheckReport { points: 1, ..Default::default() };
    let mut objects = cluster.store().list(&cluster.path().runs()).await?;
    for need in &point.wal {
        let name = cluster.path().segment(need.name.timeline, &need.name.to_string());
        objects.extend(cluster.store().head(&name).await?);
    }
    let sizes: BTreeMap<&str, u64> = objects.iter().map(|l| (l.name.as_str(), l.size)).collect();
    let mut used: BTreeMap<PackId, (u64, [u8; 32])> = BTreeMap::new();
    if let Err(e) = walk_point(cluster, point, &sizes, &mut used, &mut report).await {
        report.absorb(&cluster.path().point(&point.id), e)?;
    }
    let (own, before): (BTreeMap<_, _>, BTreeMap<_, _>) =
        used.into_iter().partition(|(id, _)| id.run == point.id);
    packs(cluster, &own, &sizes, false, monitor, &mut report).await?;
    packs(cluster, &before, &sizes, true, monitor, &mut report).await?;
    wal(cluster, std::slice::from_ref(point), &sizes, (false, false), monitor, &mut report).await?;
    report.findings.retain(|f| f.damage);
    Ok(report)
}

/// Every record opens and is signed; returns the points among them, and those that a sweep removed.
async fn records(
    cluster: &ClusterVault,
    sizes: &BTreeMap<&str, u64>,
    report: &mut CheckReport,
) -> Result<(Vec<Point>, BTreeMap<RunId, u64>)> {
    let mut points = Vec::new();
    let mut removed = BTreeMap::new();
    for name in sizes.keys() {
        if name.ends_with(".pack") || name.ends_with(".wal") || is_sealed_wal(name) {
            continue;
        }
        report.records += 1;
        match cluster.vault().get_record(name).await {
            Ok((Body::Point(p), _)) => {
                if run_of(name, "point").as_ref() == Some(&p.id) {
                    points.push(*p);
                } else {
                    report.damage(name, "it holds the record of another point");
                }
            }
            Ok((Body::Condemned(c), Signer::Operator)) => {
                removed.insert(c.run, c.generation);
            }
            Ok((Body::Condemned(_) | Body::Expired(_) | Body::Released(_), Signer::Host)) => {
                report.note(name, "a host signed it, who may not say this; it does not count");
            }
            Ok(_) => {}
            Err(e) => report.absorb(name, e)?,
        }
    }
    Ok((points, removed))
}

/// Each point counts one more than the highest that its run saw, so a hole is a point that was there.
/// (The newest one leaves no hole; whoever made it knows it from `failed` or from its own output.)
fn missing_points(
    cluster: &ClusterVault,
    points: &[Point],
    removed: &BTreeMap<RunId, u64>,
    report: &mut CheckReport,
) {
    let seen: BTreeSet<u64> = points.iter().map(|p| p.generation).chain(removed.values().copied()).collect();
    let known: BTreeSet<_> = points.iter().map(|p| &p.id).chain(removed.keys()).collect();
    let Some(last) = seen.last() else { return };
    let first = seen.first().unwrap_or(last);
    let holes = (last - first).saturating_add(1).saturating_sub(seen.len() as u64);
    let folder = cluster.path().points();
    if holes > 0 {
        report
            .damage(&folder, format!("{holes} of the points between the oldest and the newest are missing"));
    }
    for p in points {
        if let Some(parent) = p.parent.as_ref().filter(|id| !known.contains(id)) {
            report.note(
                &cluster.path().point(parent),
                format!("it is missing; point {} was compared with it and does not need it", p.id),
            );
        }
    }
}

/// The tree of a point is readable, and everything that it names exists.
async fn walk_point(
    cluster: &ClusterVault,
    point: &Point,
    sizes: &BTreeMap<&str, u64>,
    used: &mut BTreeMap<PackId, (u64, [u8; 32])>,
    report: &mut CheckReport,
) -> Result<()> {
    let mut known: BTreeSet<PackId> = BTreeSet::new();
    for p in &point.packs {
        let class = if p.class == "meta" { PackClass::Meta } else { PackClass::Data };
        let id = PackId { run: point.id.clone(), class, number: p.number };
        match unhex32(&p.digest) {
            Some(d) => {
                known.insert(id.clone());
                used.insert(id, (p.len, d));
            }
            None => report.damage(&cluster.path().point(&point.id), "a pack digest is malformed"),
        }
    }
    let packs = PackSet::new(cluster.clone());
    let reader = PointReader::open(packs.clone(), point).await?;
    for p in &reader.root().packs {
        if let Some(id) = packs.id(p.pack) {
            known.insert(id.clone());
            used.insert(id, (p.len, p.digest));
        }
    }
    for leaf_ref in reader.root().groups.iter().flat_map(|g| &g.leaves) {
        let checked = async {
            let leaf = reader.leaf(leaf_ref).await?;
            let chunks = reader.chunks(&leaf, true).await?;
            for entry in leaf.entries.iter().filter(|e| e.size > 0) {
                let (flat, fps) = chunks.flat(entry, &packs)?;
                if fps.len() as u64 != flat.blocks() {
                    let path = String::from_utf8_lossy(&entry.path).into_owned();
                    return Err(VaultError::damaged(
                        &cluster.path().point(&point.id),
                        format!("the fingerprints of `{path}` are incomplete"),
                    ));
                }
                for f in &flat.frames {
                    let id = packs.id(f.pack);
                    let len = id.as_ref().and_then(|id| used.get(id)).map(|(len, _)| *len);
                    if len.is_none_or(|len| f.end() > len) {
                        return Err(VaultError::damaged(
                            &packs.name(f.pack),
                            "a map names a frame that its pack does not have",
                        ));
                    }
                }
            }
            Ok(())
        };
        if let Err(e) = checked.await {
            report.absorb(&packs.name(leaf_ref.chunk.pack), e)?;
        }
    }
    for id in known {
        let name = cluster.path().pack(&id);
        if !sizes.contains_key(name.as_str()) {
            report.damage(&name, format!("it is missing, and point {} needs it", point.id));
        }
    }
    Ok(())
}

/// Every pack that a point needs is whole; packs that nobody needs are noted.
async fn packs(
    cluster: &ClusterVault,
    used: &BTreeMap<PackId, (u64, [u8; 32])>,
    sizes: &BTreeMap<&str, u64>,
    fast: bool,
    monitor: &dyn Monitor,
    report: &mut CheckReport,
) -> Result<()> {
    let (cold, mut archived) = (cluster.store().is_cold(), 0u64);
    let names: BTreeMap<String, (&PackId, &(u64, [u8; 32]))> =
        used.iter().map(|(id, want)| (cluster.path().pack(id), (id, want))).collect();
    for (name, (id, (len, digest))) in &names {
        let Some(size) = sizes.get(name.as_str()) else { continue };
        report.packs += 1;
        if size != len {
            report.damage(name, format!("it has {size} bytes instead of {len}"));
        }
        if fast || monitor.cancelled() {
            continue;
        }
        if cold && id.class == PackClass::Data {
            archived += 1;
            continue;
        }
        if let Err(e) = check_pack(cluster, name, id, digest, report).await {
            report.absorb(name, e)?;
        }
        monitor.advance(*size);
    }
    if archived > 0 {
        let what = format!(
            "{archived} data packs are archived: they are there, as long as they were written; not read"
        );
        report.note(&cluster.path().runs(), what);
    }
    for name in sizes.keys().filter(|n| n.ends_with(".pack") && !names.contains_key(**n)) {
        report.note(name, "no point needs it; `holdfast sweep` removes it");
    }
    Ok(())
}

async fn check_pack(
    cluster: &ClusterVault,
    name: &str,
    id: &PackId,
    digest: &[u8; 32],
    report: &mut CheckReport,
) -> Result<()> {
    let bytes = cluster.store().get(name).await?;
    report.bytes_read += bytes.len() as u64;
    let vault = cluster.vault();
    let readable = vault.keys().can_read() || id.class == PackClass::Meta;
    let footer = if readable {
        let digests = cluster.digests();
        check_whole(&bytes, vault.keys(), vault.id(), name, |loc, plain, digest| {
            if &digests.frame(plain) == digest {
                Ok(())
            } else {
                Err(VaultError::damaged(
                    name,
                    format!("frame {} has other content than its digest says", loc.index),
                ))
            }
        })?
    } else {
        check_sealed(&bytes, name)?
    };
    if &footer.digest != digest {
        return Err(VaultError::damaged(name, "it is another pack than the manifest names"));
    }
    Ok(())
}

/// WAL that is sealed as a segment is but is none of the archive's sequence: `.partial` files, and what
/// came under a name that was taken. (`.backup` and `.history` files are records.)
fn is_sealed_wal(name: &str) -> bool {
    name.contains("/wal/conflict/") || (name.contains("/wal/extra/") && name.ends_with(".partial"))
}

/// Opens a sealed WAL file, as far as the keys reach.
async fn check_wal_object(
    cluster: &ClusterVault,
    name: &str,
    fast: bool,
    report: &mut CheckReport,
) -> Result<walobj::WalHead> {
    let vault = cluster.vault();
    if fast {
        let b = cluster.store().get_range(name, 0..256).await?;
        return walobj::head(&b, vault.keys(), vault.place(name));
    }
    let b = cluster.store().get(name).await?;
    report.bytes_read += b.len() as u64;
    check_sealed(&b, name)?;
    walobj::changes(&b, vault.keys(), vault.place(name))?;
    if vault.keys().can_read() {
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        let (_, head) = walobj::decode(&b, vault.keys(), vault.id(), cluster.digests(), name, threads)?;
        Ok(head)
    } else {
        walobj::head(&b, vault.keys(), vault.place(name))
    }
}

/// Segments authenticate, points have theirs, timelines have no holes.
async fn wal(
    cluster: &ClusterVault,
    points: &[Point],
    sizes: &BTreeMap<&str, u64>,
    (fast, swept): (bool, bool),
    monitor: &dyn Monitor,
    report: &mut CheckReport,
) -> Result<()> {
    let mut by_timeline: BTreeMap<u32, Vec<u64>> = BTreeMap::new();
    let mut digests: BTreeMap<SegmentName, [u8; 32]> = BTreeMap::new();
    let wal_folder = cluster.path().wal();
    for (name, size) in sizes.iter().filter(|(n, _)| n.ends_with(".wal") && n.starts_with(&wal_folder)) {
        if monitor.cancelled() {
            break;
        }
        report.segments += 1;
        let file = name.rsplit('/').next().and_then(|f| f.strip_suffix(".wal"));
        let Some(segment) = file.and_then(|f| f.parse::<SegmentName>().ok()) else {
            report.note(name, "its name is not that of a segment");
            continue;
        };
        by_timeline
            .entry(segment.timeline.0)
            .or_default()
            .push(segment.number(cluster.record().wal_segment_size));
        match check_wal_object(cluster, name, fast, report).await {
            Ok(head) => {
                digests.insert(segment, head.digest);
            }
            Err(e) => report.absorb(name, e)?,
        }
        if !fast {
            monitor.advance(*size);
        }
    }
    for (name, size) in sizes.iter().filter(|(n, _)| is_sealed_wal(n)) {
        if let Err(e) = check_wal_object(cluster, name, fast, report).await {
            report.absorb(name, e)?;
        }
        if !fast {
            monitor.advance(*size);
        }
    }
    // Without a window for recovery to any time a sweep leaves each point the segments of its own: then a
    // gap that ends where a point begins is meant.
    let size = cluster.record().wal_segment_size;
    let begins: BTreeSet<(u32, u64)> =
        points.iter().map(|p| (p.timeline.0, size.segment_of(p.redo_lsn))).collect();
    for (tli, numbers) in &mut by_timeline {
        numbers.sort_unstable();
        for w in numbers.windows(2) {
            if let [a, b] = w
                && b - a > 1
                && !(swept && begins.contains(&(*tli, *b)))
            {
                let folder = cluster.path().wal_timeline(holdfast_core::TimelineId(*tli));
                report.note(&folder, format!("{} segments are missing after number {a:X}", b - a - 1));
            }
        }
    }
    for p in points {
        for need in &p.wal {
            let name = cluster.path().segment(need.name.timeline, &need.name.to_string());
            match digests.get(&need.name) {
                None if !sizes.contains_key(name.as_str()) => {
                    report.damage(&name, format!("it is missing, and point {} needs it", p.id));
                }
                Some(d) if unhex32(&need.digest).as_ref() != Some(d) => {
                    report.damage(&name, format!("it is not the segment that point {} was made with", p.id));
                }
                _ => {}
            }
        }
    }
    Ok(())
}
