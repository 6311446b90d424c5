//! Lists the keys of recipes and of the workbench.

use std::fmt::Write;

use serde::Serialize;

use super::arguments::KeysArguments;
use super::output::{Output, Tone};
use super::{Context, Exit, Outcome};
use crate::recipe::{KEYS, Key};

/// What `--json` says about a key.
#[derive(Serialize)]
struct Listed {
    key: &'static str,
    r#type: &'static str,
    range: String,
    default: String,
    unit: &'static str,
    live: bool,
    doc: &'static str,
}

pub(super) fn run(arguments: &KeysArguments, context: &Context) -> Outcome {
    if arguments.ui {
        return super::keys_ui::run(arguments, context);
    }
    let prefix = arguments.prefix.as_deref().unwrap_or("");
    let keys: Vec<&Key> = KEYS
        .iter()
        .filter(|key| key.path.starts_with(prefix))
        .collect();
    if keys.is_empty() {
        return Err(Exit::Usage
            .because(format!("no key starts with `{prefix}`"))
            .hint("`trestle keys` lists every key"));
    }
    let out = &context.out;
    if arguments.json {
        let listed: Vec<Listed> = keys.into_iter().map(listed).collect();
        out.json(&listed)?;
    } else if arguments.md {
        out.write(markdown(&keys))?;
    } else {
        out.write(table(&keys, out))?;
    }
    Ok(())
}

fn listed(key: &Key) -> Listed {
    Listed {
        key: key.path,
        r#type: key.kind.name(),
        range: key.kind.range(),
        default: key.default.to_string(),
        unit: key.unit,
        live: key.live,
        doc: key.doc,
    }
}

/// Type, range and unit in one column: `integer >= 1 steps`.
fn type_of(key: &Key) -> String {
    let parts = [key.kind.name().into(), key.kind.range(), key.unit.into()];
    let parts: Vec<String> = parts.into_iter().filter(|part| !part.is_empty()).collect();
    parts.join(" ")
}

/// Runs of keys with the same section.
fn sections<'a>(keys: &'a [&'a Key]) -> impl Iterator<Item = (&'static str, &'a [&'a Key])> {
    keys.chunk_by(|a, b| a.section() == b.section())
        .map(|run| (run[0].section(), run))
}

fn table(keys: &[&Key], out: &Output) -> String {
    let width = |of: &dyn Fn(&Key) -> usize| keys.iter().map(|key| of(key)).max().unwrap_or(0);
    let names = width(&|key| key.path.len());
    let types = width(&|key| type_of(key).len());
    let defaults = width(&|key| key.default.to_string().len());
    let mut text = String::new();
    for (section, run) in sections(keys) {
        if !text.is_empty() {
            text.push('\n');
        }
        if !section.is_empty() {
            let heading = out.paint(Tone::Heading, format!("[{section}]"));
            let _ = writeln!(text, "{heading}");
        }
        for key in run {
            let name = out.paint(Tone::Name, format!("{:names$}", key.path));
            let live = if key.live { "live" } else { "    " };
            let live = out.paint(Tone::Good, live);
            let _ = writeln!(
                text,
                "{name}  {live}  {:types$}  {:defaults$}  {}",
                type_of(key),
                key.default,
                key.doc
            );
        }
    }
    let _ = writeln!(
        text,
        "\n{}",
        out.paint(
            Tone::Dim,
            "live: a running trainer takes a new value (trestle set RUN KEY=VALUE)"
        )
    );
    text
}

fn markdown(keys: &[&Key]) -> String {
    let cell = |text: &str| text.replace('|', "\\|");
    let code = |text: &str| match text {
        "" => String::new(),
        text => format!("`{}`", cell(text)),
    };
    let mut text = String::new();
    for (section, run) in sections(keys) {
        let title = if section.is_empty() {
            "top level"
        } else {
            section
        };
        let _ = writeln!(text, "## {title}\n");
        text += "| key | type | default | live | meaning |\n|---|---|---|---|---|\n";
        for key in run {
            let default = match key.default {
                crate::recipe::Fallback::Literal(literal) => code(literal),
                other => cell(&other.to_string()),
            };
            let _ = writeln!(
                text,
                "| `{}` | {} | {default} | {} | {} |",
                key.path,
                cell(&type_of(key)),
                if key.live { "yes" } else { "" },
                cell(key.doc)
            );
        }
        text.push('\n');
    }
    text
}
