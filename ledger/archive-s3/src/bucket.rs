//! Is this bucket fit to be an archive? Asked once at start; every mistake found is named.

use aws_sdk_s3::types::{BucketVersioningStatus, ObjectLockEnabled};

use crate::archive::Store;
use crate::attempt::{call, with_retries};
use crate::error::{Operation, S3Error};

/// One reason why a bucket cannot be the archive. The operator's to mend.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BucketFault {
    /// No such bucket, or not in this region.
    #[error("it does not exist")]
    Missing,
    /// Never versioned: an overwrite would destroy the original.
    #[error("versioning is off")]
    VersioningOff,
    /// Versioning was on and is suspended: new objects are not protected.
    #[error("versioning is suspended")]
    VersioningSuspended,
    /// Objects could not be locked. On AWS it must be enabled for the bucket.
    #[error("Object Lock is not enabled")]
    ObjectLockOff,
    /// The credentials may not make a call the archive needs.
    #[error("{operation} is refused: {code}")]
    Refused {
        /// The call.
        operation: Operation,
        /// S3's error code.
        code: String,
    },
}

impl Store {
    /// Looks at versioning, Object Lock, and the right to list versions.
    pub(crate) async fn check_at_start(&self) -> Result<(), S3Error> {
        let checks = [
            fault(with_retries(&self.patience, || self.versioning_fault()).await)?,
            fault(with_retries(&self.patience, || self.lock_fault()).await)?,
            fault(with_retries(&self.patience, || self.listing_fault()).await)?,
        ];
        let mut faults: Vec<BucketFault> = Vec::new();
        for found in checks.into_iter().flatten() {
            if !faults.contains(&found) {
                faults.push(found);
            }
        }
        if faults.is_empty() { Ok(()) } else { Err(S3Error::Bucket { bucket: self.bucket.clone(), faults }) }
    }

    async fn versioning_fault(&self) -> Result<Option<BucketFault>, S3Error> {
        let request = self.client.get_bucket_versioning().bucket(&self.bucket).send();
        let reply = call(Operation::GetBucketVersioning, &self.bucket, &self.patience, request).await?;
        Ok(match reply.status() {
            Some(BucketVersioningStatus::Enabled) => None,
            Some(_) => Some(BucketFault::VersioningSuspended),
            None => Some(BucketFault::VersioningOff),
        })
    }

    async fn lock_fault(&self) -> Result<Option<BucketFault>, S3Error> {
        let request = self.client.get_object_lock_configuration().bucket(&self.bucket).send();
        match call(Operation::GetObjectLockConfiguration, &self.bucket, &self.patience, request).await {
            Ok(reply) => {
                let enabled = reply.object_lock_configuration().and_then(|lock| lock.object_lock_enabled());
                Ok((enabled != Some(&ObjectLockEnabled::Enabled)).then_some(BucketFault::ObjectLockOff))
            }
            Err(S3Error::Refused { code, .. }) if code == "ObjectLockConfigurationNotFoundError" => {
                Ok(Some(BucketFault::ObjectLockOff))
            }
            Err(error) => Err(error),
        }
    }

    async fn listing_fault(&self) -> Result<Option<BucketFault>, S3Error> {
        self.version_page(&self.prefix, None, 1).await.map(|_| None)
    }
}

/// A refusal is a fault of the bucket; an outage ends the check.
fn fault(check: Result<Option<BucketFault>, S3Error>) -> Result<Option<BucketFault>, S3Error> {
    match check {
        Err(S3Error::Refused { code, .. }) if code == "NoSuchBucket" => Ok(Some(BucketFault::Missing)),
        Err(S3Error::Refused { operation, code, .. }) => Ok(Some(BucketFault::Refused { operation, code })),
        other => other,
    }
}
