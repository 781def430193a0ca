//! The archive against two servers that enforce Object Lock independently of each other.
//!
//! Every story runs on both. What neither of them shows (a store that ignores create-only, drops locks or
//! breaks down) a proxy in between does.

#![expect(clippy::unwrap_used, reason = "a failed unwrap is the test's failure")]

/// One test per emulator for each story.
macro_rules! on_both {
    ($($story:ident),+ $(,)?) => { $(
        mod $story {
            use chancery_tests::servers::Emulator;
            #[test]
            fn on_ministack() {
                super::$story(&crate::rig::Rig::new(Emulator::MiniStack));
            }
            #[test]
            fn on_localstack() {
                super::$story(&crate::rig::Rig::new(Emulator::LocalStack));
            }
        }
    )+ };
}

mod bucket;
mod locks;
mod outages;
mod requests;
mod races;
mod rig;
mod round_trip;
mod tampering;
