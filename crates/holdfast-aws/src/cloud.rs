//! [`AwsCloud`]: one account as one identity sees it.

use crate::call::{Fresh, On};
use crate::connect::Connection;
use crate::small::Signed;
use crate::{actions, error};
use async_trait::async_trait;
use aws_config::{Region as SdkRegion, SdkConfig};
use holdfast_core::managed::{Account, ChangeLog, Identity, Quota, Region, Result};
use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex};
use tokio::sync::Semaphore;

/// The clients of one region.
#[derive(Debug, Clone)]
struct Clients {
    rds: aws_sdk_rds::Client,
    backup: aws_sdk_backup::Client,
}

/// One account as one identity sees it: a [`Cloud`](holdfast_core::managed::Cloud).
pub struct AwsCloud {
    pub(crate) sdk: SdkConfig,
    clients: Mutex<HashMap<Region, Clients>>,
    pub(crate) signed: Signed,
    pub(crate) permits: Semaphore,
    pub(crate) fresh: Fresh,
    pub(crate) log: Arc<dyn ChangeLog>,
}

impl fmt::Debug for AwsCloud {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AwsCloud").field("region", &self.sdk.region()).finish_non_exhaustive()
    }
}

impl AwsCloud {
    /// Reads the configuration. Nothing is asked of AWS before the first call, so missing credentials show there.
    ///
    /// `home` is the region of what has none of its own, unless the environment names one. Every change goes to
    /// `log`.
    ///
    /// # Errors
    /// A file of certificates that cannot be read.
    pub async fn connect(
        connection: &Connection,
        home: &Region,
        log: Arc<dyn ChangeLog>,
    ) -> Result<AwsCloud> {
        let ready = connection.prepare(home).await?;
        Ok(AwsCloud {
            signed: Signed::new(&ready),
            sdk: ready.sdk,
            clients: Mutex::new(HashMap::new()),
            permits: Semaphore::new(connection.parallel.max(1)),
            fresh: Fresh::default(),
            log,
        })
    }

    fn clients(&self, region: &Region) -> Clients {
        let mut all = self.clients.lock().unwrap_or_else(|e| e.into_inner());
        let make = || {
            let at = SdkRegion::new(region.as_str().to_string());
            let rds = aws_sdk_rds::config::Builder::from(&self.sdk).region(at.clone()).build();
            let backup = aws_sdk_backup::config::Builder::from(&self.sdk).region(at).build();
            Clients {
                rds: aws_sdk_rds::Client::from_conf(rds),
                backup: aws_sdk_backup::Client::from_conf(backup),
            }
        };
        all.entry(region.clone()).or_insert_with(make).clone()
    }

    pub(crate) fn rds(&self, region: &Region) -> aws_sdk_rds::Client {
        self.clients(region).rds
    }

    pub(crate) fn backup(&self, region: &Region) -> aws_sdk_backup::Client {
        self.clients(region).backup
    }
}

#[async_trait]
impl Account for AwsCloud {
    async fn identity(&self) -> Result<Identity> {
        let on = On { action: actions::CALLER_IDENTITY, region: None, resource: "the caller" };
        let client = aws_sdk_sts::Client::new(&self.sdk);
        let _permit = self.permit(on).await?;
        let who = client.get_caller_identity().send().await.map_err(|e| error::of_sdk(on, e))?;
        Ok(Identity {
            account: who.account().ok_or_else(|| on.incomplete("account"))?.to_string(),
            arn: who.arn().ok_or_else(|| on.incomplete("ARN"))?.to_string(),
        })
    }

    async fn quotas(&self, region: &Region) -> Result<Vec<Quota>> {
        let on = On::new(actions::DESCRIBE_ACCOUNT, region, "the account");
        let reply = self.read(on, self.rds(region).describe_account_attributes().send()).await?;
        let quota = |q: &aws_sdk_rds::types::AccountQuota| {
            Some(Quota {
                name: q.account_quota_name()?.to_string(),
                used: u64::try_from(q.used()?).ok()?,
                max: u64::try_from(q.max()?).ok()?,
            })
        };
        Ok(reply.account_quotas().iter().filter_map(quota).collect())
    }
}
