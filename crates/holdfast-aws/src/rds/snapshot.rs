//! [`Snapshots`] of instances and clusters.

use super::databases::PAGE;
use crate::actions as act;
use crate::call::On;
use crate::cloud::AwsCloud;
use crate::convert::{arn_region, number, rds_tags, stamped, text, to_rds_tags, when};
use async_trait::async_trait;
use aws_sdk_rds::types::{DbClusterSnapshot, DbSnapshot};
use futures::stream::{self, StreamExt, TryStreamExt};
use holdfast_core::managed::{
    Engine, ErrorKind, NewSnapshot, Operation, Region, Result, Snapshot, SnapshotCopy, SnapshotFilter,
    SnapshotKind, SnapshotRef, Snapshots, Source, Status, Tags, tags,
};

fn kind(word: Option<&str>) -> SnapshotKind {
    match word {
        Some("manual") => SnapshotKind::Manual,
        Some("automated") => SnapshotKind::Automated,
        Some("awsbackup") => SnapshotKind::AwsBackup,
        Some("shared") => SnapshotKind::Shared,
        _ => SnapshotKind::Other,
    }
}

fn word(kind: SnapshotKind) -> Option<&'static str> {
    match kind {
        SnapshotKind::Manual => Some("manual"),
        SnapshotKind::Automated => Some("automated"),
        SnapshotKind::AwsBackup => Some("awsbackup"),
        SnapshotKind::Shared => Some("shared"),
        SnapshotKind::Other => None,
    }
}

/// The tags of a snapshot that an operation makes: they say which one it is, so that no heir of them counts as ours.
fn marked(given: &Tags, at: &SnapshotRef, op: &Operation) -> Tags {
    stamped(given, op).with(tags::SNAPSHOT, &tags::snapshot_mark(at))
}

/// The same of a copy.
fn marked_copy(given: &Tags, at: &SnapshotRef, op: &Operation) -> Tags {
    stamped(given, op).with(tags::SNAPSHOT, &tags::copy_mark(at))
}

fn percent(p: Option<i32>) -> u8 {
    number(p.map(|v| v.clamp(0, 100))).unwrap_or(0)
}

pub(crate) fn of_instance(region: &Region, s: &DbSnapshot) -> Option<Snapshot> {
    let engine = Engine::of_name(s.engine()?, false).filter(|e| *e == Engine::Rds)?;
    let created = when(s.snapshot_create_time());
    Some(Snapshot {
        at: SnapshotRef { engine, region: region.clone(), id: s.db_snapshot_identifier()?.to_string() },
        arn: text(s.db_snapshot_arn()),
        kind: kind(s.snapshot_type()),
        status: Status::new(text(s.status())),
        percent: percent(s.percent_progress()),
        created,
        taken: when(s.original_snapshot_create_time()).or(created),
        source_id: text(s.db_instance_identifier()),
        source_resource_id: s.dbi_resource_id().map(str::to_string),
        copied_from: s.source_db_snapshot_identifier().filter(|a| !a.is_empty()).map(str::to_string),
        copied_from_region: s
            .source_region()
            .and_then(|r| r.parse().ok())
            .or_else(|| s.source_db_snapshot_identifier().and_then(arn_region)),
        size_gib: number(s.allocated_storage()).unwrap_or(0),
        full_bytes: number(s.full_snapshot_size_in_bytes()),
        engine_name: text(s.engine()),
        engine_version: text(s.engine_version()),
        encrypted: s.encrypted().unwrap_or(false),
        key: s.kms_key_id().map(str::to_string),
        option_group: s.option_group_name().map(str::to_string),
        port: number(s.port()),
        vpc: s.vpc_id().map(str::to_string),
        storage_kind: s.storage_type().map(str::to_string),
        tags: rds_tags(s.tag_list()),
    })
}

