//! How a model is spread over ranks, as far as its weights are concerned.

use super::error::kv_heads_allow;
use super::table::column;
use super::{Axis, Entry, MappingError, Piece, Place, Table, ViewTensor};
use crate::base::Shape;
use crate::plan::{Stage, lcm};
use crate::spec::ModelConfig;

/// How the inner layer of MTP is spelled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Spelling {
    /// As the module is called in memory.
    #[default]
    MtpModelLayer,
    /// As `torch_dist` and FSDP checkpoints call it.
    TransformerLayer,
}

/// What a user asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LayoutOptions {
    /// Tensor parallel.
    pub tp: usize,
    /// Expert parallel.
    pub ep: usize,
    /// Tensor parallel of the routed experts.
    pub etp: usize,
    /// Ranks in all; none is the fewest that hold the layout.
    pub world: Option<usize>,
    /// Whether rows are added to the vocabulary until `tp` divides it.
    pub pad_vocab: bool,
    /// Whether routed experts are modules of their own (`local_experts.{e}`) and not one grouped module (`weight{e}`).
    pub sequential_experts: bool,
    /// How the inner layer of MTP is spelled.
    pub spelling: Spelling,
}

impl Default for LayoutOptions {
    fn default() -> Self {
        Self {
            tp: 1,
            ep: 1,
            etp: 1,
            world: None,
            pad_vocab: false,
            sequential_experts: false,
            spelling: Spelling::default(),
        }
    }
}

/// A layout that the model can have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layout {
    /// What was asked for; `world` is set.
    pub options: LayoutOptions,
    /// Layers and more of each pipeline stage.
    pub stages: Vec<Stage>,
    /// Rows of embedding and head.
    pub vocab_rows: usize,
}

/// Where in the layout a rank is, as far as its weights are concerned; ranks that differ in data or context parallelism alone hold the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Coordinates {
    /// Rank in its tensor-parallel group.
    pub tp: usize,
    /// Pipeline stage.
    pub pp: usize,
    /// Rank in its expert-parallel group.
    pub ep: usize,
    /// Rank in its expert-tensor-parallel group.
    pub etp: usize,
}

impl std::fmt::Display for Coordinates {
    /// `tp0-pp1-ep0-etp0`, which is the name of the rank's file.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { tp, pp, ep, etp } = self;
        f.pad(&format!("tp{tp}-pp{pp}-ep{ep}-etp{etp}"))
    }
}

/// A tensor of a rank's own module.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Local {
    pub(super) name: String,
    pub(super) shape: Shape,
    pub(super) pieces: Vec<Piece>,
}

impl Layout {
    /// Checks that the model can be cut so.
    pub fn new(
        config: &ModelConfig,
        options: &LayoutOptions,
        stages: Vec<Stage>,
    ) -> Result<Self, MappingError> {
        let &LayoutOptions { tp, ep, etp, .. } = options;
        for (by, degree) in [("tp", tp), ("ep", ep), ("etp", etp), ("pp", stages.len())] {
            if degree == 0 {
                return Err(MappingError::Zero { by });
            }
        }
        for (what, size, by, degree) in divisions(config, options) {
            if !size.is_multiple_of(degree) {
                return Err(MappingError::Indivisible {
                    what,
                    size,
                    by,
                    degree,
                });
            }
        }
        let text = &config.text;
        let kv_heads = text.num_key_value_heads;
        let heads = text.num_attention_heads / kv_heads.max(1);
        if !kv_heads_allow(tp, kv_heads, heads) {
            return Err(MappingError::KvHeads {
                tp,
                kv_heads,
                heads,
            });
        }
        if text.moe.is_none() {
            for (by, degree) in [("ep", ep), ("etp", etp)] {
                if degree > 1 {
                    return Err(MappingError::NoExperts { by, degree });
                }
            }
        }
        let stage_ranks = lcm(tp, ep * etp);
        let unit = stages.len() * stage_ranks;
        let world = options.world.unwrap_or(unit);
        if world == 0 || !world.is_multiple_of(unit) {
            let formula = format!("pp {} * lcm(tp {tp}, ep {ep} * etp {etp})", stages.len());
            return Err(MappingError::World {
                world,
                unit,
                formula,
            });
        }
        let vocab_rows = if options.pad_vocab {
            padded_vocab(text.vocab_size, tp)
        } else {
            text.vocab_size
        };
        Ok(Self {
            options: LayoutOptions {
                world: Some(world),
                ..options.clone()
            },
            stages,
            vocab_rows,
        })
    }

    /// Ranks in all.
    pub fn world(&self) -> usize {
        self.options.world.unwrap_or(1)
    }

    /// The place of a global rank; pipeline stages are the slowest axis.
    pub fn coordinates_of(&self, rank: usize) -> Coordinates {
        let LayoutOptions { tp, ep, etp, .. } = self.options;
        let in_stage = (self.world() / self.stages.len()).max(1);
        let local = rank % in_stage;
        Coordinates {
            tp: local % tp,
            pp: rank / in_stage,
            ep: local / etp % ep,
            etp: local % etp,
        }
    }

