//! How long to leave a Run alone after the work on it failed.

use std::time::Duration;

const FIRST: Duration = Duration::from_millis(500);
const LONGEST: Duration = Duration::from_mins(1);

/// The pause after `failures` failures in a row: half a second, doubled each time, at most a minute.
pub fn pause(failures: i64) -> Duration {
    let doublings = u32::try_from(failures.saturating_sub(1).clamp(0, 16)).unwrap_or(0);
    FIRST.saturating_mul(1 << doublings).min(LONGEST)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pause_doubles_with_each_failure_up_to_a_minute() {
        for (failures, millis) in [
            (i64::MIN, 500),
            (0, 500),
            (1, 500),
            (2, 1_000),
            (3, 2_000),
            (7, 32_000),
            (8, 60_000),
            (9, 60_000),
            (i64::MAX, 60_000),
        ] {
            assert_eq!(pause(failures), Duration::from_millis(millis), "{failures}");
        }
    }
}
