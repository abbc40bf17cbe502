//! What makes a combination of Data the one Run that it is.

/// The signature of a Run: the ids of its Data in the order of its Plan's inputs. Together with the Plan it is
/// the Run's identity: a combination is missing as long as no Run of the Plan has its signature, whatever
/// became of that Run. Ids have no comma, so different combinations have different signatures.
pub fn signature(data: &[impl AsRef<str>]) -> String {
    data.iter().map(AsRef::as_ref).collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_order_of_the_inputs_counts() {
        assert_eq!(signature(&["a"]), "a");
        assert_eq!(signature(&["b", "a", "b"]), "b,a,b");
        assert_ne!(signature(&["a", "b"]), signature(&["b", "a"]));
    }
}
