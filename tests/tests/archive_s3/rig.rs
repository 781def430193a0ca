//! A bucket of one's own on a shared server, a raw client to attack it with, and archives on it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, SystemTime};

use aws_sdk_s3::Client;
use aws_sdk_s3::config::{BehaviorVersion, Credentials, Region, SharedCredentialsProvider};
use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::{BucketVersioningStatus, VersioningConfiguration};
use chancery_archive_s3::{Patience, S3Archive, S3Options};
use chancery_format::Timestamp;
use chancery_ledger::Clock;
use chancery_tests::servers::{Fault, FaultProxy, ObjectStore};

pub(crate) const DAY_SECONDS: i64 = 86_400;
pub(crate) const RETENTION_DAYS: u32 = 400;

/// The machine's clock, moved by so many days.
pub(crate) struct MovedClock(pub(crate) i64);

impl Clock for MovedClock {
    fn now(&self) -> Timestamp {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
        Timestamp::from_unix_ms(now.as_millis() as i64 + self.0 * DAY_SECONDS * 1000).unwrap()
    }
}

pub(crate) fn now_seconds() -> i64 {
    MovedClock(0).now().unix_ms() / 1000
}

pub(crate) struct Rig {
    pub(crate) store: ObjectStore,
    pub(crate) address: SocketAddr,
    pub(crate) bucket: String,
    /// For attacks and for looking at the bucket without the archive's eyes.
    pub(crate) raw: Client,
    pub(crate) runtime: tokio::runtime::Runtime,
}

impl Rig {
    /// A new bucket with Object Lock.
    pub(crate) fn new(store: ObjectStore) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let server = store.shared().unwrap_or_else(|error| panic!("{error}"));
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let config = aws_sdk_s3::Config::builder()
            .behavior_version(BehaviorVersion::v2026_01_12())
            .region(Region::new("us-east-1"))
            .credentials_provider(credentials())
            .endpoint_url(server.endpoint_url())
            .force_path_style(true)
            .build();
        let bucket = format!("archive-{}", COUNT.fetch_add(1, Ordering::Relaxed));
        let rig = Self { store, address: server.address(), bucket, raw: Client::from_conf(config), runtime };
        rig.make_bucket(&rig.bucket, true);
        rig
    }

    /// Waits for a call of the raw client.
    pub(crate) fn wait<T>(&self, work: impl Future<Output = T>) -> T {
        self.runtime.block_on(work)
    }

    pub(crate) fn make_bucket(&self, bucket: &str, locked: bool) {
        self.wait(self.raw.create_bucket().bucket(bucket).object_lock_enabled_for_bucket(locked).send())
            .unwrap();
    }

    pub(crate) fn set_versioning(&self, bucket: &str, status: BucketVersioningStatus) {
        let configuration = VersioningConfiguration::builder().status(status).build();
        let request = self.raw.put_bucket_versioning().bucket(bucket).versioning_configuration(configuration);
        self.wait(request.send()).unwrap();
    }

    pub(crate) fn options(&self) -> S3Options {
        S3Options {
            prefix: "ledger/one".to_owned(),
            endpoint_url: Some(format!("http://{}", self.address)),
            path_style: true,
            retention_days: RETENTION_DAYS,
            credentials: Some(SharedCredentialsProvider::new(credentials())),
            ..S3Options::new(&self.bucket, "us-east-1")
        }
    }

    /// An archive under the prefix `ledger/one/`.
    pub(crate) fn archive(&self) -> S3Archive {
        S3Archive::open(&self.options(), Arc::new(MovedClock(0))).unwrap()
    }

    /// The same behind a proxy, with little patience.
    pub(crate) fn archive_behind(&self, proxy: &FaultProxy, attempts: u32) -> S3Archive {
        let options = S3Options {
            endpoint_url: Some(proxy.endpoint_url()),
            patience: Patience {
                request_timeout: Duration::from_secs(10),
                attempts,
                backoff: Duration::from_millis(20),
                ..Patience::default()
            },
            ..self.options()
        };
        S3Archive::open(&options, Arc::new(MovedClock(0))).unwrap()
    }

    pub(crate) fn proxy(&self) -> FaultProxy {
        FaultProxy::start(self.address).unwrap()
    }

    /// How a put looks to a store that does not honour create-only. Ceph does not by itself, and refuses
    /// requests that were changed on the way.
    pub(crate) fn without_create_only(&self) -> Fault {
        match self.store {
            ObjectStore::CephGateway => Fault::Pass,
            _ => Fault::Strip(vec!["if-none-match"]),
        }
    }

    pub(crate) fn key(name: &str) -> String {
        format!("ledger/one/{name}")
    }

    /// Puts without lock or condition, as an attacker would.
    pub(crate) fn overwrite(&self, name: &str, bytes: impl Into<Vec<u8>>) {
        let body = ByteStream::from(bytes.into());
        self.wait(self.raw.put_object().bucket(&self.bucket).key(Self::key(name)).body(body).send()).unwrap();
    }

    /// Puts the same bytes so many times more, some at once.
    pub(crate) fn flood(&self, name: &str, bytes: &[u8], times: usize) {
        let put = |_| {
            let body = ByteStream::from(bytes.to_vec());
            let request = self.raw.put_object().bucket(&self.bucket).key(Self::key(name)).body(body);
            self.runtime.spawn(request.send())
        };
        let mut numbers = 0..times;
        while !numbers.is_empty() {
            let puts: Vec<_> = numbers.by_ref().take(16).map(put).collect();
            puts.into_iter().for_each(|put| drop(self.wait(put).unwrap().unwrap()));
        }
    }

    /// Lays a delete marker over the name.
    pub(crate) fn delete(&self, name: &str) {
        self.wait(self.raw.delete_object().bucket(&self.bucket).key(Self::key(name)).send()).unwrap();
    }

    /// Ids of the name's versions, newest first.
    pub(crate) fn versions(&self, name: &str) -> Vec<String> {
        let request = self.raw.list_object_versions().bucket(&self.bucket).prefix(Self::key(name)).send();
        let reply = self.wait(request).unwrap();
        let exact = reply.versions().iter().filter(|version| version.key() == Some(&Self::key(name)));
        exact.map(|version| version.version_id().unwrap().to_owned()).collect()
    }
}

/// Access key and secret of every store.
pub(crate) const KEY: &str = "test";

fn credentials() -> Credentials {
    Credentials::builder().access_key_id(KEY).secret_access_key(KEY).provider_name("tests").build()
}
