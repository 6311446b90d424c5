//! The table of keys.

use super::megatron::MEGATRON;
use super::{Fallback, Key, Kind, UNBOUNDED};

const FROM_SIZE: Fallback = Fallback::Derived("from model.size or model.hf");

const fn key(path: &'static str, kind: Kind, default: Fallback, doc: &'static str) -> Key {
    Key {
        path,
        kind,
        default,
        unit: "",
        live: false,
        doc,
    }
}

const fn count(
    path: &'static str,
    min: i64,
    default: &'static str,
    unit: &'static str,
    doc: &'static str,
) -> Key {
    // Counts become sizes of buffers; none is near this bound, and sums and products of a few stay inside 64 bits.
    let kind = Kind::Integer {
        min,
        max: UNBOUNDED,
    };
    let mut key = key(path, kind, Fallback::Literal(default), doc);
    key.unit = unit;
    key
}

const fn geometry(path: &'static str, unit: &'static str, doc: &'static str) -> Key {
    let mut key = key(
        path,
        Kind::Integer {
            min: 1,
            max: 10_000_000,
        },
        FROM_SIZE,
        doc,
    );
    key.unit = unit;
    key
}

const fn number(
    path: &'static str,
    (min, max): (f64, f64),
    default: &'static str,
    doc: &'static str,
) -> Key {
    key(
        path,
        Kind::Float {
            min,
            max,
            open: false,
        },
        Fallback::Literal(default),
        doc,
    )
}

const fn positive(path: &'static str, default: Fallback, doc: &'static str) -> Key {
    key(
        path,
        Kind::Float {
            min: 0.0,
            max: f64::MAX,
            open: true,
        },
        default,
        doc,
    )
}

const fn flag(path: &'static str, default: &'static str, doc: &'static str) -> Key {
    key(path, Kind::Boolean, Fallback::Literal(default), doc)
}

const fn live(mut key: Key) -> Key {
    key.live = true;
    key
}

const fn derived(mut key: Key, words: &'static str) -> Key {
    key.default = Fallback::Derived(words);
    key
}

const ANY: f64 = f64::MAX;

/// Every key of recipes, in the order of sections that documents have.
pub static KEYS: &[Key] = &joined::<{ OURS.len() + MEGATRON.len() }>(OURS, MEGATRON);

const fn joined<const N: usize>(first: &[Key], second: &[Key]) -> [Key; N] {
    let mut keys = [first[0]; N];
    let mut at = 0;
    while at < N {
        keys[at] = if at < first.len() {
            first[at]
        } else {
            second[at - first.len()]
        };
        at += 1;
    }
    keys
}

