//! Collects problems that concern several keys, and finds the place to show them at.

use super::document::replacement;
use super::key;
use super::overlay::Overlay;
use crate::base::{Diagnostic, Place, Severity};

/// Problems of one overlay.
pub(super) struct Report<'a> {
    overlay: &'a Overlay,
    /// Where a problem goes that no written key has.
    whole: Place,
    pub(super) diagnostics: Vec<Diagnostic>,
}

/// A diagnostic that is being completed.
pub(super) struct Draft<'a> {
    diagnostic: &'a mut Diagnostic,
    /// Whether the place is that of the blamed key itself, so that a nearest value can replace it.
    is_blamed: bool,
}

impl<'a> Report<'a> {
    pub(super) fn new(overlay: &'a Overlay, whole: Place) -> Self {
        Self {
            overlay,
            whole,
            diagnostics: Vec::new(),
        }
    }

    /// Adds a problem at the first of `keys` that somebody wrote. The first key is the one to change.
    pub(super) fn add(
        &mut self,
        severity: Severity,
        code: &'static str,
        keys: &[&str],
        message: String,
    ) -> Draft<'_> {
        let written = keys
            .iter()
            .find_map(|key| Some((*key, self.overlay.values.get(*key)?)));
        let place = written.map_or_else(|| self.whole.clone(), |(_, l)| l.place.clone());
        self.diagnostics.push(Diagnostic {
            severity,
            code,
            message,
            place,
            key: keys.first().map(|key| (*key).into()),
            hint: None,
            nearest: Vec::new(),
            fix: None,
        });
        let last = self.diagnostics.len() - 1;
        Draft {
            diagnostic: &mut self.diagnostics[last],
            is_blamed: written.map(|(key, _)| key) == keys.first().copied(),
        }
    }

    /// Whether a place is in the recipe itself or on the command line, and not in what it extends.
    pub(super) fn is_own(&self, place: &Place) -> bool {
        match (place, &self.whole) {
            (Place::File { path, .. }, Place::File { path: main, .. }) => path == main,
            (place, _) => *place != Place::Default,
        }
    }

    /// Keys that a message names as words, for problems whose other numbers stand elsewhere.
    pub(super) fn named_in(message: &str) -> Vec<&'static str> {
        let words: Vec<&str> = message
            .split(|c: char| !c.is_ascii_alphanumeric() && c != '_')
            .collect();
        key::KEYS
            .iter()
            .filter(|key| words.contains(&key.name()))
            .map(|key| key.path)
            .collect()
    }
}

impl Draft<'_> {
    /// Says what the user can do.
    pub(super) fn hint(self, hint: &str) -> Self {
        self.diagnostic.hint = Some(hint.into());
        self
    }

    /// Lists legal values of the first key as TOML, the best first; the best becomes the fix where that key stands in a file.
    pub(super) fn nearest(self, values: impl IntoIterator<Item = String>) -> Self {
        self.diagnostic.nearest = values.into_iter().collect();
        if self.is_blamed {
            self.diagnostic.fix =
                replacement(&self.diagnostic.place, self.diagnostic.nearest.first());
        } else if let (Some(key), [best, ..]) = (&self.diagnostic.key, &self.diagnostic.nearest[..])
        {
            self.diagnostic.hint = Some(format!("set {key} = {best}, or change the value here"));
        }
        self
    }
}
