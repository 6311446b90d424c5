//! `model.safetensors.index.json`: which file has which tensor.

use std::borrow::Cow;
use std::collections::HashMap;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error as _, IgnoredAny, MapAccess, Visitor};

use super::SafetensorsError;

/// Bytes that an index may have at most.
pub(super) const LIMIT: u64 = 100_000_000;

/// An index.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Index {
    /// Names of files in the index's folder, in the order of their first tensor.
    pub files: Vec<String>,
    /// Each tensor's file, an index into `files`.
    pub weight_map: HashMap<String, usize>,
}

impl Index {
    /// Reads an index's text.
    ///
    /// What else stands beside `weight_map` is passed over: its total size is known to be wrong in published models.
    ///
    /// # Errors
    /// When it is no JSON object with a `weight_map` from distinct names to names of files without a folder.
    pub fn parse(bytes: &[u8]) -> Result<Self, SafetensorsError> {
        let index: Self =
            super::json::parse("index", bytes, |current, d| Whole(current).deserialize(d))?;
        match index.files.iter().find(|file| !is_file_name(file)) {
            Some(file) => Err(SafetensorsError::FileName { file: file.clone() }),
            None => Ok(index),
        }
    }
}

/// Whether `name` is the name of a file in the same folder, wherever it is read.
fn is_file_name(name: &str) -> bool {
    !name.is_empty() && name != "." && name != ".." && !name.contains(['/', '\\', '\0'])
}

struct Whole<'s>(&'s mut String);

impl<'de> DeserializeSeed<'de> for Whole<'_> {
    type Value = Index;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Index, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Whole<'_> {
    type Value = Index;

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("an object with `weight_map`")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Index, A::Error> {
        let mut index = None;
        while let Some(key) = map.next_key::<Cow<str>>()? {
            if key == "weight_map" {
                if index
                    .replace(map.next_value_seed(WeightMap(self.0))?)
                    .is_some()
                {
                    return Err(A::Error::custom("`weight_map` occurs twice"));
                }
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        index.ok_or_else(|| A::Error::missing_field("weight_map"))
    }
}

struct WeightMap<'s>(&'s mut String);

impl<'de> DeserializeSeed<'de> for WeightMap<'_> {
    type Value = Index;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Index, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for WeightMap<'_> {
    type Value = Index;

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("an object from names of tensors to names of files")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Index, A::Error> {
        let mut index = Index::default();
        let mut known: HashMap<String, usize> = HashMap::new();
        while let Some(name) = map.next_key::<String>()? {
            self.0.clone_from(&name);
            let file = map.next_value::<Cow<str>>()?;
            let position = if let Some(&position) = known.get(file.as_ref()) {
                position
            } else {
                let position = index.files.len();
                index.files.push(file.clone().into_owned());
                known.insert(file.into_owned(), position);
                position
            };
            if index.weight_map.insert(name, position).is_some() {
                return Err(A::Error::custom("it occurs twice"));
            }
        }
        self.0.clear();
        Ok(index)
    }
}