pub(crate) fn of_cluster(region: &Region, s: &DbClusterSnapshot) -> Option<Snapshot> {
    let engine = Engine::of_name(s.engine()?, true)?;
    let created = when(s.snapshot_create_time());
    let tags = rds_tags(s.tag_list());
    let mut found = Snapshot {
        at: SnapshotRef {
            engine,
            region: region.clone(),
            id: s.db_cluster_snapshot_identifier()?.to_string(),
        },
        arn: text(s.db_cluster_snapshot_arn()),
        kind: kind(s.snapshot_type()),
        status: Status::new(text(s.status())),
        percent: percent(s.percent_progress()),
        created,
        taken: created,
        source_id: text(s.db_cluster_identifier()),
        source_resource_id: s.db_cluster_resource_id().map(str::to_string),
        copied_from: s.source_db_cluster_snapshot_arn().filter(|a| !a.is_empty()).map(str::to_string),
        copied_from_region: s.source_db_cluster_snapshot_arn().and_then(arn_region),
        size_gib: number(s.allocated_storage()).unwrap_or(0),
        full_bytes: None,
        engine_name: text(s.engine()),
        engine_version: text(s.engine_version()),
        encrypted: s.storage_encrypted().unwrap_or(false),
        key: s.kms_key_id().map(str::to_string),
        option_group: None,
        port: number(s.port()),
        vpc: s.vpc_id().map(str::to_string),
        storage_kind: s.storage_type().map(str::to_string),
        tags,
    };
    // A copy shows when it was made itself; ours say when the original was.
    if let Some(original) = found.of_original(tags::TAKEN).and_then(|t| t.parse().ok()) {
        found.taken = Some(original);
    }
    Some(found)
}

/// "If this identifier is for an automated snapshot, the SnapshotType parameter must also be specified" (API reference,
/// DescribeDBSnapshots). Names of those that people make have no colon.
fn made_by(id: &str) -> Option<String> {
    match id.split_once(':')?.0 {
        "rds" => Some("automated".into()),
        "awsbackup" => Some("awsbackup".into()),
        _ => None,
    }
}

fn key_of(at: &SnapshotRef) -> String {
    format!("snapshot/{}/{}/{}", at.engine.is_cluster(), at.region, at.id)
}

#[async_trait]
impl Snapshots for AwsCloud {
    async fn create_snapshot(&self, source: &Source, new: &NewSnapshot, op: &Operation) -> Result<Snapshot> {
        let region = &source.region;
        let at = SnapshotRef { engine: source.engine, region: region.clone(), id: new.id.clone() };
        let tags = to_rds_tags(&marked(&new.tags, &at, op));
        if source.engine.is_cluster() {
            let on = On::new(act::CREATE_CLUSTER_SNAPSHOT, region, &new.id);
            let call = self
                .rds(region)
                .create_db_cluster_snapshot()
                .db_cluster_identifier(&source.id)
                .db_cluster_snapshot_identifier(&new.id)
                .set_tags(tags);
            let made = self.change(on, Some(op), call.send()).await;
            let made = made.map(|r| r.db_cluster_snapshot.and_then(|s| of_cluster(region, &s)));
            self.made_snapshot(on, &at, op, made).await
        } else {
            let on = On::new(act::CREATE_SNAPSHOT, region, &new.id);
            let call = self
                .rds(region)
                .create_db_snapshot()
                .db_instance_identifier(&source.id)
                .db_snapshot_identifier(&new.id)
                .set_tags(tags);
            let made = self.change(on, Some(op), call.send()).await;
            let made = made.map(|r| r.db_snapshot.and_then(|s| of_instance(region, &s)));
            self.made_snapshot(on, &at, op, made).await
        }
    }

    async fn snapshot(&self, at: &SnapshotRef) -> Result<Snapshot> {
        let look = || self.look_at_snapshot(at);
        self.patiently(&key_of(at), look).await
    }

