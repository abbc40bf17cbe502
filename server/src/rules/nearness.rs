//! How far a Data is from fitting an input, and which tags somebody may have meant.

use knit_api::explain::{Differing, Lack};
use knit_api::tag::Tag;

/// A Data that lacks more of the wanted tags than this is not near.
pub const MOST_LACKING: usize = 2;
/// Longest part of a text that is compared with another, in characters.
const COMPARED: usize = 64;

/// What keeps a Data with the tags `has` from fitting an input that asks for `wanted`; system tags are tags like
/// all others here.
pub fn lack(wanted: &[Tag], has: &[Tag], transient: Option<&str>) -> Lack {
    let mut lack = Lack { transient: transient.map(str::to_owned), ..Lack::default() };
    for tag in wanted.iter().filter(|tag| !has.contains(tag)) {
        let values: Vec<String> = has.iter().filter(|h| h.key == tag.key).map(|h| h.value.clone()).collect();
        if values.is_empty() {
            lack.missing.push(tag.clone());
        } else {
            lack.differing.push(Differing { wanted: tag.clone(), has: values });
        }
    }
    lack
}

/// Whether a lack of some of `wanted` tags is small enough to be worth telling. Of several tags one at least must be
/// there; where a single one is asked for, one that is much like it.
pub fn is_near(wanted: usize, lack: &Lack) -> bool {
    let lacking = lack.missing.len() + lack.differing.len();
    let is_alike = |one: &Differing| closest(one) * 2 <= one.wanted.value.chars().count().clamp(2, COMPARED);
    let shares = lacking < wanted || (wanted == 1 && lack.differing.iter().all(is_alike) && lack.missing.is_empty());
    !lack.is_nothing() && lacking <= MOST_LACKING && shares
}

/// What to order by: the nearest is the least. First how many things are in the way, then how different they are.
pub fn distance(lack: &Lack) -> (usize, usize) {
    let things = lack.missing.len() + lack.differing.len() + usize::from(lack.transient.is_some());
    (things, lack.missing.len() * COMPARED + lack.differing.iter().map(closest).sum::<usize>())
}

/// How different the value that is most like the wanted one is.
fn closest(differing: &Differing) -> usize {
    differing.has.iter().map(|value| edits(&differing.wanted.value, value)).min().unwrap_or(COMPARED)
}

/// The values most similar to `value`, the most similar first, at most `limit`.
pub fn similar(value: &str, among: impl IntoIterator<Item = String>, limit: usize) -> Vec<String> {
    let mut ranked: Vec<(usize, String)> = among.into_iter().map(|other| (edits(value, &other), other)).collect();
    ranked.sort();
    ranked.truncate(limit);
    ranked.into_iter().map(|(_, other)| other).collect()
}

/// How many characters must be added, removed or replaced to make one text of the other, as far as they are compared.
fn edits(one: &str, other: &str) -> usize {
    let (one, other): (Vec<char>, Vec<char>) =
        (one.chars().take(COMPARED).collect(), other.chars().take(COMPARED).collect());
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (i, a) in one.iter().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, b) in other.iter().enumerate() {
            let replaced = diagonal + usize::from(a != b);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[other.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tags(texts: &[&str]) -> Vec<Tag> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[test]
    fn a_lack_names_what_is_missing_what_differs_and_what_is_not_usable() {
        for (wanted, has, transient, says, near) in [
            (&["a:b"][..], &["a:b", "x:y"][..], None, "", false),
            (&["a:b", "c:d"], &["a:b"], None, "lacks c:d", true),
            (&["a:b", "c:d"], &["a:b", "c:e"], None, "has c:e, not c:d", true),
            (&["a:b", "c:d"], &["a:b", "c:d"], Some("failed"), "its Run failed", true),
            (&["a:b", "c:d"], &["a:b"], Some("processing"), "lacks c:d; it is still being made", true),
            (&["a:b"], &["a:c"], None, "has a:c, not a:b", true),
            (&["a:b"], &["x:y"], None, "lacks a:b", false),
            (&["type:dataset"], &["type:datset"], None, "has type:datset, not type:dataset", true),
            (&["type:params"], &["type:dataset"], None, "has type:dataset, not type:params", false),
            (&["a:b", "c:d"], &["a:c", "c:e"], None, "has a:c, not a:b; has c:e, not c:d", false),
            (&["a:b", "c:d", "e:f"], &["a:b"], None, "lacks c:d and e:f", true),
            (&["a:b", "c:d", "e:f", "g:h"], &["a:b"], None, "lacks c:d and e:f and g:h", false),
            (&["knit#id:x", "a:b"], &["knit#id:y", "a:b"], None, "has knit#id:y, not knit#id:x", true),
        ] {
            let found = lack(&tags(wanted), &tags(has), transient);
            assert_eq!(found.to_string(), says, "{wanted:?} {has:?}");
            assert_eq!(is_near(wanted.len(), &found), near, "{wanted:?} {has:?}");
        }
    }

    #[test]
    fn nearer_is_what_has_fewer_things_in_the_way_and_then_what_is_more_alike() {
        let wanted = tags(&["a:b", "type:dataset"]);
        let order = [
            lack(&wanted, &tags(&["a:b", "type:datset"]), None),
            lack(&wanted, &tags(&["a:b", "type:model"]), None),
            lack(&wanted, &tags(&["a:b"]), None),
            lack(&wanted, &tags(&["a:b", "type:datset"]), Some("failed")),
            lack(&wanted, &[], None),
        ];
        assert!(order.is_sorted_by_key(distance), "{:?}", order.each_ref().map(distance));
    }

    #[test]
    fn similar_values_are_found_whatever_they_hold() {
        let among = ["model", "dataset", "", "data set", "\u{65e5}\u{672c}"].map(str::to_owned);
        assert_eq!(similar("datset", among.clone(), 2), ["dataset", "data set"]);
        assert_eq!(similar("", among, 1), [""]);
        for (one, other, count) in [("", "", 0), ("abc", "", 3), ("abc", "acb", 2), ("kitten", "sitting", 3)] {
            assert_eq!((edits(one, other), edits(other, one)), (count, count), "{one} {other}");
        }
        assert!(edits(&"x".repeat(1_000_000), &"y".repeat(1_000_000)) <= COMPARED);
    }
}
