//! Lists of prefixes as text.
//!
//! One prefix a line, and behind it perhaps one word that says where it leads; what it means is the reader's to know.
//! A `#` begins a comment. What files of public routing tables look like, and what `ip route` prints of simple routes.

use std::collections::HashMap;

use super::prefix::{Prefix, PrefixError};

/// A list that was read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Text {
    /// The prefixes in the order of the list, each with the number of its word.
    pub prefixes: Vec<(Prefix, u32)>,
    /// The words; the first one is "" for lines without.
    pub words: Vec<Word>,
}

/// A word that says where prefixes lead.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Word {
    /// The word itself.
    pub text: String,
    /// The line where it first stands behind an IPv4 prefix, from 1; 0 if nowhere.
    pub line4: usize,
    /// The same for IPv6.
    pub line6: usize,
}

/// A line that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct TextError {
    /// Its number, from 1.
    pub line: usize,
    /// What is wrong with it.
    pub message: String,
}

impl Text {
    /// Reads a list.
    ///
    /// # Errors
    ///
    /// The first line that is not as it should be.
    pub fn read(bytes: &[u8]) -> Result<Self, TextError> {
        let mut list = Self { prefixes: Vec::new(), words: vec![Word::default()] };
        let mut known: HashMap<Vec<u8>, u32> = HashMap::new();
        for (index, bytes) in bytes.split(|byte| *byte == b'\n').enumerate() {
            let line = index + 1;
            let said = bytes.split(|byte| *byte == b'#').next().unwrap_or_default();
            let mut parts = said.split(u8::is_ascii_whitespace).filter(|part| !part.is_empty());
            let Some(prefix) = parts.next() else { continue };
            let prefix = read_prefix(prefix).map_err(|message| TextError { line, message })?;
            let number = match parts.next() {
                None => 0,
                Some(word) => match known.get(word) {
                    Some(number) => *number,
                    None => {
                        let number = list.words.len() as u32;
                        known.insert(word.to_vec(), number);
                        list.words.push(Word { text: shown(word), ..Word::default() });
                        number
                    }
                },
            };
            let word = &mut list.words[number as usize];
            let first = if matches!(prefix, Prefix::V4(..)) { &mut word.line4 } else { &mut word.line6 };
            if *first == 0 {
                *first = line;
            }
            if let Some(more) = parts.next() {
                let message = format!("expected a prefix and at most one word more, found {:?} too", shown(more));
                return Err(TextError { line, message });
            }
            list.prefixes.push((prefix, number));
        }
        Ok(list)
    }
}

fn read_prefix(bytes: &[u8]) -> Result<Prefix, String> {
    let text = core::str::from_utf8(bytes).map_err(|_| PrefixError::Address);
    text.and_then(str::parse).map_err(|failure: PrefixError| format!("{:?} is no prefix: {failure}", shown(bytes)))
}

/// What a message shows of something that may be anything, however long.
fn shown(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    if text.chars().count() <= 64 { text.into_owned() } else { text.chars().take(61).chain("...".chars()).collect() }
}
