//! What makes a combination of Data the one Run that it is.

/// The signature of a Run: the ids of its Data in the order of its Plan's inputs. Together with the Plan it is
/// the Run's identity: a combination is missing as long as no Run of the Plan has its signature, whatever
/// became of that Run. Ids have no comma, so different combinations have different signatures.
pub fn signature(data: &[impl AsRef<str>]) -> String {
    data.iter().map(AsRef::as_ref).collect::<Vec<_>>().join(",")
}

/// The first combinations, at most `limit`, of one out of each list: the last list goes through fastest.
pub fn combinations<T: Clone>(lists: &[Vec<T>], limit: usize) -> Vec<Vec<T>> {
    let mut found: Vec<Vec<T>> = vec![Vec::new()];
    for list in lists {
        // Those of the lists so far are in order already, and each goes on with at least one of this list, or all end.
        found = found
            .iter()
            .flat_map(|begun| list.iter().map(|next| begun.iter().cloned().chain([next.clone()]).collect()))
            .take(limit)
            .collect();
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn combinations_are_listed_in_order_and_no_further_than_wanted() {
        let lists = [vec!["a", "b"], vec!["x"], vec!["1", "2", "3"]];
        let first = [["a", "x", "1"], ["a", "x", "2"], ["a", "x", "3"], ["b", "x", "1"]];
        assert_eq!(combinations(&lists, 4), first);
        assert_eq!(combinations(&lists, 100).len(), 6);
        assert!(combinations(&[vec!["a"], vec![]], 4).is_empty());
    }

    #[test]
    fn the_order_of_the_inputs_counts() {
        assert_eq!(signature(&["a"]), "a");
        assert_eq!(signature(&["b", "a", "b"]), "b,a,b");
        assert_ne!(signature(&["a", "b"]), signature(&["b", "a"]));
    }
}
