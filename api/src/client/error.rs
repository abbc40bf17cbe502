//! What can go wrong between a client and a server, told apart by what a person can do about it.

use crate::candidate::{Candidate, Kind};
use crate::id::PlanId;
use crate::problem::in_words;
use serde_json::Value;
use std::error::Error as _;
use url::Url;

/// Longest text of a server that is repeated to a person, in characters.
const MAX_REASON: usize = 2000;
/// Longest hint of a candidate that is repeated to a person, in characters.
const MAX_HINT: usize = 100;

/// Why a request did not succeed.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The profile cannot be used.
    #[error("the profile cannot be used: {0}")]
    Profile(String),
    /// No connection came about.
    #[error("{url} cannot be reached: {cause}")]
    Unreachable {
        /// The API's root.
        url: String,
        /// What the network said.
        cause: String,
    },
    /// The connection broke.
    #[error("the connection to {url} broke: {cause}")]
    Lost {
        /// The API's root.
        url: String,
        /// What the network said.
        cause: String,
    },
    /// The server did not answer in time.
    #[error("{url} has not answered for {seconds} s")]
    Silent {
        /// The API's root.
        url: String,
        /// How long was waited.
        seconds: u64,
    },
    /// The server said no.
    #[error("{refusal}")]
    Refused {
        /// What was asked for.
        url: String,
        /// HTTP status.
        status: u16,
        /// Its words.
        refusal: Box<Refusal>,
    },
    /// The server said yes, but in words that are not those of the API.
    #[error("{url} does not answer as a Knit server does: {cause}")]
    NotUnderstood {
        /// What was asked for.
        url: String,
        /// What is wrong with the answer.
        cause: String,
    },
    /// The server answered, and what was asked for is not in its answer.
    #[error("there is no such {}", .0.singular())]
    Missing(Kind),
    /// What was given for an id stands for several things.
    #[error("\"{given}\" may be any of several {}:{}", .kind.plural(), listed(.candidates, *.more))]
    Ambiguous {
        /// As it was given.
        given: String,
        /// Among what it was looked up.
        kind: Kind,
        /// Some of the things.
        candidates: Vec<Candidate>,
        /// There are more.
        more: bool,
    },
    /// The bytes that arrived are not the bytes that were sent.
    #[error("{0}")]
    Integrity(String),
    /// This machine could not read or write what is needed.
    #[error("{0}")]
    Local(String),
}

/// Kinds of errors that ask for different actions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// The request is wrong.
    Request,
    /// A token is missing or refused.
    NotAuthorised,
    /// What was named is not there.
    NotFound,
    /// What was named may be any of several things.
    Ambiguous,
    /// State does not allow it.
    Conflict,
    /// Not now; it may work later.
    NotNow,
    /// The server failed.
    Server,
    /// The network failed, or the profile points elsewhere.
    Network,
    /// Bytes differ.
    Integrity,
    /// This machine failed.
    Local,
}

impl ClientError {
    /// The HTTP status, when the server answered with an error.
    pub fn status(&self) -> Option<u16> {
        match self {
            Self::Refused { status, .. } => Some(*status),
            _ => None,
        }
    }

    /// What kind of error it is.
    pub fn class(&self) -> Class {
        match self {
            Self::Refused { refusal, .. } if refusal.damaged => Class::Integrity,
            Self::Refused { status, .. } => match status {
                401 | 403 => Class::NotAuthorised,
                404 | 410 => Class::NotFound,
                409 | 412 => Class::Conflict,
                429 | 503 => Class::NotNow,
                300..=499 => Class::Request,
                _ => Class::Server,
            },
            Self::Profile(_) | Self::Unreachable { .. } | Self::Lost { .. } | Self::Silent { .. } => Class::Network,
            Self::NotUnderstood { .. } => Class::Server,
            Self::Missing(_) => Class::NotFound,
            Self::Ambiguous { .. } => Class::Ambiguous,
            Self::Integrity(_) => Class::Integrity,
            Self::Local(_) => Class::Local,
        }
    }

