//! Transfers that go through files: each holds a blocking thread for as long as its client takes. So they
//! get fewer places than there are threads, the rest queues, and one that does not move any more is ended:
//! whatever clients do, threads are left for the server's own work.

use std::io;
use std::time::Duration;
use tokio::sync::{Semaphore, SemaphorePermit};

/// Blocking threads of the process.
pub const BLOCKING_THREADS: usize = 2 * AT_ONCE;

/// Transfers under way at one time.
pub(crate) const AT_ONCE: usize = 32;

/// How long a transfer may stand still for want of its other side.
pub(crate) const STILL: Duration = Duration::from_secs(if cfg!(test) { 1 } else { 60 });

/// Of the process, as its blocking threads are.
static PLACES: Semaphore = Semaphore::const_new(AT_ONCE);

/// The right to hold a blocking thread; to be kept for as long as the thread is.
pub(crate) type Place = SemaphorePermit<'static>;

/// Waits for a place, in turn.
pub(crate) async fn place() -> Place {
    PLACES.acquire().await.expect("the places are never closed")
}

/// Waits for the other side of a transfer, but not for ever.
pub(crate) async fn unless_still<T>(other_side: impl Future<Output = T>) -> io::Result<T> {
    tokio::time::timeout(STILL, other_side).await.map_err(|_| stood_still())
}

/// Why a transfer is ended whose other side does not move.
pub(crate) fn stood_still() -> io::Error {
    let why = format!("the other side has not moved for {} seconds", STILL.as_secs());
    io::Error::new(io::ErrorKind::TimedOut, why)
}
