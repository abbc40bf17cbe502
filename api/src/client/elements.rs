//! A JSON list that arrives in parts, taken apart into its elements: what keeps the memory of a long list at that of
//! its longest element.

/// Longest element, in bytes.
const LONGEST: usize = 256 << 20;

/// Finds where the elements of a list end. Whether they are JSON themselves is for their reader to see.
#[derive(Debug, Default)]
pub(super) struct Elements {
    place: Place,
    /// What has come of the element, with the blanks around it.
    element: Vec<u8>,
    /// Elements that were given out.
    count: u64,
}

/// Where in the list it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Place {
    /// Before it.
    #[default]
    Before,
    /// In the word that stands for an absent list, after so many letters of it.
    Absent(usize),
    /// In an element, this deep.
    Element(usize),
    /// In an element, behind the bracket that closes it.
    Closed,
    /// In a text within an element.
    Text { depth: usize, escaped: bool },
    /// Behind it.
    After,
}

/// An absent list, which is an empty one.
const ABSENT: &[u8] = b"null";

impl Elements {
    /// Goes through the next part and shows each element that ends in it.
    ///
    /// # Errors
    /// That of `take`, and a text where this is no list.
    pub(super) fn feed<E: From<String>>(
        &mut self,
        part: &[u8],
        mut take: impl FnMut(&[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        // Where that begins which is not in the element yet.
        let mut begin = 0;
        for (at, &byte) in part.iter().enumerate() {
            let blank = matches!(byte, b' ' | b'\n' | b'\r' | b'\t');
            self.place = match self.place {
                Place::Before | Place::After if blank => continue,
                Place::Before if byte == b'[' => {
                    begin = at + 1;
                    Place::Element(0)
                }
                Place::Before if byte == ABSENT[0] => Place::Absent(1),
                Place::Absent(count) if byte == ABSENT[count] => {
                    if count + 1 == ABSENT.len() {
                        Place::After
                    } else {
                        Place::Absent(count + 1)
                    }
                }
                Place::Before | Place::Absent(_) => return Err("it is no list".to_owned().into()),
                Place::After => return Err("something follows the list".to_owned().into()),
                Place::Text { depth, escaped: true } => Place::Text { depth, escaped: false },
                Place::Text { depth, .. } if byte == b'\\' => Place::Text { depth, escaped: true },
                Place::Text { depth, .. } if byte == b'"' => Place::Element(depth),
                text @ Place::Text { .. } => text,
                Place::Element(0) | Place::Closed if matches!(byte, b',' | b']') => {
                    self.keep(&part[begin..at])?;
                    begin = at + 1;
                    let is_empty_list = byte == b']' && self.count == 0 && self.element.trim_ascii().is_empty();
                    if !is_empty_list {
                        take(&self.element)?;
                        self.count += 1;
                    }
                    self.element.clear();
                    if byte == b',' { Place::Element(0) } else { Place::After }
                }
                Place::Closed if blank => Place::Closed,
                Place::Closed => return Err("two of its elements are not apart".to_owned().into()),
                Place::Element(depth) => match byte {
                    b'"' => Place::Text { depth, escaped: false },
                    b'[' | b'{' => Place::Element(depth + 1),
                    b']' | b'}' if depth == 1 => Place::Closed,
                    b']' | b'}' => Place::Element(depth.saturating_sub(1)),
                    _ => Place::Element(depth),
                },
            };
        }
        if matches!(self.place, Place::Element(_) | Place::Closed | Place::Text { .. }) {
            self.keep(&part[begin..])?;
        }
        Ok(())
    }

    /// Whether the list has come to its end.
    pub(super) fn is_complete(&self) -> bool {
        self.place == Place::After
    }

    fn keep(&mut self, bytes: &[u8]) -> Result<(), String> {
        if self.element.len() + bytes.len() > LONGEST {
            return Err(format!("an element of the list has more than {} MiB", LONGEST >> 20));
        }
        self.element.extend_from_slice(bytes);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::Value;

    /// The list, fed in parts that end at these places.
    fn taken_apart(text: &[u8], cuts: &[usize]) -> Result<Vec<Value>, String> {
        let mut places: Vec<usize> = cuts.iter().map(|cut| cut % (text.len() + 1)).collect();
        places.extend([0, text.len()]);
        places.sort_unstable();
        let (mut elements, mut values) = (Elements::default(), Vec::new());
        for part in places.windows(2) {
            elements.feed(&text[part[0]..part[1]], |element| {
                values.push(serde_json::from_slice(element).map_err(|error| error.to_string())?);
                Ok::<_, String>(())
            })?;
        }
        if elements.is_complete() { Ok(values) } else { Err("it is not complete".to_owned()) }
    }

    fn json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<String>().prop_map(Value::from),
            r#"[\[\]{},:"\\]{0,8}"#.prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 24, 5, |inner| {
            let object = proptest::collection::btree_map(r#"[a-z"\\{\[]{0,4}"#, inner.clone(), 0..5);
            prop_oneof![
                proptest::collection::vec(inner, 0..5).prop_map(Value::from),
                object.prop_map(|members| Value::Object(members.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn however_a_list_is_cut_its_elements_are_the_same(list in proptest::collection::vec(json(), 0..6),
                                                         cuts in proptest::collection::vec(0_usize..4096, 0..12)) {
            for text in [serde_json::to_vec(&list).unwrap(), serde_json::to_vec_pretty(&list).unwrap()] {
                prop_assert_eq!(taken_apart(&text, &cuts), Ok(list.clone()));
                let every: Vec<usize> = (0..text.len()).collect();
                prop_assert_eq!(taken_apart(&text, &every), Ok(list.clone()));
                prop_assert!(taken_apart(&text[..text.len() - 1], &cuts).is_err());
            }
        }

        #[test]
        fn what_is_no_list_is_refused_as_it_is_when_read_whole(text in r#"[ \n]?\[[\[\]{},:"\\ 0-9at]{0,12}\]?[ x]?"#,
                                                             cuts in proptest::collection::vec(0_usize..64, 0..4)) {
            let whole = serde_json::from_str::<Vec<Value>>(&text);
            let parts = taken_apart(text.as_bytes(), &cuts);
            prop_assert_eq!(parts.ok(), whole.ok());
        }
    }

    #[test]
    fn an_absent_list_is_an_empty_one_and_nothing_else_is() {
        for (text, good) in
            [("null", true), (" null\n", true), ("nul", false), ("nulls", false), ("", false), ("{}", false)]
        {
            let found = taken_apart(text.as_bytes(), &[1, 2]);
            assert_eq!(found.is_ok_and(|values| values.is_empty()), good, "{text}");
        }
    }
}