    async fn snapshots(
        &self,
        engine: Engine,
        region: &Region,
        filter: &SnapshotFilter,
    ) -> Result<Vec<Snapshot>> {
        let mut all = match filter.kind {
            Some(kind) => self.snapshot_pages(engine, region, filter, word(kind)).await?,
            // Left out, the kind means manual and automated; those of AWS Backup are named.
            None => {
                let (mut all, more) = futures::try_join!(
                    self.snapshot_pages(engine, region, filter, None),
                    self.snapshot_pages(engine, region, filter, Some("awsbackup")),
                )?;
                let known: std::collections::HashSet<String> = all.iter().map(|s| s.arn.clone()).collect();
                all.extend(more.into_iter().filter(|s| !known.contains(&s.arn)));
                all
            }
        };
        all.retain(|s| {
            s.at.engine == engine && filter.kind.is_none_or(|k| k == s.kind || k == SnapshotKind::Shared)
        });
        if filter.kind == Some(SnapshotKind::Shared) {
            // AWS calls them manual: it is their owner's word.
            all.iter_mut().for_each(|s| s.kind = SnapshotKind::Shared);
        }
        Ok(all)
    }

    async fn copy_snapshot(&self, copy: &SnapshotCopy, op: &Operation) -> Result<Snapshot> {
        let region = &copy.to.region;
        let tags = to_rds_tags(&marked_copy(&copy.tags, &copy.to, op));
        if copy.to.engine.is_cluster() {
            let on = On::new(act::COPY_CLUSTER_SNAPSHOT, region, &copy.to.id);
            let call = self
                .rds(region)
                .copy_db_cluster_snapshot()
                .source_db_cluster_snapshot_identifier(&copy.from_arn)
                .target_db_cluster_snapshot_identifier(&copy.to.id)
                .copy_tags(copy.copy_tags)
                .set_kms_key_id(copy.key.clone())
                .set_pre_signed_url(self.presigned_copy(on, copy).await?)
                .set_tags(tags);
            let made = self.change(on, Some(op), call.send()).await;
            let made = made.map(|r| r.db_cluster_snapshot.and_then(|s| of_cluster(region, &s)));
            self.made_snapshot(on, &copy.to, op, made).await
        } else {
            let on = On::new(act::COPY_SNAPSHOT, region, &copy.to.id);
            let call = self
                .rds(region)
                .copy_db_snapshot()
                .source_db_snapshot_identifier(&copy.from_arn)
                .target_db_snapshot_identifier(&copy.to.id)
                .copy_tags(copy.copy_tags)
                .set_kms_key_id(copy.key.clone())
                .set_option_group_name(copy.option_group.clone())
                .set_pre_signed_url(self.presigned_copy(on, copy).await?)
                .set_tags(tags);
            let made = self.change(on, Some(op), call.send()).await;
            let made = made.map(|r| r.db_snapshot.and_then(|s| of_instance(region, &s)));
            self.made_snapshot(on, &copy.to, op, made).await
        }
    }

    async fn delete_snapshot(&self, at: &SnapshotRef) -> Result<()> {
        self.fresh.forget(&key_of(at));
        if at.engine.is_cluster() {
            let on = On::new(act::DELETE_CLUSTER_SNAPSHOT, &at.region, &at.id);
            let call =
                self.rds(&at.region).delete_db_cluster_snapshot().db_cluster_snapshot_identifier(&at.id);
            self.removal(on, call.send()).await
        } else {
            let on = On::new(act::DELETE_SNAPSHOT, &at.region, &at.id);
            let call = self.rds(&at.region).delete_db_snapshot().db_snapshot_identifier(&at.id);
            self.removal(on, call.send()).await
        }
    }

    async fn share_snapshot(&self, at: &SnapshotRef, account: &str, shared: bool) -> Result<()> {
        self.share(at, account, shared).await
    }

    async fn shared_with(&self, at: &SnapshotRef) -> Result<Vec<String>> {
        self.shares(at).await
    }
}

