//! A thread of its own for the SDK, so that whoever signs needs no runtime, and whoever has one
//! is not in its way.

use std::future::Future;

use tokio::runtime::Runtime;

/// Owns the runtime; may be dropped anywhere, also inside another runtime.
#[derive(Debug)]
pub(crate) struct OwnRuntime(Option<Runtime>);

impl OwnRuntime {
    pub(crate) fn start() -> std::io::Result<Self> {
        tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            // Name look-ups and credential files block for a moment.
            .max_blocking_threads(2)
            .thread_name("aws-kms")
            .enable_all()
            .build()
            .map(|runtime| Self(Some(runtime)))
    }

    /// Runs `work` on the runtime and blocks the calling thread, whatever it is, until it is done. `None` if
    /// the work panicked.
    pub(crate) fn wait<T: Send + 'static>(
        &self,
        work: impl Future<Output = T> + Send + 'static,
    ) -> Option<T> {
        let (sender, receiver) = std::sync::mpsc::sync_channel(1);
        self.0.as_ref()?.spawn(async move {
            // The receiver waits below for as long as this task lives.
            let _ = sender.send(work.await);
        });
        receiver.recv().ok()
    }
}

impl Drop for OwnRuntime {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}
