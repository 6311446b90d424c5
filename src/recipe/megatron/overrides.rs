//! Bridge's options as Hydra writes them on a command line.

use super::super::value::Value;
use super::{Megatron, options};

/// An option of Bridge's configuration with its value; `None` is null.
type Setting = (String, Option<Value>);

/// Every option that a recipe sets, in the order of keys: what it says in keys, then `megatron.unset` and `megatron.overrides`.
///
/// The MTP depth is the model's: where upstream's recipe writes 1 and the model has another depth, that is an option, and without MTP its loss has
/// no scale.
pub fn settings(recipe: &Megatron) -> Vec<Setting> {
    let mut settings = Vec::new();
    let depth = recipe.model.text.mtp_num_hidden_layers;
    for (key, value) in recipe.said() {
        if key.path == "mtp.loss_scale" && depth == 0 {
            continue;
        }
        let value = match (key.path, value) {
            // Bridge calls "no interleaving" null.
            ("parallel.vpp", Value::Integer(1)) => None,
            ("megatron.model.recompute_granularity", Value::String(word)) if word == "none" => None,
            // No depth is null; a loss scale without a depth would not be read.
            ("model.mtp_num_hidden_layers", Value::Integer(0)) => None,
            ("schedule.kind", Value::String(word)) => Some(Value::String(match word.as_str() {
                "wsd" => "WSD".into(),
                word => word.into(),
            })),
            (path, Value::String(word)) if is_dtype(path) => {
                Some(Value::String(format!("torch.{word}")))
            }
            (_, value) => Some(value.clone()),
        };
        for option in options(key.path) {
            settings.push((option.into(), value.clone()));
        }
    }
    let is_hard_coded = recipe.text("megatron.mtp_depth") == Some("recipe");
    if is_hard_coded && depth != 1 && recipe.get("model.mtp_num_hidden_layers").is_none() {
        let depth = (depth > 0).then(|| Value::count(depth));
        settings.push(("model.mtp_num_layers".into(), depth));
    }
    if recipe.get("megatron.checkpoints") == Some(&Value::Boolean(false))
        && recipe.get("megatron.checkpoint.save").is_none()
    {
        settings.push(("checkpoint.save".into(), None));
    }
    if let Some(Value::List(paths)) = recipe.get("megatron.unset") {
        for path in paths.iter().filter_map(Value::as_str) {
            settings.push((path.into(), None));
        }
    }
    for (path, value) in recipe.entries("megatron.overrides") {
        settings.push((path.clone(), Some(value.clone())));
    }
    settings
}

/// Whether the key holds a type of numbers, which Bridge spells `torch.bfloat16`.
pub(in crate::recipe) fn is_dtype(key: &str) -> bool {
    key.starts_with("megatron.") && key.ends_with("_dtype") && !key.ends_with("moe_router_dtype")
}

/// The settings of `recipe` that `base` does not have, as overrides for `run_recipe.py`; all of them without a base.
///
/// Each is one word of a command line before the shell's own quoting. A precision other than the base's is named as a whole, and then has no
/// options of its own.
pub fn overrides(recipe: &Megatron, base: Option<&Megatron>) -> Vec<String> {
    let known = base.map(settings).unwrap_or_default();
    let precision = |of: &Megatron| of.text("megatron.precision").map(str::to_owned);
    let named = base
        .and_then(|base| (precision(base) != precision(recipe)).then(|| precision(recipe)))
        .flatten();
    let mut list: Vec<String> = settings(recipe)
        .iter()
        .filter(|setting| !known.contains(setting))
        .filter(|(path, _)| named.is_none() || !path.starts_with("mixed_precision."))
        .map(|(path, value)| {
            let text = value.as_ref().map_or_else(|| "null".into(), hydra);
            format!("{path}={text}")
        })
        .collect();
    list.extend(named.map(|name| format!("mixed_precision={name}")));
    list.dedup();
    list
}

/// A value in Hydra's grammar.
fn hydra(value: &Value) -> String {
    match value {
        Value::Integer(n) => n.to_string(),
        Value::Float(x) if x.is_nan() => "nan".into(),
        Value::Float(x) => format!("{x:?}"),
        Value::Boolean(b) => b.to_string(),
        Value::String(text) => quoted(text),
        Value::List(items) => {
            let items: Vec<String> = items.iter().map(hydra).collect();
            format!("[{}]", items.join(","))
        }
        Value::Table(entries) => {
            let entries: Vec<String> = entries
                .iter()
                .map(|(name, value)| format!("{}:{}", quoted(name), hydra(value)))
                .collect();
            format!("{{{}}}", entries.join(","))
        }
    }
}

/// A text: bare where Hydra reads the same text back, else in double quotes.
///
/// Hydra takes words of letters, digits and `_-/.:` and a few more as they are, but reads numbers, booleans and null as such. In quotes only `\"`
/// is an escape, and backslashes before a quote count; `${` would start an interpolation and is written `\${`.
fn quoted(text: &str) -> String {
    let is_bare = !text.is_empty()
        && text
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"_-/.".contains(&b))
        && text.bytes().any(|b| b.is_ascii_alphabetic())
        && text.parse::<f64>().is_err()
        && !is_number(text)
        && !["true", "false", "null", "nan", "inf", "infinity"]
            .contains(&text.trim_start_matches(['-', '+']).to_lowercase().as_str());
    if is_bare {
        return text.into();
    }
    let mut quoted = String::from("\"");
    let mut backslashes = 0;
    for c in text.replace("${", "\\${").chars() {
        if c == '"' {
            // Backslashes before a quote are read in pairs.
            quoted.push_str(&"\\".repeat(backslashes + 1));
        }
        backslashes = if c == '\\' { backslashes + 1 } else { 0 };
        quoted.push(c);
    }
    quoted.push_str(&"\\".repeat(backslashes));
    quoted.push('"');
    quoted
}

/// Numbers in forms that Rust does not read: `1_000`, `1e3_0`.
fn is_number(text: &str) -> bool {
    text.replace('_', "").parse::<f64>().is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_that_hydra_would_read_as_something_else_are_quoted() {
        for (text, written) in [
            ("torch.bfloat16", "torch.bfloat16"),
            ("Qwen/Qwen3.5-9B", "Qwen/Qwen3.5-9B"),
            ("my run", "\"my run\""),
            ("true", "\"true\""),
            ("NULL", "\"NULL\""),
            ("1e3", "\"1e3\""),
            ("1_0", "\"1_0\""),
            ("", "\"\""),
            ("a,b", "\"a,b\""),
            ("it's", "\"it's\""),
            ("say \"x\"", "\"say \\\"x\\\"\""),
            ("C:\\", "\"C:\\\\\""),
            ("${oc.env:HOME}", "\"\\${oc.env:HOME}\""),
        ] {
            assert_eq!(quoted(text), written, "{text}");
        }
    }

    #[test]
    fn lists_and_tables_are_written_without_blanks() {
        let list = Value::List(vec![Value::String("core_attn".into()), Value::Float(1.0)]);
        assert_eq!(hydra(&list), "[core_attn,1.0]");
        let table = Value::Table(vec![("revision".into(), Value::String("a b".into()))]);
        assert_eq!(hydra(&table), "{revision:\"a b\"}");
    }
}
