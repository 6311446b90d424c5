//! The training iteration line of Megatron-Bridge and Megatron-LM.
//!
//! The header is `[time] iteration N/ TOTAL |`; after it come `key: value |` pieces, of which some depend on the trainer's options. A line that
//! lacks one of the pieces that every trainer writes was torn or mixed with another rank's output, and is none.

use memchr::{memchr, memmem, memrchr};

use super::number;

/// What stands between time and numbers in the header.
const ANCHOR: &[u8] = b"] iteration ";

/// Numbers of one logged iteration, averages over the interval since the one before.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Iteration {
    /// Milliseconds since the Unix epoch if the trainer's clock shows UTC.
    pub time_ms: i64,
    /// Whether the time has a fraction, which Megatron-LM writes and Megatron-Bridge does not.
    pub has_fraction: bool,
    /// Iterations done, this one included.
    pub step: u64,
    /// Iterations the run shall make; 0 when not said.
    pub total: u64,
    /// Samples since the beginning, over restarts.
    pub samples: u64,
    /// Samples that were skipped.
    pub skipped_samples: u64,
    /// Milliseconds of an iteration.
    pub elapsed_ms: f64,
    /// Model TFLOP/s per GPU.
    pub tflops: Option<f64>,
    /// Joule per iteration and GPU.
    pub energy: Option<f64>,
    /// Watt per GPU.
    pub power: Option<f64>,
    /// Learning rate of the next update.
    pub lr: Option<f64>,
    /// Samples of an iteration; 0 when not said.
    pub global_batch: u64,
    /// `lm loss`; left out by the trainer when it is negative or not a number.
    pub loss: Option<f64>,
    /// Each MTP depth from 1; `None` where a depth was left out.
    pub mtp: Vec<Option<f64>>,
    /// Acceptance of each MTP depth from 1 in percent; only event files have it.
    pub acceptance: Vec<Option<f64>>,
    /// All other pieces: the router's losses, metrics of tasks.
    pub others: Vec<(String, f64)>,
    /// Loss scale; 1 for bf16.
    pub loss_scale: Option<f64>,
    /// Gradient norm of the last step, before clipping.
    pub grad_norm: Option<f64>,
    /// Gradients that are zero.
    pub num_zeros: Option<f64>,
    /// Norm of the parameters.
    pub params_norm: Option<f64>,
    /// Largest attention logit.
    pub max_attention_logit: Option<f64>,
    /// Iterations of the interval that were skipped.
    pub skipped: u64,
    /// Iterations of the interval with a loss that is not a number.
    pub nan: u64,
}

/// Hands every complete iteration of a line to `take` and says whether there was the beginning of one.
pub(super) fn find(line: &[u8], mut take: impl FnMut(Iteration)) -> bool {
    let mut rest = line;
    let mut found = false;
    while let Some(anchor) = memmem::find(rest, ANCHOR) {
        found = true;
        let after = &rest[anchor + ANCHOR.len()..];
        // Where ranks write at once, a second header may begin in the middle.
        let end = memmem::find(after, ANCHOR).map_or(after.len(), |next| {
            memrchr(b'[', &after[..next]).unwrap_or(next)
        });
        let before = &rest[..anchor];
        if let Some(open) = memrchr(b'[', &before[anchor.saturating_sub(40)..])
            && let Some((time_ms, has_fraction)) =
                number::time(&before[anchor.saturating_sub(40) + open + 1..])
            && let Some(mut iteration) = pieces(&after[..end])
        {
            (iteration.time_ms, iteration.has_fraction) = (time_ms, has_fraction);
            take(iteration);
        }
        rest = &after[end..];
        if !rest.starts_with(b"[") {
            break;
        }
    }
    found
}

/// What follows the anchor.
fn pieces(text: &[u8]) -> Option<Iteration> {
    let (header, mut rest) = text.split_at(memchr(b'|', text)?);
    let slash = memchr(b'/', header)?;
    let mut it = Iteration {
        step: number::integer(header[..slash].trim_ascii())?,
        total: number::integer(header[slash + 1..].trim_ascii())?,
        ..Iteration::default()
    };
    let (mut has_samples, mut has_elapsed, mut has_skipped) = (false, false, false);
    loop {
        rest = &rest[1..];
        let end = memchr(b'|', rest)?;
        let piece = rest[..end].trim_ascii();
        rest = &rest[end..];
        // Keys may hold anything, values no colon.
        let colon = memrchr(b':', piece)?;
        let (key, value) = (&piece[..colon], piece[colon + 1..].trim_ascii_start());
        let count = || number::integer(value);
        let real = || number::decimal(value);
        match key {
            b"consumed samples" => (it.samples, has_samples) = (count()?, true),
            b"skipped samples" => it.skipped_samples = count()?,
            b"elapsed time per iteration (ms)" => (it.elapsed_ms, has_elapsed) = (real()?, true),
            b"throughput per GPU (TFLOP/s/GPU)" => it.tflops = Some(real()?),
            b"energy per GPU (J/iter/GPU)" => it.energy = Some(real()?),
            b"power per GPU (W/GPU)" => it.power = Some(real()?),
            b"learning rate" => it.lr = Some(real()?),
            b"global batch size" => it.global_batch = count()?,
            b"lm loss" => it.loss = Some(real()?),
            b"loss scale" => it.loss_scale = Some(real()?),
            b"grad norm" => it.grad_norm = Some(real()?),
            b"num zeros" => it.num_zeros = Some(real()?),
            b"params norm" => it.params_norm = Some(real()?),
            b"max attention logit" => it.max_attention_logit = Some(real()?),
            b"number of skipped iterations" => (it.skipped, has_skipped) = (count()?, true),
            b"number of nan iterations" => {
                it.nan = count()?;
                break;
            }
            other => match depth(other) {
                Some(depth) => set_depth(&mut it.mtp, depth, real()?),
                None => it
                    .others
                    .push((String::from_utf8(other.to_vec()).ok()?, real()?)),
            },
        }
    }
    (has_samples && has_elapsed && has_skipped).then_some(it)
}

/// The depth of `mtp_K loss`.
pub(super) fn depth(key: &[u8]) -> Option<usize> {
    let digits = key.strip_prefix(b"mtp_")?.strip_suffix(b" loss")?;
    // More depths than any model has would only take memory.
    number::integer(digits)
        .map(|d| d as usize)
        .filter(|d| (1..=64).contains(d))
}

/// Notes the loss of a depth from 1.
pub(super) fn set_depth(mtp: &mut Vec<Option<f64>>, depth: usize, loss: f64) {
    if mtp.len() < depth {
        mtp.resize(depth, None);
    }
    mtp[depth - 1] = Some(loss);
}