    /// The Plan that is there already, when an equal one was registered.
    pub fn equal_plan(&self) -> Option<&PlanId> {
        match self {
            Self::Refused { status: 409, refusal, .. } => refusal.plan_id.as_ref(),
            _ => None,
        }
    }

    /// An error of the network, told apart by whether a connection was there.
    pub(super) fn from_network(root: &Url, error: &reqwest::Error) -> Self {
        let (url, cause) = (root.to_string(), root_cause(error));
        if error.is_connect() || error.is_builder() {
            Self::Unreachable { url, cause }
        } else {
            Self::Lost { url, cause }
        }
    }
}

/// Candidates, each on a line of its own.
fn listed(candidates: &[Candidate], more: bool) -> String {
    let mut text = String::new();
    for Candidate { value, hint } in candidates {
        let hint: String = hint.lines().next().unwrap_or_default().chars().take(MAX_HINT).collect();
        text.push_str("\n  ");
        text.push_str(format!("{value}  {hint}").trim_end());
    }
    if more {
        text.push_str("\n  and more");
    }
    text
}

/// The innermost cause: outer ones only repeat the URL.
pub(super) fn root_cause(error: &reqwest::Error) -> String {
    let mut text = error.to_string();
    let mut inner = error.source();
    while let Some(cause) = inner {
        text = cause.to_string();
        inner = cause.source();
    }
    in_words(&text).into_owned()
}

/// What a server says when it says no: reason, advice, cause.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Refusal {
    /// Why.
    pub reason: String,
    /// What to do, or empty.
    pub advice: String,
    /// What lies beneath, or empty.
    pub cause: String,
    /// The equal Plan that is there already.
    pub plan_id: Option<PlanId>,
    /// What was asked for is no longer what was registered.
    pub damaged: bool,
}

impl std::fmt::Display for Refusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.reason)?;
        if !self.cause.is_empty() {
            write!(f, " ({})", self.cause)?;
        }
        Ok(())
    }
}

impl Refusal {
    /// Reads the body of an error answer: `{"message": "reason\nadvice\n caused by:cause"}`, the object
    /// forms `{"reason", "advice", "see"}` and `{"message": {…}}`, or plain text.
    pub fn parse(status: u16, body: &[u8]) -> Self {
        let value: Value = serde_json::from_slice(body).unwrap_or(Value::Null);
        let mut refusal = match &value {
            Value::Object(object) if object.get("reason").is_some_and(Value::is_string) => Self::from_object(&value),
            Value::Object(object) => match object.get("message") {
                Some(Value::String(message)) => Self::from_message(message),
                Some(inner @ Value::Object(_)) => Self::from_object(inner),
                _ => Self::default(),
            },
            _ => Self::from_text(body),
        };
        if refusal.reason.is_empty() {
            let name =
                http::StatusCode::from_u16(status).ok().and_then(|s| s.canonical_reason()).unwrap_or("no reason");
            refusal.reason = format!("the server answered {status} ({name})");
        }
        refusal.damaged = value.get("damaged") == Some(&Value::Bool(true));
        refusal.plan_id = value.get("planId").and_then(Value::as_str).filter(|id| !id.is_empty()).map(PlanId::from);
        refusal
    }

    fn from_object(value: &Value) -> Self {
        let text = |name: &str| shortened(value.get(name).and_then(Value::as_str).unwrap_or_default());
        let see = text("see");
        let advice = match (text("advice"), see.is_empty()) {
            (advice, true) => advice,
            (advice, false) if advice.is_empty() => format!("see {see}"),
            (advice, false) => format!("{advice} (see {see})"),
        };
        Self { reason: text("reason"), advice, ..Self::default() }
    }

