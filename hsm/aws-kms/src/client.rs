//! The SDK's client, with every default that matters said aloud.

use aws_config::{BehaviorVersion, Region};
use aws_sdk_kms::Client;
use aws_sdk_kms::config::retry::RetryConfig;
use aws_sdk_kms::config::timeout::TimeoutConfig;

use crate::config::{KmsConfig, KmsFault};

/// Builds the client. Reads credentials sources and profile files; connects to nothing but those.
pub(crate) async fn connect(config: &KmsConfig) -> Result<Client, KmsFault> {
    let mut shared = aws_config::defaults(BehaviorVersion::v2026_01_12());
    if let Some(region) = &config.region {
        shared = shared.region(Region::new(region.clone()));
    }
    if let Some(credentials) = &config.credentials {
        shared = shared.credentials_provider(credentials.clone());
    }
    let shared = shared.load().await;
    if shared.region().is_none() {
        return Err(KmsFault::RegionUnknown);
    }
    let timeouts = TimeoutConfig::builder().connect_timeout(config.connect_timeout).build();
    let mut sdk = aws_sdk_kms::config::Builder::from(&shared)
        // Each attempt may use the key, so each is ours to count: attempt.rs.
        .retry_config(RetryConfig::disabled())
        // Whole attempts are bounded in attempt.rs.
        .timeout_config(timeouts);
    if let Some(url) = &config.endpoint_url {
        sdk = sdk.endpoint_url(url);
    }
    Ok(Client::from_conf(sdk.build()))
}