    /// Every place that some rank has, in the order of ranks.
    pub fn coordinates(&self) -> Vec<Coordinates> {
        let LayoutOptions { tp, ep, etp, .. } = self.options;
        let in_stage = self.world() / self.stages.len();
        // The places repeat after as many ranks as both decompositions need.
        let distinct = lcm(tp, ep * etp).min(in_stage);
        (0..self.stages.len())
            .flat_map(|stage| (0..distinct).map(move |local| stage * in_stage + local))
            .map(|rank| self.coordinates_of(rank))
            .collect()
    }

    /// The global ranks at a place.
    pub fn ranks_at(&self, at: Coordinates) -> Vec<usize> {
        (0..self.world())
            .filter(|&rank| self.coordinates_of(rank) == at)
            .collect()
    }

    /// The names under which a stage holds an entry: none if it does not, two if it has the embedding as the embedding and as the head.
    ///
    /// The embedding is on the first stage, and again on the one of MTP; where the head is tied to it and on another stage, that one has it too,
    /// as `output_layer.weight`.
    fn names_at(&self, table: &Table, entry: &Entry, stage: usize) -> Vec<String> {
        let Some(stage) = self.stages.get(stage) else {
            return Vec::new();
        };
        let own = |is_here: bool| {
            let name = is_here.then(|| entry.name.clone());
            name.into_iter().collect()
        };
        match entry.place {
            Place::Layer(layer) => {
                let local = stage.layers().position(|l| l == layer);
                local
                    .map(|local| renumbered(table, entry, local))
                    .into_iter()
                    .collect()
            }
            Place::FinalNorm => own(stage.final_norm),
            Place::Head => own(stage.head),
            Place::Mtp(_) => own(stage.mtp > 0),
            Place::Vision => own(stage.pp == 0),
            Place::Embedding => {
                let mut list: Vec<String> = own(stage.embedding);
                if stage.tied_head {
                    list.push(format!("{}output_layer.weight", table.megatron_prefix()));
                }
                list
            }
        }
    }

    /// The stages that hold an entry, each with the entry's name there.
    pub fn places(&self, table: &Table, entry: &Entry) -> Vec<(usize, String)> {
        (0..self.stages.len())
            .flat_map(|stage| {
                let names = self.names_at(table, entry, stage);
                names.into_iter().map(move |name| (stage, name))
            })
            .collect()
    }

    /// Whether some rank of the same stage and the same experts as `at` can hold an entry: cheap, and never false where one does.
    pub(super) fn may_hold(&self, table: &Table, index: usize, at: Coordinates) -> bool {
        let entry = &table.entries()[index];
        let is_here = match (entry.place, self.stages.get(at.pp)) {
            (Place::Layer(layer), Some(stage)) => stage.chunks.iter().any(|c| c.contains(&layer)),
            (_, stage) => stage.is_some(),
        };
        is_here
            && self
                .owner(table, entry)
                .is_none_or(|(rank, _)| rank == at.ep)
    }

    /// For an expert's entry: the expert-parallel rank that has it, and its number there.
    fn owner(&self, table: &Table, entry: &Entry) -> Option<(usize, usize)> {
        let per_rank = table.config().text.moe?.num_experts / self.options.ep;
        let expert = entry.expert?;
        Some((expert / per_rank, expert % per_rank))
    }

    /// What the rank at `at` holds of an entry, as tensors of its own module; empty if nothing.
    pub fn held(&self, table: &Table, entry: usize, at: Coordinates) -> Vec<ViewTensor> {
        let local = self.local(table, entry, at).into_iter();
        local
            .map(|local| ViewTensor {
                name: local.name,
                shape: local.shape,
                rank: 0,
                pieces: local.pieces,
                replica: false,
            })
            .collect()
    }

    /// What the rank at `at` holds of an entry, under the names of its own module; empty if nothing.
    pub(super) fn local(&self, table: &Table, index: usize, at: Coordinates) -> Vec<Local> {
        let entry = &table.entries()[index];
        let options = &self.options;
        let owner = self.owner(table, entry);
        if owner.is_some_and(|(rank, _)| rank != at.ep) {
            return Vec::new();
        }
        let local_expert = owner.map(|(_, local)| local);
        let names = self.names_at(table, entry, at.pp);
        if names.is_empty() {
            return Vec::new();
        }
        let (degree, rank) = match entry.axis() {
            Axis::Tp => (options.tp, at.tp),
            Axis::Etp => (options.etp, at.etp),
        };
        let (rows, cols) = entry.matrix();
        let (ranges, columns) = match entry.place {
            Place::Embedding | Place::Head => {
                column(self.vocab_rows).part((rows, cols), degree, rank)
            }
            _ => entry.shard.part((rows, cols), degree, rank),
        };
        let mut shape = entry.shape.clone();
        let local_rows: usize = ranges.iter().map(ExactSizeIterator::len).sum();
        if local_rows != rows {
            // Only matrices whose rows are their first dim are cut by rows.
            shape.0[0] = local_rows;
        }
        if columns.len() != cols
            && let Some(last) = shape.0.last_mut()
        {
            *last = columns.len();
        }
        let mut pieces = Vec::with_capacity(ranges.len());
        let mut at_row = 0;
        for range in ranges {
            // Rows beyond the vocabulary are padding and belong to no entry.
            let held = range.start.min(rows)..range.end.min(rows);
            if !held.is_empty() {
                pieces.push(Piece {
                    entry: index as u32,
                    rows: held,
                    cols: columns.clone(),
                    at_row,
                    at_col: 0,
                    transposed: false,
                });
            }
            at_row += range.len();
        }
        names
            .into_iter()
            .map(|name| Local {
                name: self.spelled(&name, local_expert),
                shape: shape.clone(),
                pieces: pieces.clone(),
            })
            .collect()
    }

