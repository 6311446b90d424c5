//! Changes to a document that leave everything else as its writer left it: comments, blanks, order, line ends.

use thiserror::Error;
use toml_edit::{DocumentMut, Item, Table, TableLike};

use super::Value;

/// Why a document was not changed.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum EditError {
    /// It is not TOML.
    #[error("not TOML: {0}")]
    Syntax(String),
    /// A section of the key is a value.
    #[error("`{section}` is no section, so that `{key}` cannot be set")]
    Section {
        /// The section.
        section: String,
        /// The key.
        key: String,
    },
}

/// `text` with values set by dotted key, or taken out where there is none. A section that is missing is added at the end.
///
/// Keeps a line's comment when its value changes, and the document's line ends. A key that is taken out takes its comment with it.
pub fn edit(text: &str, changes: &[(&str, Option<Value>)]) -> Result<String, EditError> {
    let mut document: DocumentMut = text
        .parse()
        .map_err(|error: toml_edit::TomlError| EditError::Syntax(error.message().to_owned()))?;
    for (key, value) in changes {
        set(document.as_table_mut(), key, value.as_ref())?;
    }
    let edited = document.to_string();
    let has_returns = text.contains("\r\n");
    Ok(if has_returns {
        edited.replace("\r\n", "\n").replace('\n', "\r\n")
    } else {
        edited
    })
}

fn set(root: &mut Table, key: &str, value: Option<&Value>) -> Result<(), EditError> {
    let mut names: Vec<&str> = key.split('.').collect();
    let name = names.pop().unwrap_or_default();
    let mut table: &mut dyn TableLike = root;
    for (depth, section) in names.iter().enumerate() {
        if !table.contains_key(section) {
            if value.is_none() {
                return Ok(());
            }
            let mut new = Table::new();
            // A header for the last of them alone.
            new.set_implicit(depth + 1 < names.len());
            table.insert(section, Item::Table(new));
        }
        let inner = table.get_mut(section).and_then(Item::as_table_like_mut);
        table = inner.ok_or_else(|| EditError::Section {
            section: names[..=depth].join("."),
            key: key.to_owned(),
        })?;
    }
    let Some(value) = value else {
        table.remove(name);
        return Ok(());
    };
    // A value prints as TOML that reads back as itself.
    let mut new: toml_edit::Value = value
        .to_string()
        .parse()
        .map_err(|error: toml_edit::TomlError| EditError::Syntax(error.message().to_owned()))?;
    match table.get_mut(name).and_then(Item::as_value_mut) {
        Some(old) => {
            *new.decor_mut() = old.decor().clone();
            *old = new;
        }
        None => {
            table.insert(name, Item::Value(new));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn number(n: i64) -> Value {
        Value::Integer(n)
    }

    #[test]
    fn values_change_and_everything_else_stays() {
        let text = "# head\nextends = \"a.toml\" # base\n\n[parallel] # ranks\ntp   = 2   # heads\n# before pp\npp = 0x10\n\n[train]\nsteps = 20_000\n";
        let edited = edit(
            text,
            &[
                ("parallel.tp", Some(number(4))),
                ("parallel.cp", Some(number(2))),
                ("parallel.pp", None),
                ("megatron.model.recompute_num_layers", Some(number(1))),
            ],
        )
        .expect("TOML");
        assert_eq!(
            edited,
            "# head\nextends = \"a.toml\" # base\n\n[parallel] # ranks\ntp   = 4   # heads\ncp = 2\n\n[train]\nsteps = 20_000\n\n[megatron.model]\nrecompute_num_layers = 1\n"
        );
        assert_eq!(edit(text, &[]).expect("TOML"), text);
    }

    #[test]
    fn dotted_keys_inline_tables_and_line_ends_stay_what_they_are() {
        let text = "parallel.tp = 1\r\ntrain = { steps = 5, micro_batch_size = 1 } # short\r\n";
        let edited = edit(
            text,
            &[
                ("parallel.tp", Some(number(2))),
                ("parallel.pp", Some(number(4))),
                ("train.micro_batch_size", Some(number(2))),
            ],
        );
        assert_eq!(
            edited.expect("TOML"),
            "parallel.tp = 2\r\nparallel.pp = 4\r\ntrain = { steps = 5, micro_batch_size = 2 } # short\r\n"
        );
    }

    #[test]
    fn what_cannot_be_edited_is_refused() {
        assert!(matches!(edit("a = ", &[]), Err(EditError::Syntax(_))));
        assert!(matches!(
            edit("parallel = 3", &[("parallel.tp", Some(number(2)))]),
            Err(EditError::Section { .. })
        ));
        assert_eq!(edit("", &[("parallel.tp", None)]).expect("TOML"), "");
        assert_eq!(
            edit("", &[("parallel.tp", Some(number(2)))]).expect("TOML"),
            "[parallel]\ntp = 2\n"
        );
    }
}
