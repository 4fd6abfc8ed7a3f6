//! WAL from one vault to another: segments, histories and what lies beside them.
//!
//! A segment is read whole, authenticated to its last byte, sealed anew and created under its name, if that
//! is free. Where the name is taken, the content is compared: the same is success, other content is a
//! conflict, and nothing of it is overwritten. So copying can be repeated, and run beside `wal push`.
//!
//! Order: histories first, then segments from the oldest on, so that a copy that was broken off leaves an
//! archive that ends early, not one with holes.

use super::Pair;
use crate::context::Context;
use crate::error::{EngineError, Result};
use crate::wal::archive::{file_body, read_file, segment_head};
use futures::{StreamExt, TryStreamExt};
use holdfast_core::policy::Compression;
use holdfast_core::{SegmentName, TimelineId};
use holdfast_pgformat::walname::WalFileName;
use holdfast_vault::point::{Body, WalNeed};
use holdfast_vault::vault::{hex, unhex32};
use holdfast_vault::walindex::WalListing;
use holdfast_vault::walobj::{self, Held, WalHead};
use holdfast_vault::{ClusterVault, Signer, StoreErrorKind, VaultError};
use std::collections::BTreeSet;

/// Segments under way at once.
const PARALLEL: usize = 4;

/// What was brought.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize)]
pub struct WalCopied {
    pub segments: u64,
    /// Histories, `.partial` and `.backup` files, records of owners.
    pub others: u64,
    pub stored_bytes: u64,
}

impl WalCopied {
    pub fn add(&mut self, other: WalCopied) {
        self.segments += other.segments;
        self.others += other.others;
        self.stored_bytes += other.stored_bytes;
    }
}

fn threads() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from).min(4)
}

/// Seals the content of a WAL object for `target` and creates it under `name`; bytes added, 0 if it was there.
async fn create(
    target: &ClusterVault,
    name: &str,
    file: &Held,
    compression: Compression,
) -> Result<(u64, [u8; 32])> {
    let ctx = target.seal_context();
    let (body, digest) = walobj::encode(&ctx, name, file, compression, threads())?;
    let len = body.len() as u64;
    match target.store().create(name, body).await {
        Ok(_) => Ok((len, digest)),
        Err(e) if e.store_kind() == Some(StoreErrorKind::Exists) => {
            let b = target.store().get_range(name, 0..holdfast_vault::object::HEADER_LEN as u64).await?;
            let there = walobj::head(&b, target.vault().keys(), target.vault().place(name))?;
            if there.digest == digest {
                Ok((0, digest))
            } else {
                Err(VaultError::WalConflict { name: name.into() }.into())
            }
        }
        Err(e) => Err(e.into()),
    }
}

/// Opens a WAL object of the source.
async fn open(pair: &Pair, name: &str) -> Result<(Held, WalHead)> {
    let source = &pair.source;
    let bytes = source.store().get(name).await?;
    let vault = source.vault();
    let opened = || {
        let (plain, head) =
            walobj::decode(&bytes, vault.keys(), vault.id(), source.digests(), name, threads())?;
        // Which pages it changes goes along: incrementals may be taken into any vault.
        let changes = walobj::changes(&bytes, vault.keys(), vault.place(name))?.unwrap_or_default();
        Ok((Held { plain, facts: head.facts, changes }, head))
    };
    opened().map_err(|e| pair.of_source(e))
}

/// Brings one segment; what it added, and its digest in the target.
async fn segment(pair: &Pair, s: SegmentName, expected: Option<&str>) -> Result<(u64, [u8; 32])> {
    let from = pair.source.path().segment(s.timeline, &s.to_string());
    let to = pair.target.path().segment(s.timeline, &s.to_string());
    let there = segment_head(&pair.target, s).await?;
    let known = expected.and_then(unhex32);
    if let Some(there) = &there
        && pair.one_secret()
        && known.is_none_or(|k| k == there.digest)
    {
        return Ok((0, there.digest));
    }
    let (file, head) = open(pair, &from).await?;
    if known.is_some_and(|k| k != head.digest) {
        let what = "it is not the segment that the point was made with";
        return Err(pair.of_source(VaultError::Damaged { name: from, what: what.into() }));
    }
    if let Some(there) = there {
        return if pair.target.digests().content(&file.plain) == there.digest {
            Ok((0, there.digest))
        } else {
            Err(VaultError::WalConflict { name: to }.into())
        };
    }
    create(&pair.target, &to, &file, pair.policy.wal_compression).await
}

/// The segments that a point names: durable in the target when this returns (R10), with their digests there.
pub async fn of_point(pair: &Pair, needs: &[WalNeed]) -> Result<(Vec<WalNeed>, WalCopied)> {
    let mut out = Vec::with_capacity(needs.len());
    let mut copied = WalCopied::default();
    for n in needs {
        let (bytes, digest) = segment(pair, n.name, Some(&n.digest)).await?;
        copied.segments += u64::from(bytes > 0);
        copied.stored_bytes += bytes;
        out.push(WalNeed { name: n.name, digest: hex(&digest) });
    }
    Ok((out, copied))
}

/// Timeline histories that the target lacks. Without them no recovery finds its way to a timeline.
pub async fn histories(pair: &Pair) -> Result<WalCopied> {
    let names = missing(pair, &|file| file.ends_with(".history")).await?;
    let mut out = WalCopied::default();
    for name in names {
        out.add(record(pair, &name).await?);
    }
    Ok(out)
}

/// Names below `wal/` that the source has and the target has not, but for segments; what was set aside as a
/// conflict stays where it is.
async fn missing(pair: &Pair, wanted: &dyn Fn(&str) -> bool) -> Result<Vec<String>> {
    let there = others(&pair.target).await?;
    Ok(others(&pair.source).await?.into_iter().filter(|n| wanted(n) && !there.contains(n)).collect())
}