    /// A name with its expert's local number, in the spelling that was asked for.
    fn spelled(&self, name: &str, local_expert: Option<usize>) -> String {
        let mut name = spell(name, self.options.spelling);
        if let Some(expert) = local_expert {
            let stem = name.trim_end_matches(|c: char| c.is_ascii_digit());
            name = format!("{stem}{expert}");
            if self.options.sequential_experts {
                name = sequential(&name, expert);
            }
        }
        name
    }
}

/// The name with its decoder layer's local number.
fn renumbered(table: &Table, entry: &Entry, local: usize) -> String {
    let start = format!("{}decoder.layers.", table.megatron_prefix());
    let tail = entry.name[start.len()..]
        .split_once('.')
        .map_or("", |(_, tail)| tail);
    format!("{start}{local}.{tail}")
}

/// A name of MTP's inner layer in a spelling; other names stay.
pub(super) fn spell(name: &str, spelling: Spelling) -> String {
    match spelling {
        Spelling::MtpModelLayer => name.to_owned(),
        Spelling::TransformerLayer => name.replacen(".mtp_model_layer.", ".transformer_layer.", 1),
    }
}

/// `...experts.linear_fc1.weight3` as `...experts.local_experts.3.linear_fc1.weight`.
fn sequential(name: &str, expert: usize) -> String {
    let stem = name.trim_end_matches(|c: char| c.is_ascii_digit());
    match stem.rsplit_once("experts.") {
        Some((start, linear)) => format!("{start}experts.local_experts.{expert}.{linear}"),
        None => name.to_owned(),
    }
}

/// What must divide what: quantity, its size, degree, its value.
fn divisions(
    config: &ModelConfig,
    options: &LayoutOptions,
) -> Vec<(&'static str, usize, &'static str, usize)> {
    let text = &config.text;
    let tp = options.tp;
    let mut list = vec![
        ("linear_num_key_heads", text.linear_num_key_heads, "tp", tp),
        (
            "linear_num_value_heads",
            text.linear_num_value_heads,
            "tp",
            tp,
        ),
        ("num_attention_heads", text.num_attention_heads, "tp", tp),
    ];
    if !options.pad_vocab {
        list.push(("vocab_size", text.vocab_size, "tp", tp));
    }
    if text.mtp_num_hidden_layers > 0 {
        list.push(("hidden_size", text.hidden_size, "tp", tp));
    }
    match text.moe {
        None => list.push(("intermediate_size", text.intermediate_size, "tp", tp)),
        Some(moe) => list.extend([
            (
                "shared_expert_intermediate_size",
                moe.shared_expert_intermediate_size,
                "tp",
                tp,
            ),
            ("num_experts", moe.num_experts, "ep", options.ep),
            (
                "moe_intermediate_size",
                moe.moe_intermediate_size,
                "etp",
                options.etp,
            ),
        ]),
    }
    if let Some(vision) = config.vision {
        list.extend([
            ("vision num_heads", vision.num_heads, "tp", tp),
            (
                "vision intermediate_size",
                vision.intermediate_size,
                "tp",
                tp,
            ),
        ]);
    }
    list
}

/// Rows of a padded vocabulary: a multiple of `tp` times the largest power of two up to 128 that divides it.
pub(super) fn padded_vocab(vocab: usize, tp: usize) -> usize {
    let unit = 1 << vocab.trailing_zeros().min(7);
    vocab.next_multiple_of(unit * tp)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_vocabulary_is_padded_as_megatron_does() {
        let padded = [1, 2, 4, 8, 16].map(|tp| padded_vocab(248_320, tp));
        assert_eq!(padded, [248_320, 248_320, 248_320, 248_832, 249_856]);
    }

    #[test]
    fn experts_of_their_own_have_their_number_in_the_middle() {
        let name = "decoder.layers.0.mlp.experts.linear_fc1.weight12";
        let expected = "decoder.layers.0.mlp.experts.local_experts.12.linear_fc1.weight";
        assert_eq!(sequential(name, 12), expected);
    }
}