    fn from_message(message: &str) -> Self {
        let (told, cause) = message.split_once("\n caused by:").unwrap_or((message, ""));
        let (reason, advice) = told.split_once('\n').unwrap_or((told, ""));
        Self { reason: shortened(reason), advice: shortened(advice), cause: shortened(cause), ..Self::default() }
    }

    /// Plain text is repeated; a page for a browser is not.
    fn from_text(body: &[u8]) -> Self {
        let text = String::from_utf8_lossy(body);
        let text = text.trim();
        if text.starts_with('<') { Self::default() } else { Self { reason: shortened(text), ..Self::default() } }
    }
}

fn shortened(text: &str) -> String {
    let text = text.trim();
    match text.char_indices().nth(MAX_REASON) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_of_an_error_answer_is_understood() {
        for (body, reason, advice, cause) in [
            (r#"{"message":"not found"}"#, "not found", "", ""),
            (r#"{"message":"bad\nuse RFC3339\n caused by:x y"}"#, "bad", "use RFC3339", "x y"),
            (r#"{"message":"bad\n caused by:x"}"#, "bad", "", "x"),
            (r#"{"reason":"taken","advice":"wait","see":"p1"}"#, "taken", "wait (see p1)", ""),
            (r#"{"message":{"reason":"taken","see":"p1"}}"#, "taken", "see p1", ""),
            ("upstream is down\n", "upstream is down", "", ""),
            ("<html><body>502</body></html>", "the server answered 502 (Bad Gateway)", "", ""),
            ("", "the server answered 502 (Bad Gateway)", "", ""),
            ("[1]", "[1]", "", ""),
            (r#"{"message":3}"#, "the server answered 502 (Bad Gateway)", "", ""),
        ] {
            let refusal = Refusal::parse(502, body.as_bytes());
            assert_eq!((&*refusal.reason, &*refusal.advice, &*refusal.cause), (reason, advice, cause), "{body}");
        }
        let refusal = Refusal::parse(409, br#"{"message":"equal","planId":"p"}"#);
        assert_eq!(refusal.plan_id, Some(PlanId::new("p")));
        assert!(Refusal::parse(500, br#"{"message":"x","damaged":true}"#).damaged && !refusal.damaged);
    }

    #[test]
    fn several_things_that_may_be_meant_are_told_one_by_one() {
        let candidate = |value: &str, hint: &str| Candidate { value: value.to_owned(), hint: hint.to_owned() };
        let error = ClientError::Ambiguous {
            given: "0b1c".to_owned(),
            kind: Kind::Runs,
            candidates: vec![candidate("0b1c-1", "done train:v1\nmore"), candidate("0b1c-2", "")],
            more: true,
        };
        let told = "\"0b1c\" may be any of several Runs:\n  0b1c-1  done train:v1\n  0b1c-2\n  and more";
        assert_eq!((error.to_string().as_str(), error.class()), (told, Class::Ambiguous));
        assert_eq!(ClientError::Missing(Kind::Data).to_string(), "there is no such Data");
    }

    #[test]
    fn statuses_fall_into_the_classes_that_people_act_on() {
        for (status, class) in [
            (302, Class::Request),
            (400, Class::Request),
            (401, Class::NotAuthorised),
            (403, Class::NotAuthorised),
            (404, Class::NotFound),
            (409, Class::Conflict),
            (413, Class::Request),
            (500, Class::Server),
            (503, Class::NotNow),
        ] {
            let error = ClientError::Refused { url: String::new(), status, refusal: Box::default() };
            assert_eq!(error.class(), class, "{status}");
        }
        let refusal = Box::new(Refusal { damaged: true, ..Refusal::default() });
        let damaged = ClientError::Refused { url: String::new(), status: 500, refusal };
        assert_eq!(damaged.class(), Class::Integrity);
    }

    proptest::proptest! {
        #[test]
        fn any_error_answer_gives_a_reason(status in 300u16..600, body in proptest::collection::vec(0u8.., 0..200)) {
            proptest::prop_assert!(!Refusal::parse(status, &body).reason.is_empty());
        }
    }
}
