//! The whole table as text.

use std::fmt::Write as _;

use serde_json::{Value, json};

use super::{Item, Model, Standing, rule};

/// How a table is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TableFormat {
    /// A line a Megatron tensor, sources separated by spaces.
    Csv,
    /// An array with an object a Megatron tensor.
    Json,
}

impl TableFormat {
    /// The format that a file's name asks for; none if it asks for neither.
    pub fn of(name: &str) -> Option<Self> {
        match name.rsplit_once('.')?.1 {
            "csv" => Some(Self::Csv),
            "json" => Some(Self::Json),
            _ => None,
        }
    }
}

/// The word for how it stands with a tensor.
pub fn standing_word(standing: Standing) -> &'static str {
    match standing {
        Standing::Fine => "ok",
        Standing::Missing => "missing",
        Standing::Wrong => "wrong",
        Standing::Extra => "unmapped",
    }
}

/// Every Megatron tensor with its sources, then what the files have and the model has no place for.
pub fn table(model: &Model, format: TableFormat) -> String {
    let mut rows: Vec<Value> = Vec::new();
    let mut csv = String::from("megatron,shape,rule,cut,hf,standing\n");
    for (index, entry) in model.table.entries().iter().enumerate() {
        let standing = standing_word(model.standing(Item::Entry(index)));
        let sources = entry.source_names();
        let (kind, cut) = (entry.kind().label(), rule::cut(entry));
        match format {
            TableFormat::Json => rows.push(json!({
                "megatron": entry.name,
                "shape": entry.shape.0,
                "rule": kind,
                "cut": cut,
                "hf": sources,
                "standing": standing,
            })),
            // Names have neither commas nor quotes; shapes and words may.
            TableFormat::Csv => {
                let _ = writeln!(
                    csv,
                    "{},\"{}\",{kind},\"{cut}\",{},{standing}",
                    entry.name,
                    entry.shape,
                    sources.join(" "),
                );
            }
        }
    }
    let files = model.files.iter();
    for stored in files.flat_map(|f| model.extra().iter().map(|&i| &f.stored[i])) {
        let standing = standing_word(Standing::Extra);
        match format {
            TableFormat::Json => rows.push(json!({
                "stored": stored.name,
                "shape": stored.shape.0,
                "standing": standing,
            })),
            TableFormat::Csv => {
                let name = stored.name.replace('"', "\"\"");
                let _ = writeln!(csv, ",\"{}\",,,\"{name}\",{standing}", stored.shape);
            }
        }
    }
    match format {
        TableFormat::Csv => csv,
        TableFormat::Json => format!("{:#}\n", Value::Array(rows)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::{ExpertStyle, ModelConfig, TextConfig};

    #[test]
    fn the_table_has_a_row_for_every_tensor() {
        let config = ModelConfig {
            text: TextConfig::default(),
            vision: None,
        };
        let model = Model::new("9b".into(), &config, ExpertStyle::QWEN3_5);
        let csv = table(&model, TableFormat::Csv);
        assert_eq!(csv.lines().count(), model.table.entries().len() + 1);
        let json: Value = serde_json::from_str(&table(&model, TableFormat::Json)).expect("valid");
        assert_eq!(
            json.as_array().map(Vec::len),
            Some(model.table.entries().len())
        );
        assert_eq!(json[0]["hf"][0], "model.embed_tokens.weight");
        assert_eq!(TableFormat::of("a.b.csv"), Some(TableFormat::Csv));
        assert_eq!(TableFormat::of("csv"), None);
    }
}
