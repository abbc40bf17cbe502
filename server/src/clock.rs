//! The only place that reads the time and makes new ids.

use knit_api::time::Timestamp;
use std::time::{Duration, Instant};

/// The present, in microseconds of UTC.
pub fn now() -> Timestamp {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    Timestamp::from_micros(i64::try_from(since.as_micros()).unwrap_or(i64::MAX))
}

/// The present as file systems tell it.
pub fn file_time() -> std::time::SystemTime {
    std::time::SystemTime::now()
}

/// The instant `span` after now.
pub fn after(span: Duration) -> Timestamp {
    let span = i64::try_from(span.as_micros()).unwrap_or(i64::MAX);
    Timestamp::from_micros(now().micros().saturating_add(span))
}

/// The instant `span` before now.
pub fn before(span: Duration) -> Timestamp {
    let span = i64::try_from(span.as_micros()).unwrap_or(i64::MAX);
    Timestamp::from_micros(now().micros().saturating_sub(span))
}

/// How long it is until `then`; zero when that is past.
pub fn until(then: Timestamp) -> Duration {
    Duration::from_micros(u64::try_from(then.micros().saturating_sub(now().micros())).unwrap_or(0))
}

/// The instant `span` after now for a wait within this process, whatever happens to the wall clock meanwhile.
pub fn deadline(span: Duration) -> tokio::time::Instant {
    tokio::time::Instant::now() + span
}

/// A new id: a random UUID, as the original's.
pub fn new_id() -> String {
    uuid::Uuid::new_v4().to_string()
}

/// Measures how long something takes, whatever happens to the wall clock meanwhile.
#[derive(Clone, Copy, Debug)]
pub struct Stopwatch(Instant);

impl Stopwatch {
    /// Begins now.
    pub fn start() -> Self {
        Self(Instant::now())
    }

    /// Time since the beginning.
    pub fn elapsed(&self) -> Duration {
        self.0.elapsed()
    }
}