impl AwsCloud {
    /// The end of a creation: what was made, or what our operation had made before.
    async fn made_snapshot(
        &self,
        on: On<'_>,
        at: &SnapshotRef,
        op: &Operation,
        made: Result<Option<Snapshot>>,
    ) -> Result<Snapshot> {
        match made {
            Ok(Some(snapshot)) => {
                self.fresh.note(key_of(at));
                Ok(snapshot)
            }
            Ok(None) => Err(on.incomplete("snapshot")),
            Err(e) if e.kind == ErrorKind::AlreadyExists => {
                self.fresh.note(key_of(at));
                let found = self.snapshot(at).await;
                self.adopt(on, op, e, found, |s| &s.tags)
            }
            Err(e) => Err(e),
        }
    }

    async fn look_at_snapshot(&self, at: &SnapshotRef) -> Result<Snapshot> {
        let region = &at.region;
        let shared = at.id.starts_with("arn:");
        if at.engine.is_cluster() {
            let on = On::new(act::DESCRIBE_CLUSTER_SNAPSHOTS, region, &at.id);
            let call = self
                .rds(region)
                .describe_db_cluster_snapshots()
                .db_cluster_snapshot_identifier(&at.id)
                .set_snapshot_type(made_by(&at.id))
                .set_include_shared(shared.then_some(true));
            let reply = self.read(on, call.send()).await?;
            let first = reply.db_cluster_snapshots.unwrap_or_default().into_iter().next();
            let raw = first.ok_or_else(|| on.refuse(ErrorKind::NotFound, ""))?;
            let mut found =
                of_cluster(region, &raw).ok_or_else(|| on.incomplete("snapshot of a known engine"))?;
            found.tags = self.tags_if_absent(region, &found.arn, raw.tag_list, found.tags).await?;
            Ok(found)
        } else {
            let on = On::new(act::DESCRIBE_SNAPSHOTS, region, &at.id);
            let call = self
                .rds(region)
                .describe_db_snapshots()
                .db_snapshot_identifier(&at.id)
                .set_snapshot_type(made_by(&at.id))
                .set_include_shared(shared.then_some(true));
            let reply = self.read(on, call.send()).await?;
            let first = reply.db_snapshots.unwrap_or_default().into_iter().next();
            let raw = first.ok_or_else(|| on.refuse(ErrorKind::NotFound, ""))?;
            of_instance(region, &raw).ok_or_else(|| on.incomplete("snapshot for PostgreSQL"))
        }
    }

    async fn snapshot_pages(
        &self,
        engine: Engine,
        region: &Region,
        filter: &SnapshotFilter,
        kind: Option<&str>,
    ) -> Result<Vec<Snapshot>> {
        let kind = kind.map(str::to_string);
        let shared = (kind.as_deref() == Some("shared")).then_some(true);
        let about = filter.source_id.as_deref().unwrap_or("all snapshots");
        if engine.is_cluster() {
            let on = On::new(act::DESCRIBE_CLUSTER_SNAPSHOTS, region, about);
            let pages = self
                .rds(region)
                .describe_db_cluster_snapshots()
                .set_db_cluster_identifier(filter.source_id.clone())
                .set_snapshot_type(kind)
                .set_include_shared(shared)
                .into_paginator()
                .page_size(PAGE)
                .items()
                .send();
            let all = self.read(on, pages.try_collect()).await?;
            let known = all.into_iter().filter_map(|raw| {
                let s = of_cluster(region, &raw).filter(|s| s.at.engine == engine)?;
                Some((s, raw.tag_list))
            });
            stream::iter(known)
                .map(|(mut s, list)| async move {
                    s.tags = self.tags_if_absent(region, &s.arn, list, s.tags).await?;
                    Ok(s)
                })
                .buffered(8)
                .try_collect()
                .await
        } else {
            let on = On::new(act::DESCRIBE_SNAPSHOTS, region, about);
            let pages = self
                .rds(region)
                .describe_db_snapshots()
                .set_db_instance_identifier(filter.source_id.clone())
                .set_snapshot_type(kind)
                .set_include_shared(shared)
                .into_paginator()
                .page_size(PAGE)
                .items()
                .send();
            let all = self.read(on, pages.try_collect()).await?;
            Ok(all.iter().filter_map(|s| of_instance(region, s)).collect())
        }
    }
}
