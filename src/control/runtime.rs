//! The runtime of the control thread: tokio-uring where the workers run on io_uring, plain tokio elsewhere. Either way
//! it is one thread with tokio's sockets and timers and a local task set.

use std::future::Future;
use std::io;

use crate::io::EngineKind;

/// Runs `main` to its end.
///
/// # Errors
/// When no runtime can be built: descriptors or memory are exhausted.
pub fn block_on<F: Future>(engine: EngineKind, main: F) -> io::Result<F::Output> {
    if engine == EngineKind::Uring {
        // A handful of entries: this ring carries no traffic.
        match tokio_uring::Runtime::new(tokio_uring::builder().entries(16)) {
            Ok(runtime) => return Ok(runtime.block_on(main)),
            // The trial ring's memory may still be counted as locked.
            Err(error) => tracing::warn!(%error, "no ring for the control thread; it runs on epoll"),
        }
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    Ok(tokio::task::LocalSet::new().block_on(&runtime, main))
}
