//! Signed URLs: what a copy from another region brings along where AWS does not sign it itself.
//!
//! RDS needs them in China and GovCloud only, and ignores them elsewhere; DocumentDB documents them for every region
//! (`CopyDBClusterSnapshot`, `PreSignedUrl`).

use super::{Service, form};
use crate::call::On;
use crate::cloud::AwsCloud;
use crate::rds::needs_presigned;
use aws_sigv4::http_request::{SignableBody, SignableRequest, SignatureLocation, SigningSettings, sign};
use aws_sigv4::sign::v4;
use holdfast_core::managed::{Engine, ErrorKind, Region, Replication, Result, SnapshotCopy};
use std::time::{Duration, SystemTime};

const RDS: Service = Service { name: "rds", id: "RDS", global: None };
const VALID: Duration = Duration::from_secs(3600);

impl AwsCloud {
    /// For a copy of a snapshot; `None` where it is not needed.
    pub(crate) async fn presigned_copy(&self, on: On<'_>, copy: &SnapshotCopy) -> Result<Option<String>> {
        let from = &copy.from_region;
        if *from == copy.to.region || !(needs_presigned(from) || copy.to.engine == Engine::DocumentDb) {
            return Ok(None);
        }
        let (action, thing) = if copy.to.engine.is_cluster() {
            ("CopyDBClusterSnapshot", "DBClusterSnapshotIdentifier")
        } else {
            ("CopyDBSnapshot", "DBSnapshotIdentifier")
        };
        let mut pairs = vec![
            ("Action".to_string(), action.to_string()),
            ("Version".into(), "2014-10-31".into()),
            ("DestinationRegion".into(), copy.to.region.to_string()),
            (format!("Source{thing}"), copy.from_arn.clone()),
            (format!("Target{thing}"), copy.to.id.clone()),
        ];
        pairs.extend(copy.key.clone().map(|k| ("KmsKeyId".to_string(), k)));
        self.presign(on, from, &pairs).await.map(Some)
    }

    /// For the replication of automated backups.
    pub(crate) async fn presigned_replication(
        &self,
        on: On<'_>,
        r: &Replication,
        from: &Region,
    ) -> Result<String> {
        let mut pairs = vec![
            ("Action".to_string(), "StartDBInstanceAutomatedBackupsReplication".to_string()),
            ("Version".into(), "2014-10-31".into()),
            ("DestinationRegion".into(), r.to.to_string()),
            ("SourceDBInstanceArn".into(), r.source_arn.clone()),
            ("BackupRetentionPeriod".into(), r.retention_days.to_string()),
        ];
        pairs.extend(r.key.clone().map(|k| ("KmsKeyId".to_string(), k)));
        self.presign(on, from, &pairs).await
    }

    async fn presign(&self, on: On<'_>, region: &Region, pairs: &[(String, String)]) -> Result<String> {
        let invalid = |e: &dyn std::fmt::Display| on.refuse(ErrorKind::InvalidRequest, e.to_string());
        let identity = self.signed.credentials(on).await?.into();
        let url = format!("{}/?{}", self.signed.endpoint(RDS, region.as_str()), form(pairs));
        let mut settings = SigningSettings::default();
        settings.signature_location = SignatureLocation::QueryParams;
        settings.expires_in = Some(VALID);
        let params = v4::SigningParams::builder()
            .identity(&identity)
            .region(region.as_str())
            .name(RDS.name)
            .time(SystemTime::now())
            .settings(settings)
            .build()
            .map_err(|e| invalid(&e))?
            .into();
        let signable = SignableRequest::new("GET", &url, std::iter::empty(), SignableBody::Bytes(&[]))
            .map_err(|e| invalid(&e))?;
        let (instructions, _) = sign(signable, &params).map_err(|e| invalid(&e))?.into_parts();
        let mut request = http::Request::builder().uri(&url).body(()).map_err(|e| invalid(&e))?;
        instructions.apply_to_request_http1x(&mut request);
        Ok(request.uri().to_string())
    }
}
