//! Times and durations in the forms the wire and the command line use.
//!
//! Times are printed as `YYYY-MM-DDTHH:MM:SS[.fff]±HH:MM`: milliseconds truncated, trailing zeros
//! dropped, the offset numeric and never `Z`. They are read as strict RFC 3339 on the wire and
//! loosely from people. Durations have Go's syntax (`1h30m`, `1.5s`).

use jiff::tz::{Offset, TimeZone};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use std::fmt;

/// An instant with microsecond precision, and the offset in which it is shown.
/// Comparison is by instant alone.
#[derive(Clone, Copy, Debug)]
pub struct Timestamp {
    micros: i64,
    offset_seconds: i32,
}

/// Why a text is not a time or a duration.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("\"{text}\" is not {wanted}")]
pub struct TimeError {
    text: String,
    wanted: &'static str,
}

const STRICT: &str = "an RFC 3339 time such as 2025-02-03T04:05:06.789+09:00";
const LOOSE: &str = "a time: write for example 2025-02-03, 2025-02-03T04:05 or 2025-02-03T04:05:06+09:00";
const DURATION: &str = "a duration: write for example 90s, 1h30m or 24h";

impl Timestamp {
    /// The instant `micros` microseconds after 1970-01-01T00:00:00Z, shown in UTC.
    pub const fn from_micros(micros: i64) -> Self {
        Self { micros, offset_seconds: 0 }
    }

    /// The instant `millis` milliseconds after 1970-01-01T00:00:00Z, shown in UTC.
    pub const fn from_millis(millis: i64) -> Self {
        Self::from_micros(millis.saturating_mul(1000))
    }

    /// Microseconds since 1970-01-01T00:00:00Z.
    pub const fn micros(self) -> i64 {
        self.micros
    }

    /// Milliseconds since 1970-01-01T00:00:00Z, rounded down: the precision of `knit#timestamp`.
    pub const fn millis(self) -> i64 {
        self.micros.div_euclid(1000)
    }

    /// Reads strict RFC 3339: `T` in upper case, seconds present, offset `Z` or `±HH:MM`;
    /// the fraction may follow a dot or a comma.
    pub fn parse_strict(text: &str) -> Result<Self, TimeError> {
        parse_rfc3339(text).ok_or_else(|| TimeError { text: text.to_owned(), wanted: STRICT })
    }

    /// Reads what a person types: date alone, `T` or a space, hours, minutes, seconds and offset
    /// may be missing; without an offset the local zone is meant.
    pub fn parse_loose(text: &str) -> Result<Self, TimeError> {
        parse_loose(text.trim()).ok_or_else(|| TimeError { text: text.to_owned(), wanted: LOOSE })
    }

    /// The same instant in the zone of this process, for showing to a person.
    #[must_use]
    pub fn in_local_zone(self) -> Self {
        let offset_seconds =
            jiff::Timestamp::from_microsecond(self.micros).map_or(0, |t| TimeZone::system().to_offset(t).seconds());
        Self { offset_seconds, ..self }
    }
}

impl PartialEq for Timestamp {
    fn eq(&self, other: &Self) -> bool {
        self.micros == other.micros
    }
}
impl Eq for Timestamp {}
impl PartialOrd for Timestamp {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Timestamp {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.micros.cmp(&other.micros)
    }
}
impl std::hash::Hash for Timestamp {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.micros.hash(state);
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let offset = Offset::from_seconds(self.offset_seconds).unwrap_or(Offset::UTC);
        let at = jiff::Timestamp::from_microsecond(self.micros).unwrap_or_default();
        let local = offset.to_datetime(at);
        write!(
            f,
            "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}",
            local.year(),
            local.month(),
            local.day(),
            local.hour(),
            local.minute(),
            local.second()
        )?;
        let millis = self.millis().rem_euclid(1000);
        if millis != 0 {
            write!(f, ".{}", format!("{millis:03}").trim_end_matches('0'))?;
        }
        let minutes = self.offset_seconds.abs() / 60;
        let sign = if self.offset_seconds < 0 { '-' } else { '+' };
        write!(f, "{sign}{:02}:{:02}", minutes / 60, minutes % 60)
    }
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse_strict(&text).map_err(de::Error::custom)
    }
}

/// Reads digits off the front of a text.
struct Cursor<'a>(&'a [u8]);

impl Cursor<'_> {
    fn number(&mut self, digits: usize) -> Option<i64> {
        let (head, tail) = self.0.split_at_checked(digits)?;
        if !head.iter().all(u8::is_ascii_digit) {
            return None;
        }
        self.0 = tail;
        head.iter().try_fold(0i64, |n, d| Some(n * 10 + i64::from(d - b'0')))
    }

    fn take(&mut self, any_of: &[u8]) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        if !any_of.contains(first) {
            return None;
        }
        self.0 = rest;
        Some(*first)
    }

    /// Fraction of a second in microseconds, further digits dropped; at least one digit.
    fn fraction(&mut self) -> Option<i64> {
        let len = self.0.iter().take_while(|b| b.is_ascii_digit()).count();
        if len == 0 {
            return None;
        }
        let (digits, rest) = self.0.split_at(len);
        self.0 = rest;
        Some((0..6).fold(0, |n, i| n * 10 + digits.get(i).map_or(0, |d| i64::from(d - b'0'))))
    }

    fn offset(&mut self) -> Option<i32> {
        match self.take(b"Z+-")? {
            b'Z' => Some(0),
            sign => {
                let hours = self.number(2)?;
                self.take(b":")?;
                let minutes = self.number(2)?;
                if hours > 23 || minutes > 59 {
                    return None;
                }
                let seconds = (hours * 3600 + minutes * 60) as i32;
                Some(if sign == b'-' { -seconds } else { seconds })
            }
        }
    }
}

