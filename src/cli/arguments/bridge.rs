//! Arguments of the commands between Hugging Face and Megatron.

use clap::{Args, ValueEnum};

use crate::mapping;

/// How a model is spread over ranks.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Layout")]
#[expect(clippy::struct_excessive_bools, reason = "each is a switch")]
pub(in crate::cli) struct LayoutArguments {
    /// Tensor parallel
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub(in crate::cli) tp: usize,
    /// Pipeline parallel: stages
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub(in crate::cli) pp: usize,
    /// Virtual pipeline: chunks of layers on each stage
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub(in crate::cli) vpp: usize,
    /// Context parallel; its ranks hold the same weights
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub(in crate::cli) cp: usize,
    /// Expert parallel
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub(in crate::cli) ep: usize,
    /// Tensor parallel of the routed experts
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub(in crate::cli) etp: usize,
    /// Ranks in all [default: the fewest that hold the layout]
    #[arg(long, value_name = "N")]
    pub(in crate::cli) world: Option<usize>,
    /// Layers of the first stage, if not as many as the others'
    #[arg(long, value_name = "N")]
    pub(in crate::cli) first_stage_layers: Option<usize>,
    /// Layers of the last stage, if not as many as the others'
    #[arg(long, value_name = "N")]
    pub(in crate::cli) last_stage_layers: Option<usize>,
    /// Count the embedding as a layer when layers are shared out
    #[arg(long)]
    pub(in crate::cli) account_for_embedding: bool,
    /// Count the loss as a layer when layers are shared out
    #[arg(long)]
    pub(in crate::cli) account_for_loss: bool,
    /// Every chunk as Megatron spells it: `Et*3|(tt|)*29,m|L`
    #[arg(long, value_name = "S")]
    pub(in crate::cli) pipeline_layout: Option<String>,
    /// Add rows to the vocabulary until tp divides it
    #[arg(long)]
    pub(in crate::cli) pad_vocab: bool,
    /// Routed experts as modules of their own, not grouped
    #[arg(long)]
    pub(in crate::cli) sequential_experts: bool,
    /// Name of MTP's inner layer [default: that of the format]
    #[arg(long, value_enum, value_name = "NAME")]
    pub(in crate::cli) spelling: Option<Spelling>,
}

/// The two names of MTP's inner layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "snake_case")]
pub(in crate::cli) enum Spelling {
    /// As the module is called in memory
    MtpModelLayer,
    /// As checkpoints call it
    TransformerLayer,
}

impl From<Spelling> for mapping::Spelling {
    fn from(spelling: Spelling) -> Self {
        match spelling {
            Spelling::MtpModelLayer => Self::MtpModelLayer,
            Spelling::TransformerLayer => Self::TransformerLayer,
        }
    }
}

/// Show how a model's tensors go between Hugging Face and Megatron
///
/// Every tensor of both sides with the rule between them, how ranks cut it and which hold it. Where the model is a directory with weights, its
/// tensors are compared with the model's; what is missing, left over or of another shape is an error.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  trestle map 0.8b --tp 2 --pp 2
  trestle map Qwen/Qwen3.5-35B-A3B --ep 8 --tensor '*layers.3.*'
  trestle map model/ --unmapped
  trestle map 4b --text-only --tp 4 --trace 'model.layers.3.self_attn.q_proj.weight[17,5]'
  trestle map 397b-a17b --json | jq -r 'select(.rule == \"gdn fuse\").megatron'")]
pub(in crate::cli) struct MapArguments {
    /// A size (`0.8b`), a Hub id, a directory with config.json, or a config.json
    #[arg(value_name = "MODEL")]
    pub(in crate::cli) model: String,
    /// Only tensors whose name on either side matches; `*` and `?` stand for anything, a word without them may be anywhere
    #[arg(long, value_name = "PATTERN", conflicts_with = "trace")]
    pub(in crate::cli) tensor: Option<String>,
    /// Only what has no partner on the other side; exit code 4 if there is any
    #[arg(long, conflicts_with_all = ["trace", "tensor"])]
    pub(in crate::cli) unmapped: bool,
    /// Follow one element, `NAME[ROW,COLUMN]` of either side, to all its names and ranks
    #[arg(long, value_name = "ELEMENT")]
    pub(in crate::cli) trace: Option<String>,
    /// The text model alone, in the text class
    #[arg(long)]
    pub(in crate::cli) text_only: bool,
    /// Print JSON: an object a line for each tensor, problem or element
    #[arg(long)]
    pub(in crate::cli) json: bool,
    #[command(flatten)]
    pub(in crate::cli) layout: LayoutArguments,
}
