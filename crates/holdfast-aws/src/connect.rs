//! Credentials, regions, endpoints, certificates, proxies, time-outs: [`Connection`].

use aws_config::environment::region::EnvironmentVariableRegionProvider;
use aws_config::meta::region::RegionProviderChain;
use aws_config::profile::{ProfileFileCredentialsProvider, ProfileFileRegionProvider};
use aws_config::provider_config::ProviderConfig;
use aws_config::sts::AssumeRoleProvider;
use aws_config::timeout::TimeoutConfig;
use aws_config::{BehaviorVersion, ConfigLoader, Region as SdkRegion, SdkConfig};
use aws_credential_types::Credentials;
use aws_credential_types::provider::SharedCredentialsProvider;
use aws_smithy_async::rt::sleep::{SharedAsyncSleep, TokioSleep};
use aws_smithy_http_client::tls::rustls_provider::CryptoMode;
use aws_smithy_http_client::tls::{Provider, TlsContext, TrustStore};
use aws_smithy_http_client::{Connector, proxy::ProxyConfig};
use aws_smithy_runtime_api::client::http::{HttpConnectorSettings, SharedHttpConnector, http_client_fn};
use holdfast_core::Secret;
use holdfast_core::managed::{About, ErrorKind, ManagedError, Region, Result};
use std::path::PathBuf;
use std::time::Duration;

const CONNECT_LIMIT: Duration = Duration::from_secs(5);
const ATTEMPT_LIMIT: Duration = Duration::from_secs(30);
const CALL_LIMIT: Duration = Duration::from_secs(180);
const ATTEMPTS: u32 = 6;
/// What the SDK does when nobody says otherwise.
const SDK_ATTEMPTS: u32 = 3;

/// How to reach AWS. What is `None` comes from the environment, as for every AWS program: `AWS_PROFILE`,
/// `AWS_ACCESS_KEY_ID` …, `~/.aws/config` (`role_arn`, `source_profile`, `credential_process`, `endpoint_url`),
/// web identity, the roles of containers and hosts; `AWS_ENDPOINT_URL`, `AWS_ENDPOINT_URL_RDS` …;
/// `AWS_CA_BUNDLE`; `HTTPS_PROXY`, `NO_PROXY`.
///
/// Not supported: IAM Identity Center (SSO) profiles. `credential_process` with the AWS CLI's
/// `aws configure export-credentials` bridges them.
#[derive(Debug, Clone)]
pub struct Connection {
    /// Then keys in the environment are not looked at.
    pub profile: Option<String>,
    /// ARN of a role that those credentials assume, for a session of an hour that is renewed.
    pub role: Option<String>,
    /// URL of all services, as `AWS_ENDPOINT_URL` would say it.
    pub endpoint: Option<String>,
    /// Instead of whatever the environment has.
    pub keys: Option<AccessKeys>,
    /// PEM file; instead of, not besides, the system's certificates.
    pub ca_bundle: Option<PathBuf>,
    /// Calls that have no region of their own, such as those for a role, go to the one that [`AwsCloud::connect`] is given,
    /// whatever the environment says: that may be a region that is lost.
    ///
    /// [`AwsCloud::connect`]: crate::AwsCloud::connect
    pub there: bool,
    /// Tries of one call, the first included; `None` = 6, or what `AWS_MAX_ATTEMPTS` says.
    pub attempts: Option<u32>,
    /// Calls under way at once, over all regions.
    pub parallel: usize,
}

impl Default for Connection {
    fn default() -> Self {
        Connection {
            profile: None,
            role: None,
            endpoint: None,
            keys: None,
            ca_bundle: None,
            there: false,
            attempts: None,
            parallel: 16,
        }
    }
}

/// An access key that was given, not found.
#[derive(Debug, Clone)]
pub struct AccessKeys {
    pub id: String,
    pub secret: Secret,
    /// Of a session.
    pub token: Option<Secret>,
}

/// What the rest of the crate needs.
pub(crate) struct Ready {
    pub(crate) sdk: SdkConfig,
    pub(crate) http: SharedHttpConnector,
}

fn unusable(resource: &str, said: String) -> ManagedError {
    ManagedError::new(
        ErrorKind::InvalidRequest,
        About {
            action: "connect".into(),
            region: None,
            resource: resource.to_string(),
            said,
            request_id: None,
            transient: false,
            source: None,
        },
    )
}

