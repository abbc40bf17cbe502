//! The only place that reads the time and makes new ids.

use knit_api::time::Timestamp;

/// The present, in microseconds of UTC.
pub fn now() -> Timestamp {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    Timestamp::from_micros(i64::try_from(since.as_micros()).unwrap_or(i64::MAX))
}

/// A new id: a random UUID, as the original's.
pub fn new_id() -> String {
    uuid::Uuid::new_v4().to_string()
}