/// The keys that our own trainer knows; recipes for Megatron-Bridge use some of them too.
#[rustfmt::skip]
const OURS: &[Key] = &[
    key("extends", Kind::Recipes, Fallback::Absent, "Recipes that this one changes; of a list, later ones win"),
    // model
    key("model.size", Kind::Text, Fallback::Absent, "A published size by name, such as qwen3_5-0_8b"),
    key("model.hf", Kind::Path, Fallback::Absent, "A Hugging Face directory whose config.json gives the geometry"),
    key("model.name", Kind::Text, Fallback::Derived("the size, the directory's name, or custom"), "What the model is called"),
    key("model.init", Kind::Path, Fallback::Derived("model.hf, else random"), "Where weights start: `random`, a Hugging Face directory, or a Megatron checkpoint"),
    geometry("model.vocab_size", "rows", "Rows of the embedding"),
    geometry("model.hidden_size", "", "Width of the residual stream"),
    geometry("model.intermediate_size", "", "Width of the MLP"),
    geometry("model.num_hidden_layers", "layers", "Decoder layers, MTP not counted"),
    geometry("model.num_attention_heads", "heads", "Query heads of full attention"),
    geometry("model.num_key_value_heads", "heads", "Key-value heads of full attention"),
    geometry("model.head_dim", "", "Width of an attention head"),
    geometry("model.linear_num_key_heads", "heads", "Key heads of the gated delta net"),
    geometry("model.linear_num_value_heads", "heads", "Value heads of the gated delta net"),
    geometry("model.linear_key_head_dim", "", "Width of a key head of the gated delta net"),
    geometry("model.linear_value_head_dim", "", "Width of a value head of the gated delta net"),
    geometry("model.linear_conv_kernel_dim", "taps", "Taps of the causal convolution"),
    geometry("model.full_attention_interval", "layers", "Every so many layers one is full attention"),
    key("model.layer_types", Kind::Choices(&["linear_attention", "full_attention"]), Fallback::Derived("from full_attention_interval"), "What mixes tokens in each layer"),
    positive("model.rope_theta", FROM_SIZE, "Base of the rotary embedding"),
    key("model.partial_rotary_factor", Kind::Float { min: 0.0, max: 1.0, open: true }, FROM_SIZE, "Share of a head that is rotated"),
    key("model.mrope_section", Kind::Counts(3), Fallback::Derived("half the rotary width, spread evenly"), "Rotary frequencies of time, height and width"),
    positive("model.rms_norm_eps", FROM_SIZE, "Epsilon of every RMSNorm"),
    key("model.tie_word_embeddings", Kind::Boolean, FROM_SIZE, "Whether the head is the embedding"),
    positive("model.initializer_range", FROM_SIZE, "Standard deviation of random initialisation"),
    geometry("model.max_position_embeddings", "tokens", "Longest position"),
    key("model.mtp_num_hidden_layers", Kind::Integer { min: 0, max: 16 }, FROM_SIZE, "MTP depths; 0 is no MTP"),
    key("model.dtype", Kind::Choice(&["float32", "bfloat16", "float16"]), FROM_SIZE, "Type that config.json names for stored weights"),
    key("model.config_json", Kind::Text, Fallback::Absent, "config.json as it was read, written by the program so that unknown keys survive"),
    // parallel
    count("parallel.tp", 1, "1", "ranks", "Tensor parallel"),
    count("parallel.pp", 1, "1", "ranks", "Pipeline parallel"),
    count("parallel.vpp", 1, "1", "stages", "Virtual pipeline stages of a rank; above 1 is the interleaved schedule"),
    count("parallel.cp", 1, "1", "ranks", "Context parallel"),
    count("parallel.ep", 1, "1", "ranks", "Expert parallel"),
    count("parallel.etp", 1, "1", "ranks", "Tensor parallel of the experts"),
    count("parallel.dp", 1, "1", "ranks", "Data parallel"),
    flag("parallel.sequence_parallel", "false", "Cut norms and residuals along the sequence over tp"),
    // train
    key("train.device", Kind::Choice(&["auto", "cpu", "cuda"]), Fallback::Literal("\"auto\""), "Where to compute; auto is CUDA if build and machine have it"),
    key("train.precision", Kind::Choice(&["auto", "bf16", "f32"]), Fallback::Literal("\"auto\""), "Type of activations and of the weights that layers read; auto is bf16 on CUDA and f32 on the CPU"),
    flag("train.check_memory", "true", "Refuse at the start what the memory plan says cannot fit on the GPU"),
    flag("train.cuda_graph", "true", "Launch a micro-batch on the GPU as one recorded graph when its shape came before"),
    key("train.threads", Kind::Integer { min: 0, max: 4096 }, Fallback::Literal("0"), "CPU threads; 0 is all cores"),
    live(count("train.steps", 1, "1000", "steps", "Optimizer steps")),
    count("train.seq_length", 2, "1024", "tokens", "Tokens of a row"),
    count("train.micro_batch_size", 1, "1", "rows", "Rows of a micro-batch"),
    count("train.global_batch_size", 1, "8", "rows", "Rows of a step over all data-parallel ranks; a multiple of micro_batch_size * dp"),
    key("train.seed", Kind::Integer { min: 0, max: i64::MAX }, Fallback::Literal("1234"), "Seed of weights and data order"),
    flag("train.per_token_loss", "false", "Normalise the loss by the tokens of the whole step instead of by micro-batch"),
    live(count("train.eval_interval", 0, "100", "steps", "Evaluate every so many steps; 0 is never")),
    live(count("train.eval_batches", 1, "16", "micro-batches", "Micro-batches of an evaluation")),
    count("train.max_non_finite", 1, "10", "steps", "Stop after so many steps in a row with a non-finite loss or gradient"),
    count("train.loss_chunk", 1, "1024", "tokens", "Tokens of a cross-entropy chunk"),
    // optimizer
    live(positive("optimizer.lr", Fallback::Literal("3e-4"), "Peak learning rate")),
    key("optimizer.beta1", Kind::Float { min: 0.0, max: 0.999_999, open: false }, Fallback::Literal("0.9"), "Decay of the first moment"),
    key("optimizer.beta2", Kind::Float { min: 0.0, max: 0.999_999_9, open: false }, Fallback::Literal("0.95"), "Decay of the second moment"),
    positive("optimizer.eps", Fallback::Literal("1e-8"), "Added to the root of the second moment"),
    number("optimizer.weight_decay", (0.0, 1.0), "0.033", "Decoupled decay of tensors with two dimensions and more; 1-D tensors have none"),
    live(number("optimizer.clip_grad", (0.0, ANY), "1.0", "Largest gradient norm; 0 is no clipping")),
    // schedule
    key("schedule.kind", Kind::Choice(&["constant", "linear", "cosine", "wsd"]), Fallback::Literal("\"cosine\""), "Curve of the learning rate after warm-up"),
    derived(count("schedule.warmup_steps", 0, "0", "steps", "Steps of linear warm-up from 0"), "a twentieth of train.steps, at most 500"),
    derived(count("schedule.decay_steps", 1, "1", "steps", "Step at which the curve has reached min_lr"), "train.steps"),
    derived(count("schedule.wsd_decay_steps", 0, "0", "steps", "Steps of the final fall of wsd"), "a tenth of schedule.decay_steps"),
    live(derived(number("schedule.min_lr", (0.0, ANY), "0.0", "Learning rate at the end of the curve"), "a tenth of optimizer.lr")),
    // data
    key("data.sources", Kind::Sources, Fallback::Literal("[\"bundled\"]"), "Where text comes from: `bundled`, globs of text or .jsonl files, { text = GLOB }, { jsonl = GLOB, field = NAME }"),
    key("data.tokenizer", Kind::Path, Fallback::Absent, "A tokenizer.json; without it the bundled one"),
    key("data.validation_fraction", Kind::Float { min: 0.0, max: 0.5, open: false }, Fallback::Literal("0.05"), "Share of documents held out, by hash"),
    key("data.packing", Kind::Choice(&["packed", "concat"]), Fallback::Literal("\"packed\""), "Documents side by side and kept apart, or one stream cut into rows"),
    flag("data.shuffle", "true", "Shuffle documents each epoch, by train.seed"),
    key("data.prefetch", Kind::Integer { min: 0, max: 1024 }, Fallback::Literal("4"), "Micro-batches made ahead"),
    key("data.cache", Kind::Path, Fallback::Absent, "Where token caches lie; without it the user's cache folder"),
    // mtp
    live(number("mtp.loss_scale", (0.0, 100.0), "0.1", "Lambda of the MTP losses; counts only if the model has MTP")),
    // recompute
    key("recompute.mode", Kind::Choice(&["none", "selective", "full"]), Fallback::Literal("\"none\""), "What the backward computes again: nothing, parts of a layer, whole layers"),
    key("recompute.modules", Kind::Choices(&["core_attn", "gated_delta", "mlp_act", "norm"]), Fallback::Derived("[\"core_attn\"] if selective"), "Parts that selective recompute covers"),
    // checkpoint
    live(count("checkpoint.interval", 0, "500", "steps", "Save every so many steps; 0 is only at the end")),
    live(count("checkpoint.keep", 0, "3", "checkpoints", "Newest checkpoints to keep; 0 keeps all")),
    flag("checkpoint.at_end", "true", "Save when training completes"),
    // logging
    live(count("logging.interval", 1, "1", "steps", "A step event every so many steps")),
    flag("logging.tensorboard", "true", "Also write TensorBoard files"),
    key("logging.runs", Kind::WorkingPath, Fallback::Literal("\"runs\""), "Folder of the runs, relative to where the program runs"),
    // alerts
    live(number("alerts.loss_spike", (0.0, ANY), "6.0", "Warn when the loss is above its running mean by so many standard deviations; 0 is off")),
    live(key("alerts.throughput_drop", Kind::Float { min: 0.0, max: 1.0, open: false }, Fallback::Literal("0.5"), "Warn when throughput falls below this share of its running mean; 0 is off")),
];
