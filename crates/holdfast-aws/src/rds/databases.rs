//! [`Databases`]: instances and clusters behind one set of verbs.

use super::{cluster, instance};
use crate::actions as act;
use crate::call::On;
use crate::cloud::AwsCloud;
use crate::convert::{rds_tags, to_rds_tags};
use async_trait::async_trait;
use futures::stream::{self, StreamExt, TryStreamExt};
use holdfast_core::managed::{
    Database, Databases, Deletion, Instance, Modification, NewInstance, Operation, Region, Result, Source,
    Tags,
};

/// AWS's largest page.
pub(crate) const PAGE: i32 = 100;

#[async_trait]
impl Databases for AwsCloud {
    async fn describe(&self, source: &Source) -> Result<Database> {
        if source.engine.is_cluster() {
            self.describe_cluster(source).await
        } else {
            self.describe_instance(source).await
        }
    }

    async fn list(&self, region: &Region) -> Result<Vec<Database>> {
        let instances = async {
            let on = On::new(act::DESCRIBE_INSTANCES, region, "all instances");
            let pages =
                self.rds(region).describe_db_instances().into_paginator().page_size(PAGE).items().send();
            let all = self.read(on, pages.try_collect()).await?;
            let mut found: Vec<Database> = all.iter().filter_map(|i| instance::database(region, i)).collect();
            if found.iter().any(|d| d.window.is_some()) {
                let backups = crate::rds::instance_backups(self, region, None).await?;
                found.iter_mut().for_each(|d| instance::join_window(d, &backups));
            }
            Ok(found)
        };
        let clusters = async {
            let on = On::new(act::DESCRIBE_CLUSTERS, region, "all clusters");
            let pages =
                self.rds(region).describe_db_clusters().into_paginator().page_size(PAGE).items().send();
            let all = self.read(on, pages.try_collect()).await?;
            let known = all.into_iter().filter_map(|c| {
                let d = cluster::database(region, &c)?;
                Some((d, c.tag_list))
            });
            stream::iter(known)
                .map(|(mut d, list)| async move {
                    d.tags = self.tags_if_absent(region, &d.arn, list, d.tags).await?;
                    Ok(d)
                })
                .buffered(8)
                .try_collect::<Vec<Database>>()
                .await
        };
        let (mut all, more) = futures::try_join!(instances, clusters)?;
        all.extend(more);
        Ok(all)
    }

    async fn instances(&self, cluster: &Source) -> Result<Vec<Instance>> {
        let on = On::new(act::DESCRIBE_INSTANCES, &cluster.region, &cluster.id);
        // No filter: emulators and DocumentDB differ in which ones they know.
        let pages =
            self.rds(&cluster.region).describe_db_instances().into_paginator().page_size(PAGE).items().send();
        let all = self.read(on, pages.try_collect()).await?;
        let of = |i: &&aws_sdk_rds::types::DbInstance| i.db_cluster_identifier() == Some(cluster.id.as_str());
        Ok(all.iter().filter(of).map(instance::member).collect())
    }

    async fn instance(&self, region: &Region, id: &str) -> Result<Instance> {
        Ok(instance::member(&self.raw_instance(region, id).await?))
    }

    async fn create_instance(&self, cluster: &Source, new: &NewInstance, op: &Operation) -> Result<Instance> {
        self.make_member(cluster, new, op).await
    }

    async fn modify(&self, source: &Source, change: &Modification) -> Result<Database> {
        if source.engine.is_cluster() {
            self.modify_cluster(source, change).await
        } else {
            self.modify_instance(source, change).await
        }
    }

    async fn delete(&self, source: &Source, how: &Deletion) -> Result<()> {
        if source.engine.is_cluster() {
            self.remove_cluster(source, how).await
        } else {
            self.remove_instance(&source.region, &source.id, Some(how)).await
        }
    }

    async fn delete_instance(&self, region: &Region, id: &str) -> Result<()> {
        self.remove_instance(region, id, None).await
    }

    async fn add_tags(&self, region: &Region, arn: &str, tags: &Tags) -> Result<()> {
        let on = On::new(act::ADD_TAGS, region, arn);
        let call = self.rds(region).add_tags_to_resource().resource_name(arn).set_tags(to_rds_tags(tags));
        self.change(on, None, call.send()).await.map(drop)
    }

    async fn remove_tags(&self, region: &Region, arn: &str, keys: &[&str]) -> Result<()> {
        let on = On::new(act::REMOVE_TAGS, region, arn);
        let keys = keys.iter().map(|k| (*k).to_string()).collect();
        let call = self.rds(region).remove_tags_from_resource().resource_name(arn).set_tag_keys(Some(keys));
        self.change(on, None, call.send()).await.map(drop)
    }

    async fn tags(&self, region: &Region, arn: &str) -> Result<Tags> {
        self.rds_tags_of(region, arn).await
    }
}

impl AwsCloud {
    pub(crate) async fn rds_tags_of(&self, region: &Region, arn: &str) -> Result<Tags> {
        let on = On::new(act::LIST_TAGS, region, arn);
        let reply =
            self.read(on, self.rds(region).list_tags_for_resource().resource_name(arn).send()).await?;
        Ok(rds_tags(reply.tag_list()))
    }
}
