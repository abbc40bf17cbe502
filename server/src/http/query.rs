//! Query parameters as the original reads them: some may be repeated, of the others the first counts,
//! and an empty one is absent.

use super::refused::{Answer, Refused};
use axum::extract::{FromRequestParts, Path};
use axum::http::StatusCode;
use axum::http::request::Parts;
use knit_api::tag::{self, Tag, TagSet};
use knit_api::time::{Duration, Timestamp};

/// The parameters of one request, decoded.
#[derive(Debug, Default)]
pub(super) struct Query(Vec<(String, String)>);

impl Query {
    fn parse(text: &str) -> Self {
        Self(url::form_urlencoded::parse(text.as_bytes()).into_owned().collect())
    }

    /// Every occurrence.
    pub(super) fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.0.iter().filter(move |(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// The first occurrence, unless it is empty.
    pub(super) fn first(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str()).filter(|value| !value.is_empty())
    }

    /// Whether the parameter is there, whatever its value.
    pub(super) fn has(&self, name: &str) -> bool {
        self.0.iter().any(|(key, _)| key == name)
    }

    /// Whether something is wanted: the bare name says yes; `None` when it is not named.
    pub(super) fn switch(&self, name: &str) -> Answer<Option<bool>> {
        Ok(self.flag(name)?.or_else(|| self.has(name).then_some(true)))
    }

    /// The first occurrence, split at commas.
    pub(super) fn list<T: for<'a> From<&'a str>>(&self, name: &str) -> Vec<T> {
        self.first(name).map(|text| text.split(',').map(T::from).collect()).unwrap_or_default()
    }

    /// Every occurrence as a tag to search for.
    pub(super) fn tags(&self, name: &str) -> Answer<TagSet> {
        let mut tags = TagSet::new();
        for text in self.all(name) {
            let tag = Tag::split(text).map_err(|error| Refused::bad_request(format!("parameter {name}: {error}")))?;
            if tag.key == tag::TIMESTAMP {
                Timestamp::parse_strict(&tag.value)
                    .map_err(|error| Refused::bad_request(format!("parameter {name}: {error}")))?;
            }
            tags.insert(tag);
        }
        Ok(tags)
    }

    /// `since` (inclusive) and `since + duration` (exclusive).
    pub(super) fn period(&self) -> Answer<(Option<Timestamp>, Option<Timestamp>)> {
        let since = self.first("since").map(Timestamp::parse_strict).transpose();
        let since = since.map_err(|error| Refused::bad_request(format!("parameter since: {error}")))?;
        let duration = self.first("duration").map(str::parse::<Duration>).transpose();
        let duration = duration.map_err(|error| Refused::bad_request(format!("parameter duration: {error}")))?;
        match (since, duration) {
            (None, Some(_)) => Err(Refused::bad_request("parameter duration needs parameter since")
                .advice("Give since=TIME, from which the duration counts.")),
            (since, duration) => {
                let until = since
                    .zip(duration)
                    .map(|(since, span)| Timestamp::from_micros(since.micros().saturating_add(span.micros())));
                Ok((since, until))
            }
        }
    }

    /// The first occurrence as yes or no.
    pub(super) fn flag(&self, name: &str) -> Answer<Option<bool>> {
        match self.first(name) {
            None => Ok(None),
            Some("true") => Ok(Some(true)),
            Some("false") => Ok(Some(false)),
            Some(other) => {
                Err(Refused::bad_request(format!("parameter {name}: \"{other}\" is neither true nor false")))
            }
        }
    }

    /// `limit`, from 1 to `most`.
    pub(super) fn limit(&self, most: usize) -> Answer<Option<usize>> {
        let Some(text) = self.first("limit") else { return Ok(None) };
        match text.parse() {
            Ok(limit) if (1..=most).contains(&limit) => Ok(Some(limit)),
            _ => Err(Refused::bad_request(format!("parameter limit: \"{text}\" is not a number from 1 to {most}"))),
        }
    }

    /// `timeout` in whole seconds, at most `max`; `default` when absent.
    pub(super) fn timeout(&self, default: u64, max: u64) -> Answer<std::time::Duration> {
        let seconds = match self.first("timeout") {
            None => default,
            Some(text) => text.parse().map_err(|_| {
                Refused::bad_request(format!("parameter timeout: \"{text}\" is not a number of seconds"))
            })?,
        };
        Ok(std::time::Duration::from_secs(seconds.min(max)))
    }
}

impl<S: Sync> FromRequestParts<S> for Query {
    type Rejection = std::convert::Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Self::Rejection> {
        Ok(Self::parse(parts.uri.query().unwrap_or_default()))
    }
}

/// The id in the path.
pub(super) struct Id<T>(pub(super) T);

impl<S: Send + Sync, T: From<String>> FromRequestParts<S> for Id<T> {
    type Rejection = Refused;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Refused> {
        match Path::<String>::from_request_parts(parts, state).await {
            Ok(Path(id)) => Ok(Self(id.into())),
            // Only a path that is not UTF-8 once decoded; no id is.
            Err(_) => Err(Refused::new(StatusCode::NOT_FOUND, "Not Found")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_occurrence_counts_and_an_empty_one_is_absent() {
        let query = Query::parse("plan=a,b&plan=c&status=&tag=x:1&tag=y:2&follow");
        assert_eq!(query.list::<String>("plan"), ["a", "b"]);
        assert_eq!(query.first("status"), None);
        assert_eq!(query.all("tag").collect::<Vec<_>>(), ["x:1", "y:2"]);
        assert!(query.has("follow") && !query.has("tags"));
    }

    #[test]
    fn a_period_needs_its_start() {
        let period = |text: &str| Query::parse(text).period();
        let (since, until) = period("since=2024-01-01T00%3A00%3A00Z&duration=1h30m0s").unwrap();
        assert_eq!(until.unwrap().micros() - since.unwrap().micros(), 90 * 60 * 1_000_000);
        assert!(period("since=0001-01-01T00:00:00Z").unwrap().0.is_some(), "the original client sends year one");
        assert_eq!(period("since=&duration=").unwrap(), (None, None));
        for wrong in ["duration=1h", "since=yesterday", "since=2024-01-01T00:00:00Z&duration=long"] {
            assert!(period(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn tags_to_search_for_need_a_colon_and_times_that_are_times() {
        let tags = |text: &str| Query::parse(text).tags("tag");
        assert_eq!(tags("tag=+a+:b&tag=a:b").unwrap().len(), 1);
        assert!(tags("tag=knit%23timestamp:2024-01-01T00:00:00%2B09:00").is_ok());
        assert!(tags("tag=knit%23other:x").is_ok());
        for wrong in ["tag=a", "tag=knit%23timestamp:now"] {
            assert!(tags(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_limit_is_a_number_within_its_bounds() {
        let limit = |text: &str| Query::parse(text).limit(1000).ok();
        assert_eq!(limit(""), Some(None));
        assert_eq!(limit("limit="), Some(None));
        assert_eq!(limit("limit=1"), Some(Some(1)));
        assert_eq!(limit("limit=1000"), Some(Some(1000)));
        for wrong in ["limit=0", "limit=1001", "limit=-1", "limit=x", "limit=99999999999999999999"] {
            assert_eq!(limit(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn a_switch_is_on_when_it_is_named_and_not_denied() {
        let query = Query::parse("a&b=&c=true&d=false&e=maybe");
        assert_eq!(
            ["a", "b", "c", "d", "z"].map(|name| query.switch(name).unwrap()),
            [Some(true), Some(true), Some(true), Some(false), None]
        );
        assert!(query.switch("e").is_err());
    }

    #[test]
    fn a_timeout_is_bounded() {
        let timeout = |text: &str| Query::parse(text).timeout(30, 300).map(|t| t.as_secs()).ok();
        assert_eq!(timeout(""), Some(30));
        assert_eq!(timeout("timeout=5"), Some(5));
        assert_eq!(timeout("timeout=99999"), Some(300));
        assert_eq!(timeout("timeout=-1"), None);
    }
}
