//! [`Proxies`]: targets of RDS Proxies.

use crate::actions as act;
use crate::call::On;
use crate::cloud::AwsCloud;
use async_trait::async_trait;
use holdfast_core::managed::{
    ErrorKind, Outcome, Proxies, ProxyTarget, Region, Result, Source, TargetHealth,
};

#[async_trait]
impl Proxies for AwsCloud {
    async fn proxy_endpoint(&self, region: &Region, proxy: &str) -> Result<String> {
        let on = On::new(act::DESCRIBE_PROXIES, region, proxy);
        let reply = self.read(on, self.rds(region).describe_db_proxies().db_proxy_name(proxy).send()).await?;
        let found = reply.db_proxies().first().and_then(|p| p.endpoint());
        found.map(str::to_string).ok_or_else(|| on.refuse(ErrorKind::NotFound, ""))
    }

    async fn proxy_targets(&self, region: &Region, proxy: &str) -> Result<Vec<ProxyTarget>> {
        let on = On::new(act::DESCRIBE_TARGETS, region, proxy);
        let pages =
            self.rds(region).describe_db_proxy_targets().db_proxy_name(proxy).into_paginator().items().send();
        let all = self.read(on, pages.try_collect()).await?;
        let target = |t: &aws_sdk_rds::types::DbProxyTarget| {
            let is_cluster = t.r#type().is_some_and(|k| k.as_str() == "TRACKED_CLUSTER");
            let health = t.target_health().and_then(|h| {
                Some(TargetHealth {
                    state: h.state()?.as_str().to_string(),
                    reason: h.reason().map(|r| r.as_str().to_string()),
                    description: h.description().map(str::to_string),
                })
            });
            Some(ProxyTarget { id: t.rds_resource_id()?.to_string(), is_cluster, health })
        };
        Ok(all.iter().filter_map(target).collect())
    }

    async fn register_target(&self, proxy: &str, target: &Source) -> Result<()> {
        let on = On::new(act::REGISTER_TARGETS, &target.region, proxy);
        let call = self.rds(&target.region).register_db_proxy_targets().db_proxy_name(proxy);
        let call = if target.engine.is_cluster() {
            call.db_cluster_identifiers(&target.id)
        } else {
            call.db_instance_identifiers(&target.id)
        };
        match self.change(on, None, call.send()).await {
            Err(e) if e.kind == ErrorKind::AlreadyExists => {
                self.record(on, None, e.request_id.clone(), Outcome::Adopted)
            }
            other => other.map(drop),
        }
    }

    async fn deregister_target(&self, proxy: &str, target: &Source) -> Result<()> {
        let on = On::new(act::DEREGISTER_TARGETS, &target.region, proxy);
        let call = self.rds(&target.region).deregister_db_proxy_targets().db_proxy_name(proxy);
        let call = if target.engine.is_cluster() {
            call.db_cluster_identifiers(&target.id)
        } else {
            call.db_instance_identifiers(&target.id)
        };
        match self.change(on, None, call.send()).await {
            // The target is away already; a proxy that does not exist is an error.
            Err(e) if e.is_not_found() && e.said.contains("Target") => Ok(()),
            other => other.map(drop),
        }
    }
}
