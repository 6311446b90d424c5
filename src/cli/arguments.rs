//! What may stand on the command line.

mod bench;
mod bridge;
mod convert;
mod launch;
mod plan;
mod recipes;
mod watch;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

use super::output::ColorChoice;
pub(super) use bench::{BenchArguments, BenchDevice};
pub(super) use bridge::{LayoutArguments, MapArguments};
pub(super) use convert::{
    ConvertArguments, Direction, ExportArguments, ImportArguments, MegatronArguments,
    MegatronFormat, ReshardArguments, VerifyArguments, WritingArguments,
};
pub(super) use launch::{JobArguments, LaunchArguments, Place as LaunchPlace};
pub(super) use plan::PlanArguments;
pub(super) use recipes::{ExportRecipe, ImportRecipe, RecipesAction, RecipesArguments};
pub(super) use watch::WatchArguments;

/// The terminal workbench for people who train Qwen3.5-class models.
///
/// Without a subcommand the workbench opens: pick a recipe, launch it, watch it, change it while it runs.
#[derive(Debug, Parser)]
#[command(
    name = "trestle",
    version,
    max_term_width = 100,
    after_help = "Examples:
  trestle                                open the workbench
  trestle check recipes/*.toml           find every problem of every recipe
  trestle train recipes/demo.toml        train headless, with a progress line
  trestle set RUN optimizer.lr=1e-3      change a running trainer

Exit codes: 0 success, 1 failure, 2 usage, 3 invalid recipe, 4 bad data or checkpoint, 5 device unavailable."
)]
pub(super) struct Arguments {
    #[command(flatten)]
    pub(super) global: GlobalArguments,
    #[command(flatten)]
    pub(super) workbench: WorkbenchArguments,
    #[command(subcommand)]
    pub(super) command: Option<Command>,
}

/// Options that every subcommand takes.
#[derive(Debug, Args)]
pub(super) struct GlobalArguments {
    /// When to use colours: auto, always or never
    #[arg(
        long,
        global = true,
        value_enum,
        default_value_t,
        value_name = "WHEN",
        hide_possible_values = true
    )]
    pub(super) color: ColorChoice,
    /// Folder that holds the runs [default: the recipe's logging.runs, else `runs`]
    #[arg(long, global = true, value_name = "DIR")]
    pub(super) runs: Option<PathBuf>,
}

/// Options of the workbench.
#[derive(Debug, Args)]
pub(super) struct WorkbenchArguments {
    /// Folder whose recipes the workbench lists [default: `recipes`, else the bundled ones]
    #[arg(long, value_name = "DIR")]
    pub(super) recipes: Option<PathBuf>,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(super) enum Command {
    Check(CheckArguments),
    Show(ShowArguments),
    Keys(KeysArguments),
    Recipes(RecipesArguments),
    Data(DataArguments),
    Train(TrainArguments),
    #[command(hide = true)]
    Trainer(TrainerArguments),
    Launch(LaunchArguments),
    Job(JobArguments),
    Runs(RunsArguments),
    Watch(WatchArguments),
    /// Make a running trainer wait at its next step
    Pause(RunArgument),
    /// Let a paused trainer go on
    Continue(RunArgument),
    /// Make a running trainer write a checkpoint now
    Checkpoint(RunArgument),
    Set(SetArguments),
    Stop(StopArguments),
    Mark(MarkArguments),
    Resume(ResumeArguments),
    Fork(ForkArguments),
    Plan(PlanArguments),
    Inspect(InspectArguments),
    Probe(ProbeArguments),
    Bench(BenchArguments),
    Tokenizer(TokenizerArguments),
    Map(MapArguments),
    Convert(ConvertArguments),
    Verify(VerifyArguments),
    Fetch(FetchArguments),
    Completions(CompletionsArguments),
    Man(ManArguments),
}

/// Find every problem of a recipe
///
/// Reads the recipe with everything it extends, applies `--set`, and lists all problems at once: syntax, unknown keys, types,
/// ranges, and values that disagree. Warnings alone leave the exit code at 0.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  trestle check recipes/demo.toml
  trestle check recipes/*.toml --json
  trestle check --all
  trestle check recipes/demo.toml --set train.global_batch_size=12")]
pub(super) struct CheckArguments {
    /// Recipes to check
    #[arg(required_unless_present = "all", value_name = "RECIPE")]
    pub(super) recipes: Vec<PathBuf>,
    /// Check every published recipe of recipes/megatron: which can start, on which GPU counts, and what the others need
    #[arg(long, conflicts_with_all = ["recipes", "set"])]
    pub(super) all: bool,
    #[command(flatten)]
    pub(super) sets: SetOptions,
    /// Print JSON: an array with an object for each recipe
    #[arg(long)]
    pub(super) json: bool,
}

/// Values given on the command line.
#[derive(Debug, Clone, Args)]
pub(super) struct SetOptions {
    /// Override a key of the recipe; the value is TOML, a bare word is a string
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub(super) set: Vec<String>,
}

/// Print a recipe's resolved values and where each comes from
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  trestle show recipes/demo-mtp2.toml
  trestle show recipes/demo.toml --set optimizer.lr=1e-3 --toml > resolved.toml")]
pub(super) struct ShowArguments {
    /// The recipe
    #[arg(value_name = "RECIPE")]
    pub(super) recipe: PathBuf,
    #[command(flatten)]
    pub(super) sets: SetOptions,
    /// Print JSON: key, value, origin
    #[arg(long, conflicts_with = "toml")]
    pub(super) json: bool,
    /// Print the resolved recipe as a recipe of its own
    #[arg(long)]
    pub(super) toml: bool,
}

/// List the keys that a recipe may have
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  trestle keys
  trestle keys optimizer
  trestle keys --md > recipe-keys.md
  trestle keys --ui                      the workbench's key bindings")]
pub(super) struct KeysArguments {
    /// Only keys that start with this
    #[arg(value_name = "PREFIX", conflicts_with = "ui")]
    pub(super) prefix: Option<String>,
    /// Print Markdown tables
    #[arg(long, conflicts_with = "json")]
    pub(super) md: bool,
    /// Print JSON
    #[arg(long)]
    pub(super) json: bool,
    /// List the workbench's actions and their keys instead
    #[arg(long)]
    pub(super) ui: bool,
}

/// Count the text of a recipe
///
/// Tokenises the text if that was not done before, then prints documents, tokens and bytes of both splits, the rows of an epoch,
/// the unigram entropy of the held-out text (the loss of a model that knows how often each token occurs and nothing else), and how
/// fast one thread makes batches.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  trestle data recipes/demo.toml
  trestle data recipes/demo.toml --set data.packing=concat --json")]
pub(super) struct DataArguments {
    /// The recipe
    #[arg(value_name = "RECIPE")]
    pub(super) recipe: PathBuf,
    #[command(flatten)]
    pub(super) sets: SetOptions,
    /// Print JSON
    #[arg(long)]
    pub(super) json: bool,
}

/// Train a recipe
///
/// Starts a trainer process of its own that lives on if this terminal closes, and follows it with a progress line. `Ctrl-C` asks
/// the trainer to save and stop.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  trestle train recipes/demo.toml
  trestle train recipes/demo.toml --set optimizer.lr=1e-3 --name warmer
  trestle train recipes/demo.toml --detach
  trestle train recipes/tiny-smoke.toml --json | jq 'select(.type == \"step\").loss'")]
pub(super) struct TrainArguments {
    /// The recipe
    #[arg(value_name = "RECIPE")]
    pub(super) recipe: PathBuf,
    #[command(flatten)]
    pub(super) sets: SetOptions,
    /// Name of the run [default: the recipe's name and a number]
    #[arg(long)]
    pub(super) name: Option<String>,
    /// Start the trainer and return
    #[arg(long)]
    pub(super) detach: bool,
    /// Print the run's events as JSON lines instead of a progress line
    #[arg(long)]
    pub(super) json: bool,
    /// Train so many steps (short for `--set train.steps=N`)
    #[arg(long, value_name = "N")]
    pub(super) steps: Option<u64>,
}

/// Be the trainer of a run directory (started by `train`, `resume`, `fork` and the workbench)
#[derive(Debug, Args)]
pub(super) struct TrainerArguments {
    /// The run's folder
    #[arg(value_name = "RUN_DIR")]
    pub(super) run_dir: PathBuf,
}

/// List the runs
#[derive(Debug, Args)]
pub(super) struct RunsArguments {
    /// Print JSON
    #[arg(long)]
    pub(super) json: bool,
}

/// A run.
#[derive(Debug, Args)]
pub(super) struct RunArgument {
    /// The run: its id, an unambiguous beginning of it, or its folder
    #[arg(value_name = "RUN")]
    pub(super) run: String,
}

/// Change live keys of a running trainer
///
/// `trestle keys` marks the keys that a running trainer takes. The trainer answers with the step at which the change counts, or
/// with the reason why it refuses.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  trestle set demo-1 optimizer.lr=1e-3
  trestle set demo-1 mtp.loss_scale=0.3 train.eval_interval=50")]
pub(super) struct SetArguments {
    /// The run: its id, an unambiguous beginning of it, or its folder
    #[arg(value_name = "RUN")]
    pub(super) run: String,
    /// New values
    #[arg(required = true, value_name = "KEY=VALUE")]
    pub(super) assignments: Vec<String>,
}

/// End a running trainer
#[derive(Debug, Args)]
pub(super) struct StopArguments {
    /// The run: its id, an unambiguous beginning of it, or its folder
    #[arg(value_name = "RUN")]
    pub(super) run: String,
    /// How it shall end
    #[arg(long, value_enum, default_value_t)]
    pub(super) how: StopHow,
}

/// How a run shall end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub(super) enum StopHow {
    /// After the step, with a checkpoint
    #[default]
    Save,
    /// After the step, without a checkpoint
    Step,
    /// At once; what came after the last checkpoint is lost
    Now,
}

/// Write a note into a run's events
#[derive(Debug, Args)]
pub(super) struct MarkArguments {
    /// The run: its id, an unambiguous beginning of it, or its folder
    #[arg(value_name = "RUN")]
    pub(super) run: String,
    /// The note
    #[arg(value_name = "NOTE")]
    pub(super) note: String,
}

/// Go on with a run that ended
///
/// Continues from the last checkpoint with the very next sample.
#[derive(Debug, Args)]
pub(super) struct ResumeArguments {
    /// The run: its id, an unambiguous beginning of it, or its folder
    #[arg(value_name = "RUN")]
    pub(super) run: String,
    /// Start the trainer and return
    #[arg(long)]
    pub(super) detach: bool,
    /// Print the run's events as JSON lines instead of a progress line
    #[arg(long)]
    pub(super) json: bool,
}

/// Start a new run from a checkpoint of another, with changes
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  trestle fork demo-1 --step 200 --set optimizer.lr=5e-4
  trestle fork demo-1 --name longer --set train.steps=2000")]
pub(super) struct ForkArguments {
    /// The run: its id, an unambiguous beginning of it, or its folder
    #[arg(value_name = "RUN")]
    pub(super) run: String,
    /// Checkpoint to start from, by its step [default: the newest]
    #[arg(long, value_name = "N")]
    pub(super) step: Option<u64>,
    #[command(flatten)]
    pub(super) sets: SetOptions,
    /// Name of the new run
    #[arg(long)]
    pub(super) name: Option<String>,
    /// Start the trainer and return
    #[arg(long)]
    pub(super) detach: bool,
    /// Print the run's events as JSON lines instead of a progress line
    #[arg(long)]
    pub(super) json: bool,
}

/// List the tensors of a directory or file of weights
///
/// Takes a Hugging Face directory, a safetensors file, a Megatron checkpoint, a directory with one file a rank, a checkpoint
/// of a run, a run (its newest checkpoint), or the Hub id of a model in the local cache. Nothing but headers is read unless statistics
/// or hashes are asked for; those are of every element, and NaN is counted, not an error.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  trestle inspect model/
  trestle inspect model/ --tensor '*.layers.0.*' --stats
  trestle inspect model/model.safetensors --tensor '*norm*' --histogram
  trestle inspect megatron/ --hash --json > tensors.json")]
#[expect(
    clippy::struct_excessive_bools,
    reason = "they are switches of the command line, each by itself"
)]
pub(super) struct InspectArguments {
    /// Weights
    #[arg(value_name = "PATH")]
    pub(super) path: PathBuf,
    /// Only tensors whose whole name fits; * stands for any text, ? for a character
    #[arg(long, value_name = "PATTERN")]
    pub(super) tensor: Option<String>,
    /// Read the tensors: min, max, mean, standard deviation, zeros, NaN, infinities
    #[arg(long)]
    pub(super) stats: bool,
    /// Read the tensors, and draw a histogram of 64 bins from min to max
    #[arg(long)]
    pub(super) histogram: bool,
    /// Read the tensors, and print the BLAKE3 of their bytes, the same in every format
    #[arg(long)]
    pub(super) hash: bool,
    /// Print JSON
    #[arg(long)]
    pub(super) json: bool,
}

impl InspectArguments {
    /// Whether statistics are asked for, with a histogram or without.
    pub(super) fn shows_statistics(&self) -> bool {
        self.stats || self.histogram
    }
}

/// Run one batch through a Hugging Face model directory and write what comes out
///
/// The batch holds `input_ids`, `labels`, `loss_mask`, `cu_seqlens` and `position_ids`. The output holds `logits.0` (main) and
/// `logits.K` (MTP depth K), `loss.K`, `accept.K` as `[correct, total]`, and on demand `grad.NAME` of the total objective under
/// Hugging Face names, so that any other stack can be compared.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  trestle probe model/ --batch batch.safetensors --out probe.safetensors
  trestle probe model/ --batch batch.safetensors --out probe.safetensors --grads --mtp-loss-scale 0.1")]
pub(super) struct ProbeArguments {
    /// Directory with config.json and safetensors (one file, or sharded with an index)
    #[arg(value_name = "MODEL_DIR")]
    pub(super) model_dir: PathBuf,
    /// The batch
    #[arg(long, value_name = "FILE")]
    pub(super) batch: PathBuf,
    /// Where results go
    #[arg(long, value_name = "FILE")]
    pub(super) out: PathBuf,
    /// Also write every parameter's gradient
    #[arg(long)]
    pub(super) grads: bool,
    /// Lambda of the MTP losses in the objective
    #[arg(long, value_name = "L", default_value_t = 0.1)]
    pub(super) mtp_loss_scale: f64,
    /// Where to compute
    #[arg(long, value_enum, default_value_t)]
    pub(super) device: ProbeDevice,
}

/// Where a probe computes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub(super) enum ProbeDevice {
    /// The processor
    #[default]
    Cpu,
    /// The first NVIDIA GPU
    Cuda,
}

/// Train a tokenizer, or look at what one does
#[derive(Debug, Args)]
pub(super) struct TokenizerArguments {
    #[command(subcommand)]
    pub(super) command: TokenizerCommand,
}

/// What to do with a tokenizer.
#[derive(Debug, Subcommand)]
pub(super) enum TokenizerCommand {
    Train(TokenizerTrainArguments),
    Encode(TokenizerEncodeArguments),
}

/// Train a byte-level BPE tokenizer.json on text files
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  trestle tokenizer train corpus/*.txt --vocab-size 4096 --out tokenizer.json")]
pub(super) struct TokenizerTrainArguments {
    /// Text files
    #[arg(required = true, value_name = "FILE")]
    pub(super) files: Vec<PathBuf>,
    /// Entries of the vocabulary, special tokens included
    #[arg(long, value_name = "N", default_value_t = 4096)]
    pub(super) vocab_size: usize,
    /// Where the tokenizer goes
    #[arg(long, value_name = "FILE")]
    pub(super) out: PathBuf,
}

/// Print the token ids and pieces of a text
#[derive(Debug, Args)]
pub(super) struct TokenizerEncodeArguments {
    /// Text to encode [default: standard input]
    #[arg(value_name = "TEXT")]
    pub(super) text: Option<String>,
    /// A tokenizer.json [default: the bundled one]
    #[arg(long, value_name = "FILE")]
    pub(super) tokenizer: Option<PathBuf>,
    /// Print JSON: an array of ids
    #[arg(long)]
    pub(super) json: bool,
}

/// Print completions for a shell
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  trestle completions bash > ~/.local/share/bash-completion/completions/trestle
  trestle completions zsh > ~/.zfunc/_trestle
  trestle completions fish > ~/.config/fish/completions/trestle.fish")]
pub(super) struct CompletionsArguments {
    /// The shell
    #[arg(value_enum, value_name = "SHELL")]
    pub(super) shell: clap_complete::Shell,
}

/// Print the manual page
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  trestle man | man -l -
  trestle man --dir ~/.local/share/man/man1")]
pub(super) struct ManArguments {
    /// Write this page and one for each subcommand into a folder instead
    #[arg(long, value_name = "DIR")]
    pub(super) dir: Option<PathBuf>,
}

/// Download a model from the Hugging Face Hub
///
/// Files go into the cache that transformers reads, where every command finds them by the same id. A download that was stopped, killed or cut
/// off goes on where it was; each file is checked against the sum that the Hub states. The last line is the folder.
///
/// Reads `HF_HOME`, `HF_HUB_CACHE`, `HF_TOKEN`, `HF_ENDPOINT`, `HF_HUB_OFFLINE` and `HTTPS_PROXY`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  trestle fetch Qwen/Qwen3.5-0.8B
  trestle fetch 0.8b --dry-run
  trestle fetch Qwen/Qwen3.5-4B --include '*.json'
  trestle fetch Qwen/Qwen3.5-9B --revision refs/pr/1 --json")]
pub(super) struct FetchArguments {
    /// Its id on the Hub, or a size: Qwen/Qwen3.5-0.8B, owner/name@revision, 0.8b
    #[arg(value_name = "ID")]
    pub(super) id: String,
    /// Branch, tag, or commit [default: main]
    #[arg(long, value_name = "R")]
    pub(super) revision: Option<String>,
    /// Only files that match; may be repeated [default: safetensors, JSON, tokenizer, text]
    #[arg(long, value_name = "GLOB")]
    pub(super) include: Vec<String>,
    /// No files that match; may be repeated
    #[arg(long, value_name = "GLOB")]
    pub(super) exclude: Vec<String>,
    /// Print JSON: the folder, the commit, and the files
    #[arg(long)]
    pub(super) json: bool,
    /// Only list what would be downloaded
    #[arg(long)]
    pub(super) dry_run: bool,
}
