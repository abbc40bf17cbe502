//! What an error looks like on the wire: `{"message": "reason\nadvice\n caused by:cause"}`, and to a person.

use crate::id::PlanId;
use serde::{Deserialize, Serialize};
use std::borrow::Cow;

/// Body of every answer that is an error.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    /// Reason, then advice and cause if there are any, each on a line of its own.
    pub message: String,
    /// The Plan that is there already, when an equal one was registered; a member of Knit's own.
    #[serde(rename = "planId", default, skip_serializing_if = "Option::is_none")]
    pub plan_id: Option<PlanId>,
    /// What was asked for is there, but no longer what was registered; a member of Knit's own.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub damaged: bool,
}

impl Problem {
    /// A problem with a reason alone.
    pub fn new(reason: impl Into<String>) -> Self {
        Self { message: reason.into(), ..Self::default() }
    }

    /// Adds what to do about it.
    #[must_use]
    pub fn advice(mut self, advice: &str) -> Self {
        self.message.push('\n');
        self.message.push_str(advice);
        self
    }

    /// Adds what lies beneath it.
    #[must_use]
    pub fn cause(mut self, cause: &str) -> Self {
        self.message.push_str("\n caused by:");
        self.message.push_str(cause);
        self
    }
}

/// The message as people read it: without the numbers that Rust adds to the words of the operating
/// system, as in `Connection refused (os error 111)`.
pub fn in_words(message: &str) -> Cow<'_, str> {
    const BEGIN: &str = " (os error ";
    let mut words = String::new();
    let mut rest = message;
    while let Some((before, number)) = rest.split_once(BEGIN) {
        let after = number.trim_start_matches('-').trim_start_matches(|c: char| c.is_ascii_digit());
        words.push_str(before);
        match after.strip_prefix(')') {
            Some(after) if after.len() + 1 < number.len() => rest = after,
            // Somebody's own words.
            _ => {
                words.push_str(BEGIN);
                rest = number;
            }
        }
    }
    if rest.len() == message.len() {
        return Cow::Borrowed(message);
    }
    words.push_str(rest);
    Cow::Owned(words)
}

/// An error with all its causes, the way a person reads them.
pub fn reasons(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        next = cause.source();
    }
    text.chars().filter(|c| !c.is_control()).take(500).collect()
}

/// The start of a hostile text, enough to recognise it in a message.
pub fn excerpt(text: &str) -> String {
    let mut short: String = text.chars().filter(|c| !c.is_control()).take(80).collect();
    if short.len() < text.len() {
        short.push('…');
    }
    short
}

#[cfg(test)]
mod tests {
    use super::in_words;

    #[test]
    fn numbers_of_the_operating_system_are_not_for_people() {
        for (message, words) in [
            ("Connection refused (os error 111)", "Connection refused"),
            ("a: b (os error 2); c (os error -3): d", "a: b; c: d"),
            ("plain (os error", "plain (os error"),
            ("mine (os error x) and (os error )", "mine (os error x) and (os error )"),
            ("", ""),
        ] {
            assert_eq!(in_words(message), words);
        }
        let told = std::io::Error::from_raw_os_error(13).to_string();
        assert!(!in_words(&told).contains("13"), "{told}");
    }

    proptest::proptest! {
        #[test]
        fn any_message_is_taken_and_never_grows(message in r"(\PC| \(os error |[0-9-]|\))*") {
            let words = in_words(&message);
            proptest::prop_assert!(words.len() <= message.len());
            proptest::prop_assert!(message.contains(" (os error ") || words == message);
        }
    }
}
