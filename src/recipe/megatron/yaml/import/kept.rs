//! Warnings of what no key holds: kept among the overrides, or lost.

use super::{At, Import, MOST};
use crate::recipe::key::{KEYS, closest};
use crate::recipe::megatron::options;

impl Import<'_> {
    /// Warns of options without a key: of those that look like one of a known name, and of the others as a whole.
    /// A file of our own has there what its recipe has there.
    pub(super) fn unknown(&mut self) {
        if self.is_ours {
            return;
        }
        let names: Vec<String> = KEYS
            .iter()
            .flat_map(|key| options(key.path))
            .map(Into::into)
            .collect();
        let unknown = std::mem::take(&mut self.unknown);
        let mut others: Vec<(String, At)> = Vec::new();
        let mut said = 0;
        for (path, at) in unknown {
            let (section, name) = path.split_once('.').unwrap_or(("", &path));
            let same = names
                .iter()
                .filter_map(|known| known.strip_prefix(section)?.strip_prefix('.'));
            let near: Vec<String> = if said < MOST {
                closest(name, same)
                    .into_iter()
                    // Bridge has many names of one beginning; a mistyped one has the length of what was meant.
                    .filter(|known| known.len().abs_diff(name.len()) <= 2 && is_typo(known, name))
                    .map(|known| format!("{section}.{known}"))
                    .collect()
            } else {
                Vec::new()
            };
            if near.is_empty() {
                others.push((path, at));
            } else {
                said += 1;
                let message =
                    format!("`{path}` is not known here: it is kept in megatron.overrides");
                self.warn("W0444", at, message).nearest = near;
            }
        }
        let Some((_, at)) = others.first() else {
            return;
        };
        let listed: Vec<&str> = others.iter().take(5).map(|(path, _)| &**path).collect();
        let more = match others.len() - listed.len() {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        let message = format!(
            "{} options have no key here and are kept in megatron.overrides: {}{more}",
            others.len(),
            listed.join(", ")
        );
        self.warn("W0445", *at, message);
    }

    pub(super) fn lost(&mut self, lost: &[(String, At, String)]) {
        let Some((_, at, _)) = lost.first() else {
            return;
        };
        let listed: Vec<String> = lost
            .iter()
            .take(5)
            .map(|(path, _, what)| format!("{path} ({what})"))
            .collect();
        let more = match lost.len() - listed.len() {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        let message = format!(
            "{} options hold what no override can set and are left out: {}{more}",
            lost.len(),
            listed.join(", ")
        );
        self.warn("W0446", *at, message);
    }
}

/// Whether two names of about one length differ in a few letters only.
fn is_typo(known: &str, name: &str) -> bool {
    let same = known.bytes().zip(name.bytes()).take_while(|(a, b)| a == b);
    let same = same.count();
    let back = known.bytes().rev().zip(name.bytes().rev());
    let back = back.take_while(|(a, b)| a == b).count();
    same + back + 3 >= known.len().min(name.len()) && name.len() > 3
}
