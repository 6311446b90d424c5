//! Every published size, with and without vision: names and shapes as Megatron has them, and every element used once in both directions.

use std::fmt::Write as _;
use std::fs;
use std::io::Read as _;
use std::ops::Range;
use std::path::PathBuf;
use std::time::Instant;

use ring::digest::{SHA256, digest};
use trestle::base::DType;
use trestle::mapping::{Found, Layout, LayoutOptions, Spelling, Table, View, audit, join};
use trestle::plan::Pipeline;
use trestle::spec::{ExpertStyle, ModelConfig, find, model_tensors, registry};

fn directory() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden/mapping/registry")
}

#[test]
fn names_shapes_and_sources_are_those_of_megatron() {
    let digests = fs::read_to_string(directory().join("digests.json")).unwrap();
    let digests: serde_json::Value = serde_json::from_str(&digests).unwrap();
    let sizes = digests.as_object().unwrap();
    assert_eq!(sizes.len(), 5);
    for (size, golden) in sizes {
        let entry = find(size).unwrap();
        let table = Table::new(&entry.model, entry.experts);
        let mut lines: Vec<String> = table
            .entries()
            .iter()
            .map(|entry| {
                let extents: Vec<String> = entry.shape.0.iter().map(ToString::to_string).collect();
                let sources = entry.source_names().join("|");
                format!("{}\t{}\t{sources}", entry.name, extents.join(","))
            })
            .collect();
        lines.sort_unstable();

        let mut text = String::new();
        let file = fs::File::open(directory().join(format!("{size}.tsv.gz"))).unwrap();
        flate2::read::GzDecoder::new(file)
            .read_to_string(&mut text)
            .unwrap();
        // The file has all experts of a layer on one line.
        let mut theirs: Vec<String> = text.lines().flat_map(expanded).collect();
        theirs.sort_unstable();
        for (ours, theirs) in lines.iter().zip(&theirs) {
            assert_eq!(ours, theirs, "{size}");
        }
        assert_eq!(lines.len(), theirs.len(), "{size}");
        assert_eq!(golden["lines"], lines.len(), "{size}");

        let text = lines.join("\n") + "\n";
        let mut hex = String::new();
        for byte in digest(&SHA256, text.as_bytes()).as_ref() {
            write!(hex, "{byte:02x}").unwrap();
        }
        assert_eq!(golden["sha256"], hex, "{size}");
    }
}

/// A line for each number of its `{0..N}`.
fn expanded(line: &str) -> Vec<String> {
    let Some((_, rest)) = line.split_once("{0..") else {
        return vec![line.to_owned()];
    };
    let (last, _) = rest.split_once('}').unwrap();
    let range = format!("{{0..{last}}}");
    (0..=last.parse::<usize>().unwrap())
        .map(|number| line.replace(&range, &number.to_string()))
        .collect()
}

/// Rectangles of one tensor.
type Rectangles = Vec<(Range<usize>, Range<usize>)>;

/// Whether the rectangles have every element of a matrix once.
fn cover(mut list: Rectangles, (rows, cols): (usize, usize)) -> bool {
    let area: usize = list.iter().map(|(r, c)| r.len() * c.len()).sum();
    list.sort_by_key(|(r, c)| (r.start, c.start));
    // Rectangles in order that start with equal rows are bands; a band's columns follow one another.
    let mut row = 0;
    let mut at = 0;
    while at < list.len() {
        let band = list[at].0.clone();
        let mut col = 0;
        if band.start != row {
            return false;
        }
        while at < list.len() && list[at].0 == band {
            if list[at].1.start != col {
                return false;
            }
            col = list[at].1.end;
            at += 1;
        }
        if col != cols {
            return false;
        }
        row = band.end;
    }
    row == rows && area == rows * cols
}

/// Checks that a view has every element of every entry once, in tensors without overlap.
pub(super) fn uses_each_element_once(table: &Table, view: &View, what: &str) {
    let mut entries: Vec<Rectangles> = vec![Vec::new(); table.entries().len()];
    for tensor in &view.tensors {
        let mut places: Rectangles = Vec::with_capacity(tensor.pieces.len());
        for piece in &tensor.pieces {
            if !tensor.replica {
                entries[piece.entry as usize].push((piece.rows.clone(), piece.cols.clone()));
            }
            places.push((
                piece.at_row..piece.at_row + piece.rows.len(),
                piece.at_col..piece.at_col + piece.cols.len(),
            ));
        }
        assert!(
            cover(places, tensor.shape.matrix()),
            "{what}: {} is not made of its pieces",
            tensor.name
        );
    }
    for (entry, list) in table.entries().iter().zip(entries) {
        assert!(
            cover(list, entry.matrix()),
            "{what}: {} is not used once",
            entry.name
        );
    }
}

