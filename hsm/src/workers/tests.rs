#![expect(clippy::unwrap_used, reason = "a failed unwrap is the test's failure")]
use super::*;
use crate::signer::KeyShape;
use crate::software::{DevelopmentOnly, SoftwareBackend};
use crate::testing::{Fault, FaultyDevice};
use chancery_format::{PublicKey, SignatureAlgorithm};
use std::sync::Mutex;

#[tokio::test]
async fn a_device_whose_every_session_hangs_refuses_at_once_until_one_is_free() {
    let keys = SoftwareBackend::ephemeral("device", DevelopmentOnly::check(true, false).unwrap());
    keys.generate_key("k", KeyShape::Ed25519).unwrap();
    let device = FaultyDevice::new(Arc::new(keys), Cost::Blocking, 2);
    let faults = device.faults();
    let mut lane = Lane::start(Arc::new(device), Arc::default(), 8).unwrap();
    lane.crew.as_mut().unwrap().stuck_after = Duration::ZERO;
    let lane = Arc::new(lane);
    let handle = lane.backend.open_key("k", SignatureAlgorithm::Ed25519).unwrap();
    let deadline = Instant::now() + Duration::from_secs(60);
    let sign = || {
        let (lane, handle) = (Arc::clone(&lane), Arc::clone(&handle));
        tokio::spawn(async move {
            lane.sign(&handle, OwnedInput::Message([1].as_slice().into()), deadline, Flow::Unnamed).await
        })
    };
    faults.set(Fault::Hang);
    let first = sign();
    while faults.inside() < 1 {
        tokio::task::yield_now().await;
    }
    assert_eq!(lane.health().state, BackendState::Up);
    assert!(lane.look(None).is_ok());
    let second = sign();
    while lane.health().state != BackendState::Stuck {
        assert!(Instant::now() < deadline);
        tokio::task::yield_now().await;
    }
    assert_eq!(sign().await.unwrap().unwrap_err().code(), "backend-unavailable");
    assert_eq!(lane.look(None).unwrap_err().code(), "backend-unavailable");
    faults.set(Fault::None);
    assert!(first.await.unwrap().is_ok() && second.await.unwrap().is_ok());
    // Whoever looks too early sees a thread that has answered but not yet put itself down as idle.
    while lane.health().in_flight > 0 {
        tokio::task::yield_now().await;
    }
    assert!(sign().await.unwrap().is_ok());
}

/// A key that tells which messages it was used for, in order.
struct Recording {
    inner: Arc<dyn SignerHandle>,
    order: Mutex<Vec<u8>>,
}

impl SignerHandle for Recording {
    fn algorithm(&self) -> SignatureAlgorithm {
        self.inner.algorithm()
    }

    fn public_key(&self) -> Option<&PublicKey> {
        self.inner.public_key()
    }

    fn sign(&self, input: SealInput<'_>, deadline: Instant) -> Result<Vec<u8>, SignerError> {
        self.order.lock().unwrap().extend(input.bytes());
        self.inner.sign(input, deadline)
    }
}

#[tokio::test]
async fn who_fills_the_queue_makes_room_for_others_and_they_take_turns() {
    const NOISY: Flow = Flow::Principal(1);
    const QUIET: Flow = Flow::Principal(2);
    let keys = SoftwareBackend::ephemeral("device", DevelopmentOnly::check(true, false).unwrap());
    keys.generate_key("k", KeyShape::Ed25519).unwrap();
    let device = FaultyDevice::new(Arc::new(keys), Cost::Blocking, 1);
    let faults = device.faults();
    let lane = Arc::new(Lane::start(Arc::new(device), Arc::default(), 4).unwrap());
    let inner = lane.backend.open_key("k", SignatureAlgorithm::Ed25519).unwrap();
    let recording = Arc::new(Recording { inner, order: Mutex::default() });
    let deadline = Instant::now() + Duration::from_secs(60);
    let sign = |number: u8, flow| {
        let (lane, handle) = (Arc::clone(&lane), Arc::clone(&recording) as Arc<dyn SignerHandle>);
        let input = OwnedInput::Message([number].as_slice().into());
        tokio::spawn(async move { lane.sign(&handle, input, deadline, flow).await })
    };
    let queued = async |depth| {
        while lane.health().queue_depth != depth {
            assert!(Instant::now() < deadline);
            tokio::task::yield_now().await;
        }
    };
    faults.set(Fault::Hang);
    let mut served = vec![sign(10, NOISY)];
    while faults.inside() < 1 {
        tokio::task::yield_now().await;
    }
    for (number, depth) in [(11, 1), (12, 2), (13, 3)] {
        served.push(sign(number, NOISY));
        queued(depth).await;
    }
    let newest = sign(14, NOISY);
    queued(4).await;
    assert_eq!(sign(15, NOISY).await.unwrap(), Err(SignerError::Busy));
    let looks = [Some(NOISY), None, Some(QUIET), Some(Flow::Ledger)].map(|flow| lane.look(flow).is_ok());
    assert_eq!(looks, [false, false, true, true]);

    served.push(sign(20, QUIET));
    assert_eq!(newest.await.unwrap(), Err(SignerError::Busy), "the newest of the noisy makes room");
    assert_eq!(lane.health().queue_depth, 4);
    assert_eq!(lane.look(Some(NOISY)), Err(SignerError::Busy));
    faults.set(Fault::None);
    for served in served {
        assert!(served.await.unwrap().is_ok());
    }
    assert_eq!(*recording.order.lock().unwrap(), [10, 11, 20, 12, 13]);
}