fn instant(date: (i64, i64, i64), clock: (i64, i64, i64), micros: i64, offset_seconds: i32) -> Option<Timestamp> {
    let local = civil(date, clock)?;
    let at = Offset::from_seconds(offset_seconds).ok()?.to_timestamp(local).ok()?;
    Some(Timestamp { micros: at.as_microsecond().checked_add(micros)?, offset_seconds })
}

fn civil(date: (i64, i64, i64), clock: (i64, i64, i64)) -> Option<jiff::civil::DateTime> {
    let small = |n: i64| i8::try_from(n).ok();
    jiff::civil::DateTime::new(
        i16::try_from(date.0).ok()?,
        small(date.1)?,
        small(date.2)?,
        small(clock.0)?,
        small(clock.1)?,
        small(clock.2)?,
        0,
    )
    .ok()
}

fn date(cursor: &mut Cursor<'_>) -> Option<(i64, i64, i64)> {
    let year = cursor.number(4)?;
    cursor.take(b"-")?;
    let month = cursor.number(2)?;
    cursor.take(b"-")?;
    Some((year, month, cursor.number(2)?))
}

fn parse_rfc3339(text: &str) -> Option<Timestamp> {
    let mut cursor = Cursor(text.as_bytes());
    let date = date(&mut cursor)?;
    cursor.take(b"T")?;
    let hour = cursor.number(2)?;
    cursor.take(b":")?;
    let minute = cursor.number(2)?;
    cursor.take(b":")?;
    let second = cursor.number(2)?;
    let micros = if cursor.take(b".,").is_some() { cursor.fraction()? } else { 0 };
    let offset = cursor.offset()?;
    if !cursor.0.is_empty() || second > 59 || hour > 23 {
        return None;
    }
    instant(date, (hour, minute, second), micros, offset)
}

fn parse_loose(text: &str) -> Option<Timestamp> {
    let mut cursor = Cursor(text.as_bytes());
    let date = date(&mut cursor)?;
    let mut clock = (0, 0, 0);
    let mut micros = 0;
    if cursor.take(b"T ").is_some() {
        clock.0 = cursor.number(2)?;
        if cursor.take(b":").is_some() {
            clock.1 = cursor.number(2)?;
            if cursor.take(b":").is_some() {
                clock.2 = cursor.number(2)?;
                if cursor.take(b".,").is_some() {
                    micros = cursor.fraction()?;
                }
            }
        }
    }
    if clock.0 > 23 || clock.2 > 59 {
        return None;
    }
    if cursor.0.is_empty() {
        let zoned = TimeZone::system().to_ambiguous_zoned(civil(date, clock)?).compatible().ok()?;
        let micros = zoned.timestamp().as_microsecond().checked_add(micros)?;
        return Some(Timestamp { micros, offset_seconds: zoned.offset().seconds() });
    }
    let offset = cursor.offset()?;
    if cursor.0.is_empty() { instant(date, clock, micros, offset) } else { None }
}

/// A span of time with Go's text form, in nanoseconds; may be negative.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Duration(i64);

impl Duration {
    /// Whole microseconds of this span.
    pub const fn micros(self) -> i64 {
        self.0 / 1000
    }
}

impl std::str::FromStr for Duration {
    type Err = TimeError;

    /// Optional sign, then one or more `<decimal><unit>` with units ns, us, µs, ms, s, m, h; or `0`.
    fn from_str(text: &str) -> Result<Self, TimeError> {
        parse_duration(text).map(Duration).ok_or_else(|| TimeError { text: text.to_owned(), wanted: DURATION })
    }
}

fn parse_duration(text: &str) -> Option<i64> {
    const UNITS: [(&str, i128); 8] = [
        ("ns", 1),
        ("us", 1_000),
        ("µs", 1_000),
        ("μs", 1_000),
        ("ms", 1_000_000),
        ("s", 1_000_000_000),
        ("m", 60_000_000_000),
        ("h", 3_600_000_000_000),
    ];
    let (negative, mut rest) = match text.as_bytes().first()? {
        b'-' => (true, &text[1..]),
        b'+' => (false, &text[1..]),
        _ => (false, text),
    };
    if rest == "0" {
        return Some(0);
    }
    let mut total: i128 = 0;
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, tail) = rest.split_at(end);
        let unit_end = tail.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(tail.len());
        let (unit, after) = tail.split_at(unit_end);
        let scale = UNITS.iter().find(|(name, _)| *name == unit)?.1;
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        if (whole.is_empty() && fraction.is_empty()) || fraction.contains('.') || whole.len() > 19 {
            return None;
        }
        let digits = &fraction[..fraction.len().min(18)];
        let whole: i128 = if whole.is_empty() { 0 } else { whole.parse().ok()? };
        let part: i128 = if digits.is_empty() { 0 } else { digits.parse().ok()? };
        total += whole * scale + part * scale / 10i128.pow(digits.len() as u32);
        rest = after;
    }
    i64::try_from(if negative { -total } else { total }).ok()
}

