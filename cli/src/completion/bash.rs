//! What bash asks and is answered. It breaks words at `:` and `=`, which stand in tags, ids and flags: so the line
//! is read here anew, and of each candidate only that part goes back which bash will put in.

use super::hint;
use clap_complete::engine::CompletionCandidate;
use std::ffi::OsString;

/// The line up to the cursor.
const LINE: &str = "_KNIT_LINE";
/// That part of its last word that bash replaces.
const WORD: &str = "_KNIT_WORD";
/// Why bash asks.
const TYPE: &str = "_KNIT_TYPE";
/// The type when bash only lists.
const LISTING: &str = "63";

/// Asks for candidates, and prints one on each line.
pub(super) fn answer(ask: impl FnOnce(Vec<OsString>) -> Vec<CompletionCandidate>) -> Option<String> {
    let line = std::env::var(LINE).ok()?;
    let replaced = std::env::var(WORD).unwrap_or_default();
    let listing = std::env::var(TYPE).is_ok_and(|kind| kind == LISTING);
    let (words, quote) = split(&line);
    let stays = kept(words.last()?, &replaced);
    let found = ask(words.into_iter().map(OsString::from).collect());
    let several = found.len() > 1;
    let lines = found.iter().filter_map(|one| {
        let value = quoted(one.get_value().to_str()?.get(stays..)?, quote)?;
        let hint = hint(one);
        // Words that are only shown may have a hint behind them.
        Some(if listing && several && !hint.is_empty() { format!("{value}  ({hint})\n") } else { format!("{value}\n") })
    });
    Some(lines.collect())
}

/// The words of a line, their quotes taken away, and the quote in which it ends. The last word may be empty.
fn split(line: &str) -> (Vec<String>, Option<char>) {
    let mut words = vec![String::new()];
    let mut quote = None;
    let mut between = true;
    let mut letters = line.chars();
    while let Some(letter) = letters.next() {
        if quote.is_none() && letter.is_whitespace() {
            if !between {
                words.push(String::new());
            }
            between = true;
            continue;
        }
        between = false;
        match (quote, letter) {
            (None, '\'' | '"') => quote = Some(letter),
            (Some(open), _) if open == letter => quote = None,
            (None | Some('"'), '\\') => {
                let next = letters.next();
                let word = words.last_mut().unwrap_or_else(|| unreachable!("there is always a word"));
                if quote.is_some() && next.is_some_and(|next| !"$`\"\\".contains(next)) {
                    word.push('\\');
                }
                word.extend(next);
            }
            _ => words.last_mut().unwrap_or_else(|| unreachable!("there is always a word")).push(letter),
        }
    }
    (words, quote)
}

/// How many bytes at the beginning of the last word bash leaves as they are.
fn kept(word: &str, replaced: &str) -> usize {
    let (mut parts, _) = split(replaced);
    let replaced = parts.pop().unwrap_or_default();
    word.strip_suffix(replaced.as_str()).map_or(0, str::len)
}

/// A value as it must stand on the line; `None` when it cannot within this quote.
fn quoted(value: &str, quote: Option<char>) -> Option<String> {
    let special: &dyn Fn(char) -> bool = match quote {
        Some('\'') => return (!value.contains('\'')).then(|| value.to_owned()),
        Some(_) => &|letter| "$`\"\\".contains(letter),
        None => &|letter| letter.is_ascii() && !letter.is_ascii_alphanumeric() && !"-_./:=@%+,".contains(letter),
    };
    // A home folder stays one.
    let (home, value) = if quote.is_none() && value.starts_with("~/") { value.split_at(2) } else { ("", value) };
    let mut text = home.to_owned();
    for letter in value.chars() {
        if special(letter) {
            text.push('\\');
        }
        text.push(letter);
    }
    Some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_read_as_the_shell_reads_it() {
        for (line, words, quote) in [
            ("knit data ", &["knit", "data", ""][..], None),
            ("knit -t a:b=c", &["knit", "-t", "a:b=c"], None),
            ("knit -t \"a b:c", &["knit", "-t", "a b:c"], Some('"')),
            ("knit 'a\\' b\\ c", &["knit", "a\\", "b c"], None),
            ("knit \"\\$a\\b\" x", &["knit", "$a\\b", "x"], None),
            ("knit ''", &["knit", ""], None),
            ("  knit \\", &["knit", ""], None),
            ("", &[""], None),
        ] {
            assert_eq!(split(line), (words.iter().map(ToString::to_string).collect(), quote), "{line:?}");
        }
    }

    #[test]
    fn what_bash_leaves_on_the_line_is_not_sent_again() {
        assert_eq!(kept("type:mo", "mo"), 5);
        assert_eq!(kept("type:", ""), 5);
        assert_eq!(kept("type:", ":"), 4);
        assert_eq!(kept("a b", "a\\ b"), 0);
        assert_eq!(kept("other", "x"), 0);
    }

    #[test]
    fn a_value_cannot_become_something_else_on_the_line() {
        assert_eq!(quoted("a b;$(c)", None).unwrap(), "a\\ b\\;\\$\\(c\\)");
        assert_eq!(quoted("a b\"$c", Some('"')).unwrap(), "a b\\\"\\$c");
        assert_eq!(quoted("it's", Some('\'')), None);
        assert_eq!(quoted("~/a~ b", None).unwrap(), "~/a\\~\\ b");
        assert_eq!(quoted("key:value=1.2/x", None).unwrap(), "key:value=1.2/x");
    }

    proptest::proptest! {
        #[test]
        fn a_quoted_value_is_read_as_the_value(value in "[^\\p{C}\n]{0,30}") {
            let line = format!("knit {}", quoted(&value, None).unwrap());
            let (words, quote) = split(&line);
            // Space beyond ASCII is no space for a shell; such a value is offered as it stands.
            if !value.chars().any(|letter| !letter.is_ascii() && letter.is_whitespace()) {
                proptest::prop_assert_eq!((&words[1], quote), (&value, None));
            }
        }
    }
}