/// Checks a model in all formats and both directions.
fn check(config: &ModelConfig, style: ExpertStyle, what: &str) {
    let table = Table::new(config, style);
    let huggingface = View::huggingface(&table);
    let vocab = config.text.vocab_size;
    let torch_dist = View::torch_dist(&table, vocab, Spelling::TransformerLayer);
    uses_each_element_once(&table, &huggingface, what);
    uses_each_element_once(&table, &torch_dist, what);

    // The table's Hugging Face side is the model's own list of tensors, no more and no less.
    let own = model_tensors(config, style);
    let found: Vec<Found> = own
        .iter()
        .map(|tensor| Found {
            name: &tensor.name,
            shape: &tensor.shape,
            dtype: DType::BF16,
        })
        .collect();
    let result = audit(&table, &huggingface, &found);
    assert_eq!(result.problems, [], "{what}");
    assert_eq!(huggingface.tensors.len(), own.len(), "{what}");
    assert!(result.transposed.is_empty() && result.repeats.is_empty());

    for (input, output) in [(&huggingface, &torch_dist), (&torch_dist, &huggingface)] {
        let moves = join(&table, input, output).unwrap();
        let moved: usize = moves
            .iter()
            .flatten()
            .map(|step| step.size.0 * step.size.1)
            .sum();
        let elements: u64 = own.iter().map(|tensor| tensor.shape.elements()).sum();
        assert_eq!(moved as u64, elements, "{what}");
    }
}

#[test]
fn every_element_of_every_size_is_used_once_in_both_directions() {
    let mut checked = 0;
    for entry in registry() {
        check(
            &entry.text_only(),
            entry.experts,
            &format!("{} text", entry.name),
        );
        if entry.model.vision.is_some() {
            check(
                &entry.model,
                entry.experts,
                &format!("{} with vision", entry.name),
            );
            checked += 1;
        }
    }
    assert_eq!(checked, 12);
}

#[test]
fn every_other_way_to_store_experts_is_as_complete() {
    for size in ["toy-moe", "35b-a3b"] {
        let model = &find(size).unwrap().model;
        for style in [ExpertStyle::QWEN3_6, ExpertStyle::PER_EXPERT] {
            check(model, style, size);
        }
    }
}

#[test]
fn ranks_of_a_layout_have_every_element_once_beside_their_copies() {
    for (size, tp, pp, ep, etp) in [
        ("0.8b", 2, 2, 1, 1),
        ("2b", 4, 3, 1, 1),
        ("27b", 8, 4, 1, 1),
        ("35b-a3b", 2, 2, 4, 1),
        ("122b-a10b", 4, 4, 8, 2),
    ] {
        let entry = find(size).unwrap();
        let table = Table::new(&entry.model, entry.experts);
        let text = &entry.model.text;
        let pipeline = Pipeline {
            pp,
            ..Pipeline::default()
        };
        let stages = pipeline
            .stages(
                text.num_hidden_layers,
                text.mtp_num_hidden_layers,
                text.tie_word_embeddings,
            )
            .unwrap();
        let options = LayoutOptions {
            tp,
            ep,
            etp,
            ..LayoutOptions::default()
        };
        let layout = Layout::new(&entry.model, &options, stages).unwrap();
        uses_each_element_once(&table, &View::shards(&table, &layout), size);
    }
}

#[test]
fn the_largest_table_is_made_in_an_instant() {
    let entry = find("397b-a17b").unwrap();
    for style in [entry.experts, ExpertStyle::PER_EXPERT] {
        let start = Instant::now();
        let table = Table::new(&entry.model, style);
        let tables = start.elapsed();
        let view = View::huggingface(&table);
        let both = start.elapsed();
        assert_eq!(table.entries().len(), 63_504);
        println!(
            "{} Megatron and {} Hugging Face tensors: table {tables:?}, with view {both:?}",
            table.entries().len(),
            view.tensors.len()
        );
        // Unoptimised code on a busy machine.
        assert!(both.as_secs() < 5, "{both:?}");
    }
}