/// Histories, owners and extras, relative to `wal/`. Two listings.
async fn others(cluster: &ClusterVault) -> Result<BTreeSet<String>> {
    let wal = cluster.path().wal();
    let mut all = cluster.store().level(&wal).await?.objects;
    all.extend(cluster.store().list(&format!("{wal}/extra")).await?);
    let relative = |name: &str| Some(name.strip_prefix(&wal)?.trim_start_matches('/').to_string());
    Ok(all.iter().filter_map(|l| relative(&l.name)).collect())
}

/// A file of PostgreSQL's that is kept as a record.
async fn record(pair: &Pair, name: &str) -> Result<WalCopied> {
    let (from, to) =
        (format!("{}/{name}", pair.source.path().wal()), format!("{}/{name}", pair.target.path().wal()));
    let Some(text) = read_file(&pair.source, &from).await? else { return Ok(WalCopied::default()) };
    let file = name.rsplit('/').next().unwrap_or_default();
    match pair.target.vault().put_record(&to, &file_body(file, &text), Signer::Host).await {
        Ok(_) => Ok(WalCopied { others: 1, stored_bytes: text.len() as u64, ..Default::default() }),
        Err(e) if e.store_kind() == Some(StoreErrorKind::Exists) => {
            match read_file(&pair.target, &to).await? {
                Some(there) if there == text => Ok(WalCopied::default()),
                _ => Err(VaultError::WalConflict { name: to }.into()),
            }
        }
        Err(e) => Err(e.into()),
    }
}

/// All finished segments of an archive.
pub async fn segments_of(cluster: &ClusterVault) -> Result<BTreeSet<SegmentName>> {
    let size = cluster.record().wal_segment_size;
    Ok(WalListing::read(cluster).await?.segments(size).into_iter().map(|(s, _)| s).collect())
}

/// Segments that `wanted` names and the target lacks, oldest first. Two listings.
pub async fn lacking(
    pair: &Pair,
    wanted: &dyn Fn(SegmentName, jiff::Timestamp) -> bool,
) -> Result<Vec<SegmentName>> {
    let there = segments_of(&pair.target).await?;
    let all = WalListing::read(&pair.source).await?.segments(pair.source.record().wal_segment_size);
    let mut out: Vec<SegmentName> =
        all.into_iter().filter(|(s, at)| !there.contains(s) && wanted(*s, *at)).map(|(s, _)| s).collect();
    out.sort_unstable();
    Ok(out)
}

/// Brings segments, a few at once, oldest first.
pub async fn segments(ctx: &Context, pair: &Pair, wanted: Vec<SegmentName>) -> Result<WalCopied> {
    let mut out = WalCopied::default();
    let mut done = futures::stream::iter(wanted)
        .map(|s| async move {
            if ctx.monitor.cancelled() {
                return Err(EngineError::Cancelled);
            }
            match segment(pair, s, None).await {
                // A sweep of the source was faster: it is not there to be brought.
                Err(EngineError::Vault(e)) if e.is_not_found() => Ok(0),
                other => other.map(|(bytes, _)| bytes),
            }
        })
        .buffered(PARALLEL);
    while let Some(bytes) = done.try_next().await? {
        out.segments += u64::from(bytes > 0);
        out.stored_bytes += bytes;
    }
    Ok(out)
}

/// `.partial` and `.backup` files, and who owns the timelines (so that a restored copy of the database
/// cannot claim in one vault what belongs to another data directory in all of them).
pub async fn extras(pair: &Pair) -> Result<WalCopied> {
    let mut out = WalCopied::default();
    for name in missing(pair, &|n| n.starts_with("extra/")).await? {
        let file = name.rsplit('/').next().unwrap_or_default();
        match file.parse::<WalFileName>() {
            Ok(WalFileName::Partial(_)) => {
                let from = format!("{}/{name}", pair.source.path().wal());
                let to = format!("{}/{name}", pair.target.path().wal());
                let (file, _) = open(pair, &from).await?;
                let (bytes, _) = create(&pair.target, &to, &file, pair.policy.wal_compression).await?;
                out.others += u64::from(bytes > 0);
                out.stored_bytes += bytes;
            }
            Ok(_) => out.add(record(pair, &name).await?),
            Err(_) => {}
        }
    }
    let owned = |n: &str| n.split_once(".owner-").and_then(|(t, _)| TimelineId::from_hex(t).ok());
    let names = missing(pair, &|n| owned(n).is_some()).await?;
    let mut foreign: BTreeSet<TimelineId> = BTreeSet::new();
    for name in names {
        let Some(t) = owned(&name) else { continue };
        let path = format!("{}/{name}", pair.source.path().wal());
        let (Body::Owner(mine), _) = pair.source.vault().get_record(&path).await? else { continue };
        // Numbers are dense. What the target knows by itself is not continued with what another vault knows.
        let continues = match mine.number {
            1 => true,
            n => {
                let before = |c: &ClusterVault| c.path().owner(t, n - 1);
                let (ours, theirs) = (
                    pair.target.vault().get_record(&before(&pair.target)).await,
                    pair.source.vault().get_record(&before(&pair.source)).await,
                );
                matches!((ours, theirs), (Ok((a, _)), Ok((b, _))) if a == b)
            }
        };
        if !continues || foreign.contains(&t) {
            foreign.insert(t);
            continue;
        }
        let to = pair.target.path().owner(t, mine.number);
        match pair.target.vault().put_record(&to, &Body::Owner(mine), Signer::Host).await {
            Ok(_) => out.others += 1,
            Err(e) if e.store_kind() == Some(StoreErrorKind::Exists) => {}
            Err(e) => return Err(e.into()),
        }
    }
    Ok(out)
}
