//! Prints a recipe's resolved values with their origins.

use std::fmt::Write;

use serde::Serialize;

use super::arguments::ShowArguments;
use super::diagnostics::load_valid;
use super::output::Tone;
use super::{Context, Exit, OrExit, Outcome};
use crate::base::Place;
use crate::recipe::{KEYS, Loaded, Located, Value, to_toml};

/// What `--json` says about a value.
#[derive(Serialize)]
struct Shown<'a> {
    key: &'a str,
    value: &'a Value,
    origin: &'a Place,
    #[serde(skip_serializing_if = "Option::is_none")]
    derived_from: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    base: Option<&'a Value>,
    live: bool,
}

pub(super) fn run(arguments: &ShowArguments, context: &Context) -> Outcome {
    let (recipe, loaded) =
        load_valid(&arguments.recipe, &arguments.sets.set, context.color_stderr)?;
    if arguments.toml {
        let here = std::env::current_dir().or_exit(Exit::Failure)?;
        context
            .out
            .write(to_toml(&recipe.with_absolute_paths(&here)))?;
    } else if arguments.json {
        let shown: Vec<Shown<'_>> = rows(&loaded)
            .map(|(key, located)| Shown {
                key: key.path,
                value: &located.value,
                origin: &located.place,
                derived_from: located.derived_from.as_deref(),
                base: located.base.as_ref().map(|(value, _)| value),
                live: key.live,
            })
            .collect();
        context.out.json(&shown)?;
    } else {
        context.out.write(table(&loaded, context))?;
    }
    Ok(())
}

/// Every value in the order of the key table.
fn rows(loaded: &Loaded) -> impl Iterator<Item = (&'static crate::recipe::Key, &Located)> {
    KEYS.iter()
        .filter_map(|key| Some((key, loaded.values.get(key.path)?)))
}

/// Sections with aligned names, values and origins.
fn table(loaded: &Loaded, context: &Context) -> String {
    const WIDEST_VALUE: usize = 44;
    let out = &context.out;
    let names = rows(loaded).map(|(key, _)| key.name().len()).max();
    // `--json` and `--toml` have long lists in full.
    let short = |located: &Located| {
        let value = located.value.to_string();
        match value.char_indices().nth(WIDEST_VALUE) {
            Some((end, _)) => format!("{} ...", &value[..end]),
            None => value,
        }
    };
    let values = rows(loaded).map(|(_, located)| short(located).chars().count());
    let (names, values) = (names.unwrap_or(0), values.max().unwrap_or(0));
    let mut text = String::new();
    let mut section = "";
    for (key, located) in rows(loaded) {
        if key.section() != section {
            let gap = if text.is_empty() { "" } else { "\n" };
            section = key.section();
            text += gap;
            text += &out.paint(Tone::Heading, format!("[{section}]"));
            text.push('\n');
        }
        let value = short(located);
        let padding = " ".repeat(values.saturating_sub(value.chars().count()));
        let name = out.paint(Tone::Name, format!("{:names$}", key.name()));
        let origin = out.paint(Tone::Dim, origin(located));
        let _ = writeln!(text, "{name}  {value}{padding}  {origin}");
    }
    text
}

fn origin(located: &Located) -> String {
    match (&located.place, &located.derived_from, &located.base) {
        (Place::Default, Some(from), _) if crate::recipe::find_key(from).is_some() => {
            format!("from {from}")
        }
        (Place::Default, Some(words), _) => format!("default: {words}"),
        (place, _, Some((value, _))) if *value != located.value => {
            format!("{place} (base {value})")
        }
        (place, _, _) => place.to_string(),
    }
}
