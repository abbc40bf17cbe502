//! Times as people read them: how long ago, or to the second in the zone of this machine.

use knit_api::time::Timestamp;
use std::time::{SystemTime, UNIX_EPOCH};

/// How times stand in a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Times {
    /// `2025-02-03 04:05:06`.
    Full,
    /// `3m ago`, seen from this instant.
    Since(Timestamp),
}

impl Times {
    /// Seen from now.
    pub fn since_now() -> Self {
        let micros = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_micros() as i64);
        Self::Since(Timestamp::from_micros(micros))
    }

    /// The time in this form.
    pub fn show(self, time: Timestamp) -> String {
        match self {
            Self::Full => full(time),
            Self::Since(now) => relative(now, time),
        }
    }
}

/// A time in the zone of this machine, to the second and without its offset.
pub fn full(time: Timestamp) -> String {
    let text = time.in_local_zone().to_string();
    match text.get(..19) {
        Some(second) => second.replacen('T', " ", 1),
        None => text,
    }
}

/// How long before `now` the time `then` is, in the one unit that says most: `42s ago`, `3m ago`, `5h ago`,
/// `12d ago`, `3y ago`. The clocks of two machines may differ a little, so what seems about to be is now.
pub fn relative(now: Timestamp, then: Timestamp) -> String {
    const SECOND: i64 = 1_000_000;
    const MINUTE: i64 = 60 * SECOND;
    const HOUR: i64 = 60 * MINUTE;
    const DAY: i64 = 24 * HOUR;
    const YEAR: i64 = 365 * DAY;
    let age = now.micros().saturating_sub(then.micros());
    let span = age.saturating_abs();
    let text = match span {
        ..SECOND => return "now".to_owned(),
        SECOND..MINUTE if age < 0 => return "now".to_owned(),
        SECOND..MINUTE => format!("{}s", span / SECOND),
        MINUTE..HOUR => format!("{}m", span / MINUTE),
        HOUR..DAY => format!("{}h", span / HOUR),
        DAY.. if span < 2 * YEAR => format!("{}d", span / DAY),
        _ => format!("{}y", span / YEAR),
    };
    if age < 0 { format!("in {text}") } else { format!("{text} ago") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_age_is_said_in_the_unit_that_says_most() {
        let then = Timestamp::parse_strict("2025-02-03T04:05:06Z").unwrap();
        for (now, said) in [
            ("2025-02-03T04:05:06.9Z", "now"),
            ("2025-02-03T04:05:07Z", "1s ago"),
            ("2025-02-03T04:06:05Z", "59s ago"),
            ("2025-02-03T04:06:06Z", "1m ago"),
            ("2025-02-03T05:05:05Z", "59m ago"),
            ("2025-02-03T05:05:06Z", "1h ago"),
            ("2025-02-04T04:05:05Z", "23h ago"),
            ("2025-02-04T04:05:06Z", "1d ago"),
            ("2025-02-04T13:05:06+09:00", "1d ago"),
            ("2027-02-03T04:05:05Z", "729d ago"),
            ("2027-02-03T04:05:06Z", "2y ago"),
            ("2025-02-03T04:05:05Z", "now"),
            ("2025-02-03T04:04:07Z", "now"),
            ("2025-02-03T04:04:06Z", "in 1m"),
            ("2025-02-02T03:05:06Z", "in 1d"),
        ] {
            assert_eq!(relative(Timestamp::parse_strict(now).unwrap(), then), said, "{now}");
        }
        assert_eq!(relative(Timestamp::from_micros(i64::MAX), Timestamp::from_micros(i64::MIN)), "292471y ago");
    }
}
