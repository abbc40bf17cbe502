//! What every DOT text has in common: its beginning, and texts in quotes.

/// The beginning of the text.
pub const HEAD: &str = "digraph G {\n\tnode [shape=record fontsize=10]\n\tedge [fontsize=10]\n\n";
/// The end of the text.
pub const FOOT: &str = "\n}";

/// The text as it stands inside double quotes: it means itself whatever it holds.
pub fn quoted(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '"' | '\\' => out.extend(['\\', letter]),
            letter if letter.is_control() => out.push(char::REPLACEMENT_CHARACTER),
            letter => out.push(letter),
        }
    }
    out
}

/// The statement of an arrow.
pub fn arrow(from: &str, to: &str, label: &str) -> String {
    let (from, to) = (quoted(from), quoted(to));
    if label.is_empty() {
        return format!("\t\"{from}\" -> \"{to}\";\n");
    }
    format!("\t\"{from}\" -> \"{to}\" [label=\"{}\"];\n", quoted(label))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotes_and_backslashes_mean_themselves() {
        assert_eq!(quoted("a\"b\\\n"), "a\\\"b\\\\\u{fffd}");
        assert_eq!(arrow("a", "b\"", "x"), "\t\"a\" -> \"b\\\"\" [label=\"x\"];\n");
        assert_eq!(arrow("a", "b", ""), "\t\"a\" -> \"b\";\n");
    }
}
