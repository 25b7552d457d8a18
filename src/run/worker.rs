//! Threads for work that may block, beside the loop's.

use tokio::sync::oneshot;

use super::BLOCKING_THREADS;

/// A thread with a runtime of its own. What runs there is dropped with it.
pub(super) struct Worker {
    pub(super) handle: tokio::runtime::Handle,
    _ends: oneshot::Sender<()>,
}

impl Worker {
    pub(super) fn start(name: &str) -> std::io::Result<Worker> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .max_blocking_threads(BLOCKING_THREADS)
            .build()?;
        let handle = runtime.handle().clone();
        let (ends, ended) = oneshot::channel::<()>();
        std::thread::Builder::new().name(name.to_owned()).spawn(move || {
            // An error is the sender's end: the agent's.
            let _ = runtime.block_on(ended);
            runtime.shutdown_background();
        })?;
        Ok(Worker { handle, _ends: ends })
    }
}
