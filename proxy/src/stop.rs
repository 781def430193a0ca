//! How every task of the daemon learns that it should end.

use tokio::sync::watch;

/// Returns once the signal turned true, or whoever could turn it is gone.
pub(crate) async fn stopped(signal: &mut watch::Receiver<bool>) {
    // The guard that `wait_for` returns must not live on in the caller's future.
    let _ = signal.wait_for(|stop| *stop).await;
}
