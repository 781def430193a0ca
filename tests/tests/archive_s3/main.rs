//! The archive against servers that enforce Object Lock independently of each other.
//!
//! Every story runs on two of them, and on a third with `--features ceph`. What none of them shows (a store
//! that drops locks, repeats itself or breaks down) a proxy in between does. The last stories are the whole
//! appliance's: `chanceryd` archives, `chancery-verify` reads, each over the wire.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failed unwrap is the test's failure")]

/// One test per store for each story.
macro_rules! on_each {
    ($($story:ident),+ $(,)?) => { $(
        mod $story {
            use chancery_tests::servers::ObjectStore;
            #[test]
            fn on_ministack() {
                super::$story(&crate::rig::Rig::new(ObjectStore::MiniStack));
            }
            #[test]
            fn on_localstack() {
                super::$story(&crate::rig::Rig::new(ObjectStore::LocalStack));
            }
            #[cfg(feature = "ceph")]
            #[test]
            fn on_ceph() {
                super::$story(&crate::rig::Rig::new(ObjectStore::CephGateway));
            }
        }
    )+ };
}

mod appliance;
mod audits;
mod bucket;
mod checking;
mod lag;
mod locks;
mod outages;
mod races;
mod requests;
mod rig;
mod round_trip;
mod static_log;
mod tampering;
