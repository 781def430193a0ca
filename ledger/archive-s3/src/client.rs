//! The SDK's client, with every default that matters said aloud.

use aws_config::{BehaviorVersion, Region};
use aws_sdk_s3::Client;
use aws_sdk_s3::config::retry::RetryConfig;
use aws_sdk_s3::config::timeout::TimeoutConfig;
use aws_sdk_s3::config::{RequestChecksumCalculation, ResponseChecksumValidation};

use crate::options::S3Options;

/// Builds the client. Reads credentials sources and profile files; connects to nothing but those.
pub(crate) async fn connect(options: &S3Options) -> Client {
    let mut shared =
        aws_config::defaults(BehaviorVersion::v2026_01_12()).region(Region::new(options.region.clone()));
    if let Some(credentials) = &options.credentials {
        shared = shared.credentials_provider(credentials.clone());
    }
    let timeouts = TimeoutConfig::builder().connect_timeout(options.patience.connect_timeout).build();
    let mut config = aws_sdk_s3::config::Builder::from(&shared.load().await)
        // A put must look before it is repeated, so retries are ours: attempt.rs.
        .retry_config(RetryConfig::disabled())
        // Whole requests are bounded in attempt.rs, bodies included.
        .timeout_config(timeouts)
        // Puts carry their SHA-256 and MD5 as plain headers; bodies read back are compared whole.
        .request_checksum_calculation(RequestChecksumCalculation::WhenRequired)
        .response_checksum_validation(ResponseChecksumValidation::WhenRequired)
        .force_path_style(options.path_style);
    if let Some(url) = &options.endpoint_url {
        config = config.endpoint_url(url);
    }
    Client::from_conf(config.build())
}
