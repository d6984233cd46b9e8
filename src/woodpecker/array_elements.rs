//! Splits a JSON array that arrives in pieces into its elements, so that a long one is never in memory as a whole.

/// Longest element that is kept, in bytes: a mailbox with pictures in its signature.
pub const MAX_ELEMENT: usize = 1 << 20;

/// The text is not an array, or has an element that is too long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotAnArray;

/// An array of which a part has arrived. The elements may be anything between separators; their reader checks them.
#[derive(Debug, Default)]
pub struct ArrayElements {
    place: Place,
    element: Vec<u8>,
    /// Open brackets within the element.
    depth: usize,
    /// Whether the last byte was within a string, or a backslash within one.
    string: Option<IsEscaped>,
}

type IsEscaped = bool;

/// Where the last byte was.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Place {
    #[default]
    Before,
    /// After `[`.
    First,
    /// After a comma.
    Next,
    After,
}

// === impl ArrayElements ===

impl ArrayElements {
    /// Passes on each element that the next piece completes.
    pub fn push<E: From<NotAnArray>>(
        &mut self,
        piece: &[u8],
        mut on_element: impl FnMut(&[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        for &byte in piece {
            match self.place {
                Place::Before if byte == b'[' => self.place = Place::First,
                Place::Before | Place::After if byte.is_ascii_whitespace() => {}
                Place::Before | Place::After => return Err(NotAnArray.into()),
                Place::First | Place::Next => {
                    if self.depth == 0 && self.string.is_none() && matches!(byte, b',' | b']') {
                        self.end_element(byte, &mut on_element)?;
                    } else {
                        self.extend_element(byte)?;
                    }
                }
            }
        }
        Ok(())
    }

    /// Whether its first bracket has arrived.
    pub fn has_begun(&self) -> bool {
        self.place != Place::Before
    }

    /// Whether the array is complete.
    pub fn is_complete(&self) -> bool {
        self.place == Place::After
    }

    fn end_element<E: From<NotAnArray>>(
        &mut self,
        separator: u8,
        on_element: &mut impl FnMut(&[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        let is_empty_array = separator == b']' && self.place == Place::First && self.element.is_empty();
        if !is_empty_array {
            if self.element.is_empty() {
                return Err(NotAnArray.into());
            }
            on_element(&self.element)?;
            self.element.clear();
        }
        self.place = if separator == b']' { Place::After } else { Place::Next };
        Ok(())
    }

    fn extend_element(&mut self, byte: u8) -> Result<(), NotAnArray> {
        self.string = match (self.string, byte) {
            (None, b'"') | (Some(true), _) => Some(false),
            (None, _) | (Some(false), b'"') => None,
            (Some(false), _) => Some(byte == b'\\'),
        };
        if self.string.is_none() {
            match byte {
                b'[' | b'{' => self.depth += 1,
                b']' | b'}' => self.depth = self.depth.checked_sub(1).ok_or(NotAnArray)?,
                _ if byte.is_ascii_whitespace() && self.element.is_empty() => return Ok(()),
                _ => {}
            }
        }
        if self.element.len() >= MAX_ELEMENT {
            return Err(NotAnArray);
        }
        self.element.push(byte);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    /// The elements of the text, which arrives in pieces of that size.
    fn split(text: &str, piece: usize) -> Result<Vec<Value>, NotAnArray> {
        let (mut elements, mut found) = (ArrayElements::default(), Vec::new());
        for piece in text.as_bytes().chunks(piece.max(1)) {
            elements.push(piece, |element| {
                found.push(serde_json::from_slice(element).map_err(|_| NotAnArray)?);
                Ok::<_, NotAnArray>(())
            })?;
        }
        if elements.is_complete() { Ok(found) } else { Err(NotAnArray) }
    }

    #[test]
    fn anything_else_is_no_array() {
        for text in [
            "", "{}", "[", "[1", "[1,", "[1,]", "[,]", "[] x", "x []", "[1]]", "[}]", r#"["]"#, "[{]", "null",
        ] {
            assert_eq!(split(text, 2), Err(NotAnArray), "{text}");
        }
        assert_eq!(split(" [ ] \n", 1), Ok(vec![]));
        let long = format!("[\"{}\"]", "x".repeat(MAX_ELEMENT));
        assert_eq!(split(&long, 4096), Err(NotAnArray));
    }

    #[test]
    fn separators_in_strings_and_in_nested_values_belong_to_the_element() {
        let all = json!([{"a": "[,]}\"\\", "b": [1, [2, {}]]}, [], "], ", null, " x "]);
        let text = serde_json::to_string_pretty(&all).unwrap();
        for piece in [1, 2, 3, 5, 1000] {
            assert_eq!(split(&text, piece).map(Value::from), Ok(all.clone()), "pieces of {piece}");
        }
    }

    proptest! {
        #[test]
        fn every_array_is_split_into_its_elements(texts in prop::collection::vec(".*", 0..6), piece in 1..40usize) {
            let all: Vec<Value> = texts.iter().map(|text| json!({"text": text, "list": [text]})).collect();
            let text = serde_json::to_string(&all).unwrap();
            prop_assert_eq!(split(&text, piece), Ok(all));
        }

        #[test]
        fn what_is_split_is_what_a_parser_reads(text in r#"[\[\]{},"\\ a1:]{0,24}"#, piece in 1..8usize) {
            let parsed = serde_json::from_str::<Vec<Value>>(&text).ok();
            prop_assert_eq!(split(&text, piece).ok(), parsed);
        }
    }
}
