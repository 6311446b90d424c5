//! Puts a value into its place in a profile, or says what is wrong with it.

use std::path::{Path, PathBuf};

use toml::de::DeValue;

use super::Profile;
use super::key::{Key, STYLES, Slot};
use crate::backend::shell;

/// Sets what `key` says to `value`.
pub(super) fn set(profile: &mut Profile, key: &Key, value: &DeValue<'_>) -> Result<(), String> {
    let name = key.name;
    match key.slot {
        Slot::Name(place) => {
            let text = text(name, value)?;
            let plain = |c: char| c.is_ascii_alphanumeric() || "_-.,:+@/&|*()[]".contains(c);
            if !text.chars().all(plain) {
                return Err(format!("{name} = {text:?} is no name that Slurm takes"));
            }
            *place(profile) = Some(text);
        }
        Slot::Text(place) => *place(profile) = Some(text(name, value)?),
        Slot::Texts(place) => *place(profile) = texts(name, value)?,
        Slot::Options(place) => {
            let words = texts(name, value)?;
            if let Some(word) = words.iter().find(|w| !w.starts_with("--")) {
                return Err(format!("{name}: {word:?} does not begin with two hyphens"));
            }
            *place(profile) = words;
        }
        Slot::Variables(place) => {
            let names = texts(name, value)?;
            if let Some(wrong) = names.iter().find(|n| !shell::is_variable(n)) {
                // The text after `=` may be a secret: it is not repeated.
                let shown = wrong.split('=').next().unwrap_or_default();
                return Err(if wrong.contains('=') {
                    format!("{name}: only the name {shown:?} may stand here, without a value")
                } else {
                    format!("{name}: {shown:?} is no variable's name")
                });
            }
            *place(profile) = names;
        }
        Slot::Flag(place) => {
            *place(profile) = match value {
                DeValue::Boolean(flag) => *flag,
                other => {
                    return Err(format!("{name} is true or false, not {}", other.type_str()));
                }
            };
        }
        Slot::Gpus => profile.gpus_per_node = integer(name, value, 1, 1024)? as usize,
        Slot::Seconds => profile.checkpoint_seconds = integer(name, value, 10, 65_535)?,
        Slot::Time => {
            let text = text(name, value)?;
            if !is_time_limit(&text) {
                return Err(format!(
                    "{name} = {text:?} is not [DAYS-]HOURS:MINUTES:SECONDS"
                ));
            }
            profile.time_limit = text;
        }
        Slot::Style => {
            let text = text(name, value)?;
            let style = STYLES.iter().find(|(word, _)| *word == text);
            let Some((_, style)) = style else {
                return Err(format!("{name} = {text:?} is neither srun nor torchrun"));
            };
            profile.style = *style;
        }
        Slot::Bridge => {
            let text = text(name, value)?;
            if !Path::new(&text).is_absolute() {
                return Err(format!("{name} = {text:?} is not an absolute path"));
            }
            profile.bridge = Some(PathBuf::from(text));
        }
        Slot::Program => {
            let words = texts(name, value)?;
            if words.is_empty() {
                return Err(format!("{name} names no program"));
            }
            profile.python = words;
        }
    }
    Ok(())
}

fn text(name: &str, value: &DeValue<'_>) -> Result<String, String> {
    let DeValue::String(text) = value else {
        return Err(format!("{name} is a text, not {}", value.type_str()));
    };
    if text.is_empty() {
        return Err(format!("{name} is empty; leave the key out instead"));
    }
    if text.chars().any(char::is_control) {
        return Err(format!("{name} = {text:?} has a control character"));
    }
    Ok(text.to_string())
}

fn texts(name: &str, value: &DeValue<'_>) -> Result<Vec<String>, String> {
    let DeValue::Array(items) = value else {
        return Err(format!(
            "{name} is a list of texts, not {}",
            value.type_str()
        ));
    };
    items
        .iter()
        .map(|item| text(name, item.get_ref()))
        .collect()
}

fn integer(name: &str, value: &DeValue<'_>, min: u64, max: u64) -> Result<u64, String> {
    let DeValue::Integer(number) = value else {
        return Err(format!("{name} is a number, not {}", value.type_str()));
    };
    let digits = number.as_str().replace('_', "");
    u64::from_str_radix(&digits, number.radix())
        .ok()
        .filter(|n| (min..=max).contains(n))
        .ok_or_else(|| format!("{name} = {} is not in {min} to {max}", number.as_str()))
}

/// `[DAYS-]HOURS:MINUTES:SECONDS`, above zero.
fn is_time_limit(text: &str) -> bool {
    let (days, clock) = text.split_once('-').unwrap_or(("0", text));
    let number = |part: &str| {
        let digits =
            !part.is_empty() && part.len() <= 4 && part.bytes().all(|b| b.is_ascii_digit());
        digits.then(|| part.parse::<u64>().ok()).flatten()
    };
    let parts: Option<Vec<u64>> = clock.split(':').map(number).collect();
    match (number(days), parts.as_deref()) {
        (Some(days), Some(&[hours, minutes, seconds])) => {
            minutes < 60 && seconds < 60 && days + hours + minutes + seconds > 0
        }
        _ => false,
    }
}
