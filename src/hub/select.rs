//! Which files of a model are wanted.

use glob::{MatchOptions, Pattern};

use super::HubError;

/// What a model needs, for any tool that reads safetensors. Weights in other formats are left out.
const USUAL: [&str; 9] = [
    "json",
    "safetensors",
    "txt",
    "jinja",
    "model",
    "tiktoken",
    "md",
    "yaml",
    "yml",
];

/// Which files are wanted.
#[derive(Debug)]
pub(super) struct Selection {
    include: Vec<Pattern>,
    exclude: Vec<Pattern>,
}

impl Selection {
    /// Patterns are those of `huggingface_hub`: `*` crosses `/`, a trailing `/` means everything below. Without `include`, the usual
    /// files at the top and the chat templates.
    pub(super) fn new(include: &[String], exclude: &[String]) -> Result<Self, HubError> {
        Ok(Self {
            include: patterns(include)?,
            exclude: patterns(exclude)?,
        })
    }

    /// Whether a whole model is wanted, and no part of it.
    pub(super) fn is_usual(&self) -> bool {
        self.include.is_empty() && self.exclude.is_empty()
    }

    /// Whether the file of that name is wanted.
    pub(super) fn wants(&self, name: &str) -> bool {
        let options = MatchOptions {
            case_sensitive: true,
            require_literal_separator: false,
            require_literal_leading_dot: false,
        };
        let any = |patterns: &[Pattern]| patterns.iter().any(|p| p.matches_with(name, options));
        let included = if self.include.is_empty() {
            is_usual(name)
        } else {
            any(&self.include)
        };
        included && !any(&self.exclude)
    }
}

fn is_usual(name: &str) -> bool {
    let top = name
        .strip_prefix("additional_chat_templates/")
        .unwrap_or(name);
    if top.contains('/') || top.starts_with('.') {
        return false;
    }
    match top.rsplit_once('.') {
        Some((_, extension)) => USUAL.contains(&extension),
        None => top.starts_with("LICENSE"),
    }
}

fn patterns(texts: &[String]) -> Result<Vec<Pattern>, HubError> {
    let one = |text: &String| {
        let whole = if text.ends_with('/') {
            format!("{text}*")
        } else {
            text.clone()
        };
        Pattern::new(&whole).map_err(|error| HubError::Pattern {
            pattern: text.clone(),
            why: error.msg,
        })
    };
    texts.iter().map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted(include: &[&str], exclude: &[&str], names: &[&'static str]) -> Vec<&'static str> {
        let owned = |texts: &[&str]| texts.iter().map(|t| (*t).to_owned()).collect::<Vec<_>>();
        let selection = Selection::new(&owned(include), &owned(exclude)).expect("patterns");
        let names = names.iter().copied();
        names.filter(|name| selection.wants(name)).collect()
    }

    #[test]
    fn weights_in_other_formats_are_left_out() {
        let names = [
            "config.json",
            "model-00001-of-00002.safetensors",
            "merges.txt",
            "LICENSE",
            "chat_template.jinja",
            "additional_chat_templates/rag.jinja",
            "pytorch_model.bin",
            "model.gguf",
            "onnx/model.onnx",
            "onnx/config.json",
            ".gitattributes",
            "tf_model.h5",
            "modeling.py",
        ];
        assert_eq!(wanted(&[], &[], &names), names[..6]);
        assert_eq!(
            wanted(&[], &["*.safetensors"], &names[..3]),
            ["config.json", "merges.txt"]
        );
    }

    #[test]
    fn a_star_crosses_folders() {
        let names = ["a.json", "x/b.json", "x/y/c.bin", "d.bin"];
        assert_eq!(wanted(&["*.json"], &[], &names), ["a.json", "x/b.json"]);
        assert_eq!(wanted(&["x/"], &[], &names), ["x/b.json", "x/y/c.bin"]);
        assert_eq!(wanted(&["*"], &["x/*"], &names), ["a.json", "d.bin"]);
        assert!(matches!(
            Selection::new(&["[".into()], &[]),
            Err(HubError::Pattern { .. })
        ));
    }
}
