//! Lists the workbench's actions with their keys, the user's own keymap counted in.

use serde::Serialize;

use super::arguments::KeysArguments;
use super::{Context, Outcome, workbench};
use crate::app::{Action, Keymap, key_reference};

/// What `--json` says about an action.
#[derive(Serialize)]
struct Listed {
    id: String,
    scope: &'static str,
    keys: Vec<String>,
    doc: &'static str,
}

pub(super) fn run(arguments: &KeysArguments, context: &Context) -> Outcome {
    let keymap = match workbench::keymap() {
        Some((_, text)) => Keymap::from_toml(&text).0,
        None => Keymap::default(),
    };
    if arguments.json {
        let listed: Vec<Listed> = Action::ALL
            .iter()
            .map(|&action| Listed {
                id: action.id(),
                scope: action.scope().title(),
                keys: keymap.keys(action),
                doc: action.doc(),
            })
            .collect();
        context.out.json(&listed)?;
    } else {
        let text = key_reference(&keymap, arguments.md);
        context.out.write(text.trim_start_matches('\n'))?;
    }
    Ok(())
}
