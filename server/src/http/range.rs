//! `Range`: which bytes of a file are asked for. One range is served; several, and what is no range of bytes,
//! count as none, as RFC 9110 allows.

use axum::http::{HeaderMap, header};
use std::ops::Range;

/// What a request asks for of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Asked {
    /// All of it.
    Whole,
    /// These bytes; never none.
    Part(Range<u64>),
    /// Bytes that it does not have.
    Unsatisfiable,
}

/// What the headers ask for of a file with this size and entity tag.
pub(super) fn asked(headers: &HeaderMap, size: u64, tag: &str) -> Asked {
    let text = |name| headers.get(name).and_then(|value: &axum::http::HeaderValue| value.to_str().ok());
    // Of another version nothing is wanted but all of it.
    if headers.contains_key(header::IF_RANGE) && text(header::IF_RANGE) != Some(tag) {
        return Asked::Whole;
    }
    text(header::RANGE).and_then(|range| parse(range, size)).unwrap_or(Asked::Whole)
}

fn parse(range: &str, size: u64) -> Option<Asked> {
    let (unit, range) = range.split_once('=')?;
    let (first, last) = range.trim().split_once('-')?;
    let is_number = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if !unit.trim().eq_ignore_ascii_case("bytes") || !is_number(first) || !is_number(last) {
        return None;
    }
    let bytes = match (number(first), number(last)) {
        (None, None) => return None,
        (None, Some(count)) => size.saturating_sub(count)..size,
        (Some(first), None) => first..size,
        (Some(first), Some(last)) if last < first => return None,
        (Some(first), Some(last)) => first..last.saturating_add(1).min(size),
    };
    Some(if bytes.start < bytes.end { Asked::Part(bytes) } else { Asked::Unsatisfiable })
}

/// A number that may be left out. One that is too large for us is larger than any file.
fn number(digits: &str) -> Option<u64> {
    (!digits.is_empty()).then(|| digits.parse().unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(range: &str, size: u64) -> Asked {
        asked(&HeaderMap::from_iter([(header::RANGE, range.parse().unwrap())]), size, "\"t\"")
    }

    #[test]
    fn one_range_is_understood_and_everything_else_is_the_whole() {
        for (range, expected) in [
            ("bytes=0-0", Asked::Part(0..1)),
            ("bytes=0-9", Asked::Part(0..10)),
            ("bytes=3-5", Asked::Part(3..6)),
            ("bytes=3-99", Asked::Part(3..10)),
            ("bytes=3-", Asked::Part(3..10)),
            ("BYTES = 9-", Asked::Part(9..10)),
            ("bytes=-1", Asked::Part(9..10)),
            ("bytes=-99", Asked::Part(0..10)),
            ("bytes=0-99999999999999999999999", Asked::Part(0..10)),
            ("bytes=10-", Asked::Unsatisfiable),
            ("bytes=99999999999999999999999-", Asked::Unsatisfiable),
            ("bytes=-0", Asked::Unsatisfiable),
            ("bytes=5-3", Asked::Whole),
            ("bytes=-", Asked::Whole),
            ("bytes=", Asked::Whole),
            ("bytes", Asked::Whole),
            ("bytes=a-b", Asked::Whole),
            ("bytes=+1-2", Asked::Whole),
            ("bytes=0-1,3-4", Asked::Whole),
            ("lines=0-1", Asked::Whole),
            ("", Asked::Whole),
        ] {
            assert_eq!(of(range, 10), expected, "{range}");
        }
        assert_eq!(of("bytes=0-", 0), Asked::Unsatisfiable);
        assert_eq!(asked(&HeaderMap::new(), 0, "\"t\""), Asked::Whole);
    }

    #[test]
    fn a_range_of_another_version_is_the_whole() {
        for (tag, expected) in [("\"t\"", Asked::Part(0..1)), ("\"u\"", Asked::Whole), ("t", Asked::Whole)] {
            let headers = HeaderMap::from_iter([
                (header::RANGE, "bytes=0-0".parse().unwrap()),
                (header::IF_RANGE, tag.parse().unwrap()),
            ]);
            assert_eq!(asked(&headers, 10, "\"t\""), expected, "{tag}");
        }
    }

    proptest::proptest! {
        #[test]
        fn whatever_is_asked_for_is_within_the_file(range in r"(bytes=)?[0-9a -]{0,24}(,[0-9-]*)?", size in 0_u64..100) {
            if let Asked::Part(bytes) = of(&range, size) {
                proptest::prop_assert!(bytes.start < bytes.end && bytes.end <= size);
            }
        }
    }
}
