//! JSON that is read entry by entry, so that an error can say in which entry it is.

use serde_json::Deserializer;
use serde_json::de::StrRead;

use super::SafetensorsError;

/// Reads all of `bytes` as one value. `read` keeps the name of the entry that it is in where it is told to; `part` says what the text is of.
pub(super) fn parse<'a, T>(
    part: &'static str,
    bytes: &'a [u8],
    read: impl FnOnce(&mut String, &mut Deserializer<StrRead<'a>>) -> serde_json::Result<T>,
) -> Result<T, SafetensorsError> {
    let text = std::str::from_utf8(bytes).map_err(|error| SafetensorsError::NotUtf8 {
        part,
        at: error.valid_up_to(),
    })?;
    let mut current = String::new();
    let mut deserializer = Deserializer::from_str(text);
    let value = read(&mut current, &mut deserializer);
    value
        .and_then(|value| deserializer.end().map(|()| value))
        .map_err(|error| SafetensorsError::Json {
            part,
            name: current,
            problem: error.to_string(),
        })
}