impl Connection {
    /// Reads configuration; asks AWS nothing yet. `home` is the region of calls that have none of their own (STS,
    /// Route 53), if the environment names none.
    pub(crate) async fn prepare(&self, home: &Region) -> Result<Ready> {
        let http = self.connector()?;
        let shared = http.clone();
        let mut loader: ConfigLoader = aws_config::defaults(BehaviorVersion::latest())
            .sleep_impl(SharedAsyncSleep::new(TokioSleep::new()))
            .http_client(http_client_fn(move |_, _| shared.clone()))
            .timeout_config(
                TimeoutConfig::builder()
                    .connect_timeout(CONNECT_LIMIT)
                    .operation_attempt_timeout(ATTEMPT_LIMIT)
                    .operation_timeout(CALL_LIMIT)
                    .build(),
            );
        // The region of the source, if nothing else says one: from the beginning, because whoever assumes the role of a
        // profile, or of a web identity, asks STS in it.
        let mut files = ProfileFileRegionProvider::builder();
        if let Some(profile) = &self.profile {
            loader = loader.profile_name(profile);
            files = files.profile_name(profile);
        }
        let own = SdkRegion::new(home.as_str().to_string());
        loader = match self.there {
            true => loader.region(own),
            false => loader.region(
                RegionProviderChain::first_try(EnvironmentVariableRegionProvider::new())
                    .or_else(files.build())
                    .or_else(own),
            ),
        };
        if let Some(url) = &self.endpoint {
            loader = loader.endpoint_url(url);
        }
        if let Some(keys) = &self.keys {
            let text = |s: &Secret| {
                String::from_utf8(s.expose_bytes().to_vec())
                    .map_err(|_| unusable("the access key", "its secret is not text".into()))
            };
            let token = keys.token.as_ref().map(text).transpose()?;
            loader = loader.credentials_provider(Credentials::new(
                keys.id.clone(),
                text(&keys.secret)?,
                token,
                None,
                "holdfast",
            ));
        }
        let sdk = loader.load().await;
        let mut builder = sdk.to_builder();
        // Snapshots and restores run for hours beside other programs that use the account's request rate.
        if let Some(retry) = sdk.retry_config() {
            let raise =
                retry.max_attempts() == SDK_ATTEMPTS && std::env::var_os("AWS_MAX_ATTEMPTS").is_none();
            let attempts = self.attempts.or(raise.then_some(ATTEMPTS)).unwrap_or(retry.max_attempts());
            builder.set_retry_config(Some(retry.clone().with_max_attempts(attempts)));
        }
        let mut sdk = builder.build();
        if let (Some(profile), None) = (&self.profile, &self.keys) {
            // The SDK's chain looks for keys in the environment first, whatever profile was named: the keys of one
            // account would be taken for those of another.
            let own = http.clone();
            let config = ProviderConfig::without_region()
                .with_region(sdk.region().cloned())
                .with_http_client(http_client_fn(move |_, _| own.clone()))
                .with_sleep_impl(SharedAsyncSleep::new(TokioSleep::new()));
            let named =
                ProfileFileCredentialsProvider::builder().profile_name(profile).configure(&config).build();
            sdk = sdk.to_builder().credentials_provider(SharedCredentialsProvider::new(named)).build();
        }
        let Some(role) = &self.role else { return Ok(Ready { sdk, http }) };
        // The name of the session is what CloudTrail shows.
        let assumed =
            AssumeRoleProvider::builder(role.clone()).session_name("holdfast").configure(&sdk).build().await;
        let sdk = sdk.to_builder().credentials_provider(SharedCredentialsProvider::new(assumed)).build();
        Ok(Ready { sdk, http })
    }

    /// One pool of connections for all clients. The SDK's own client knows nothing of `AWS_CA_BUNDLE`.
    fn connector(&self) -> Result<SharedHttpConnector> {
        let bundle = self.ca_bundle.clone().or_else(|| std::env::var_os("AWS_CA_BUNDLE").map(PathBuf::from));
        let mut trust = TrustStore::empty();
        match bundle.filter(|p| !p.as_os_str().is_empty()) {
            Some(path) => {
                let name = path.display().to_string();
                let pem = std::fs::read(&path)
                    .map_err(|e| unusable(&name, format!("the certificates cannot be read: {e}")))?;
                trust.add_pem_certificate(pem);
            }
            None => trust = trust.with_native_roots(true),
        }
        let tls = TlsContext::builder()
            .with_trust_store(trust)
            .build()
            .map_err(|e| unusable("certificates", e.to_string()))?;
        let settings = HttpConnectorSettings::builder()
            .connect_timeout(CONNECT_LIMIT)
            .read_timeout(ATTEMPT_LIMIT)
            .build();
        let connector = Connector::builder()
            .connector_settings(settings)
            .sleep_impl(TokioSleep::new())
            .proxy_config(ProxyConfig::from_env())
            .tls_provider(Provider::Rustls(CryptoMode::AwsLc))
            .tls_context(tls)
            .build();
        Ok(SharedHttpConnector::new(connector))
    }
}