impl fmt::Display for Duration {
    /// Go's canonical form: `24h0m0s`, `1h30m0s`, `1.5s`, `300ms`, `0s`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let nanos = self.0.unsigned_abs();
        if nanos == 0 {
            return f.write_str("0s");
        }
        if self.0 < 0 {
            f.write_str("-")?;
        }
        if nanos < 1_000_000_000 {
            let (scale, unit) = match nanos {
                0..1_000 => (1, "ns"),
                1_000..1_000_000 => (1_000, "µs"),
                _ => (1_000_000, "ms"),
            };
            return write!(f, "{}{unit}", decimal(nanos, scale));
        }
        let (hours, minutes) = (nanos / 3_600_000_000_000, nanos / 60_000_000_000 % 60);
        if hours > 0 {
            write!(f, "{hours}h")?;
        }
        if hours > 0 || minutes > 0 {
            write!(f, "{minutes}m")?;
        }
        write!(f, "{}s", decimal(nanos % 60_000_000_000, 1_000_000_000))
    }
}

fn decimal(value: u64, scale: u64) -> String {
    let digits = scale.ilog10() as usize;
    let text = format!("{}.{:0digits$}", value / scale, value % scale);
    if digits == 0 {
        return (value / scale).to_string();
    }
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_printed_with_truncated_milliseconds_and_a_numeric_offset() {
        for (text, shown) in [
            ("2025-02-03T04:05:06Z", "2025-02-03T04:05:06+00:00"),
            ("2025-02-03T04:05:06.120+00:00", "2025-02-03T04:05:06.12+00:00"),
            ("2025-02-03T04:05:06.789999+09:00", "2025-02-03T04:05:06.789+09:00"),
            ("2025-02-03T04:05:06,5-03:30", "2025-02-03T04:05:06.5-03:30"),
            ("0001-01-01T00:00:00Z", "0001-01-01T00:00:00+00:00"),
        ] {
            assert_eq!(Timestamp::parse_strict(text).unwrap().to_string(), shown);
        }
    }

    #[test]
    fn only_strict_rfc_3339_is_read_from_the_wire() {
        for text in [
            "2025-02-03t04:05:06Z",
            "2025-02-03T04:05:06z",
            "2025-02-03 04:05:06Z",
            "2025-02-03T04:05Z",
            "2025-02-03T04:05:06+0900",
            "2025-02-03T04:05:60Z",
            "2025-02-03T24:00:00Z",
            "2025-02-30T00:00:00Z",
            "2025-02-03T04:05:06",
            "",
        ] {
            assert!(Timestamp::parse_strict(text).is_err(), "{text}");
        }
    }

    #[test]
    fn people_may_leave_parts_of_a_time_out() {
        for text in [
            "2025-02-03",
            "2025-02-03T04",
            "2025-02-03 04:05",
            "2025-02-03T04:05:06",
            "2025-02-03T04:05:06.7",
            "2025-02-03Z",
            "2025-02-03T04:05+09:00",
        ] {
            assert!(Timestamp::parse_loose(text).is_ok(), "{text}");
        }
        for text in ["", "today", "2025-2-3", "2025-02-03T", "2025-02-03T04:05+0900"] {
            assert!(Timestamp::parse_loose(text).is_err(), "{text}");
        }
    }

    #[test]
    fn durations_have_the_syntax_of_go() {
        for (text, shown) in [
            ("24h", "24h0m0s"),
            ("90m", "1h30m0s"),
            ("1.5s", "1.5s"),
            ("300ms", "300ms"),
            ("1h0m1ns", "1h0m0.000000001s"),
            ("-2h45m", "-2h45m0s"),
            ("0", "0s"),
            ("1.5us", "1.5µs"),
        ] {
            assert_eq!(text.parse::<Duration>().unwrap().to_string(), shown, "{text}");
        }
        for text in ["", "-", "3", "1x", "s", "1h 3m", "99999999999999999999h", "1..2s"] {
            assert!(text.parse::<Duration>().is_err(), "{text}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_text_makes_a_parser_panic(text in ".{0,40}") {
            let _ = Timestamp::parse_strict(&text);
            let _ = Timestamp::parse_loose(&text);
            let _ = text.parse::<Duration>();
        }

        #[test]
        fn a_printed_duration_is_read_back(nanos in i64::MIN + 1..i64::MAX) {
            let duration = Duration(nanos);
            proptest::prop_assert_eq!(duration.to_string().parse::<Duration>().unwrap(), duration);
        }
    }
}
