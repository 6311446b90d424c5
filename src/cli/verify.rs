//! `trestle verify`: whether two checkpoints hold the same model.

use std::fmt::Write as _;

use serde_json::{Value, json};

use super::arguments::VerifyArguments;
use super::byte_progress::ByteProgress;
use super::convert::{Reference, failure};
use super::fetch::cancel_on_signal;
use super::output::Tone;
use super::{Context, Exit, Failure, Outcome, layout, model};
use crate::base::Bytes;
use crate::checkpoint::compare::{Compared, Verdict, Watch, compare, round_trip};
use crate::checkpoint::{CheckpointError, Format, Weights};
use crate::mapping::View;
use crate::spec::ModelConfig;

pub(super) fn run(arguments: &VerifyArguments, context: &Context) -> Outcome {
    let cancel = cancel_on_signal()?;
    let line = ByteProgress::new("verify");
    let watch = Watch {
        progress: &|progress| line.show(progress),
        cancel: &cancel,
    };
    let compared = match &arguments.second {
        Some(second) => two(arguments, second, &watch),
        None => round(arguments, &watch).map(|compared| (compared, Vec::new())),
    };
    line.close();
    let (compared, guessed) = compared?;
    let same = compared.iter().all(Compared::is_same);
    if arguments.json {
        let tensors: Vec<Value> = compared.iter().map(object).collect();
        context.out.json(
            &json!({ "same": same, "guessed_stages": !guessed.is_empty(), "tensors": tensors }),
        )?;
    } else {
        context.out.write(text(&compared, arguments.all, context))?;
        for sentence in guessed {
            let word = context.out.paint(Tone::Warning, "warning");
            context.out.line(format!("{word}: {sentence}"))?;
        }
    }
    if same {
        Ok(())
    } else {
        Err(Failure::said(Exit::Failure))
    }
}

fn open(name: &str) -> Result<Weights, Failure> {
    Weights::open(&model::directory(name)?).map_err(failure)
}

/// Compares two checkpoints; and what of them was taken for granted.
fn two(
    arguments: &VerifyArguments,
    second: &str,
    watch: &Watch,
) -> Result<(Vec<Compared>, Vec<String>), Failure> {
    let (first, second) = (open(&arguments.first)?, open(second)?);
    let config = config(arguments, &[&first, &second])?;
    let bind = |weights: &Weights| {
        let style = weights.expert_style()?;
        weights.bind(&config, style)
    };
    let a = bind(&first).map_err(failure)?;
    let b = bind(&second).map_err(failure)?;
    let compared = compare((&a, &first.files), (&b, &second.files), watch).map_err(failure)?;
    let guessed = [&first, &second]
        .into_iter()
        .filter(|weights| weights.has_guessed_stages())
        .map(|weights| super::convert::guessed(&weights.path))
        .collect();
    Ok((compared, guessed))
}

fn round(arguments: &VerifyArguments, watch: &Watch) -> Result<Vec<Compared>, Failure> {
    let weights = open(&arguments.first)?;
    if weights.format != Format::HuggingFace {
        return Err(Exit::Usage
            .because(format!(
                "{} is a {} checkpoint; a round trip begins at a Hugging Face directory",
                weights.path.display(),
                weights.format.name()
            ))
            .hint("compare two checkpoints with: trestle verify A B"));
    }
    let config = config(arguments, &[&weights])?;
    let layout = layout::layout(&arguments.layout, &config)?;
    let style = weights.expert_style().map_err(failure)?;
    let bound = weights.bind(&config, style).map_err(failure)?;
    let view = View::shards(&bound.table, &layout);
    round_trip(&bound, &weights.files, &view, arguments.dtype, watch).map_err(failure)
}

/// The model: as an option says, else as the first of the checkpoints that knows.
fn config(arguments: &VerifyArguments, weights: &[&Weights]) -> Result<ModelConfig, Failure> {
    if let Some(name) = &arguments.hf {
        return Ok(Reference::open(name)?.config);
    }
    if let Some(config) = weights.iter().find_map(|weights| weights.config.clone()) {
        return Ok(config);
    }
    let mut last = None;
    for weights in weights {
        match weights.model() {
            Ok(config) => return Ok(config),
            Err(error) => last = Some(error),
        }
    }
    let none = || CheckpointError::NoConfig {
        path: arguments.first.clone().into(),
    };
    Err(failure(last.unwrap_or_else(none)))
}

fn object(tensor: &Compared) -> Value {
    let mut value = json!({
        "name": tensor.name,
        "megatron": tensor.megatron,
        "dtypes": [tensor.dtypes.0.name(), tensor.dtypes.1.name()],
        "elements": tensor.elements,
        "not_finite": tensor.not_finite,
        "blake3": [tensor.first, tensor.second],
    });
    match &tensor.verdict {
        Verdict::Exact => value["verdict"] = "exact".into(),
        Verdict::Rounded { differ, ulp } => {
            value["verdict"] = "rounded".into();
            value["differ"] = json!(differ);
            value["ulp"] = json!(ulp);
        }
        Verdict::Differs {
            differ,
            first,
            values,
            largest,
        } => {
            value["verdict"] = "differs".into();
            value["differ"] = json!(differ);
            value["first"] = json!([first.0, first.1]);
            // JSON has no NaN.
            value["values"] = json!([values.0.to_string(), values.1.to_string()]);
            value["largest"] = json!(largest.to_string());
        }
    }
    value
}

/// Most tensors that are listed unasked.
const LISTED: usize = 20;

fn text(compared: &[Compared], all: bool, context: &Context) -> String {
    let mut text = String::new();
    let mut hidden = 0;
    for (listed, tensor) in compared
        .iter()
        .filter(|tensor| all || tensor.verdict != Verdict::Exact)
        .enumerate()
    {
        if listed >= LISTED && !all {
            hidden += 1;
            continue;
        }
        let (tone, verdict) = match &tensor.verdict {
            Verdict::Exact => (Tone::Good, "exact".to_owned()),
            Verdict::Rounded { differ, ulp } => (
                Tone::Good,
                format!(
                    "rounded: {differ} of {} by at most {ulp:.2} ulp",
                    tensor.elements
                ),
            ),
            Verdict::Differs {
                differ,
                first,
                values,
                largest,
            } => (
                Tone::Error,
                format!(
                    "differs: {differ} of {}, first at [{}, {}] ({} and {}), largest difference {largest:.3e}",
                    tensor.elements, first.0, first.1, values.0, values.1
                ),
            ),
        };
        let types = match tensor.dtypes {
            (a, b) if a == b => String::new(),
            (a, b) => format!("  ({a} and {b})"),
        };
        let hashes = if all || !tensor.is_same() {
            format!("  {} {}", &tensor.first[..12], &tensor.second[..12])
        } else {
            String::new()
        };
        let verdict = context.out.paint(tone, verdict);
        let _ = writeln!(text, "{}  {verdict}{types}{hashes}", tensor.name);
    }
    if hidden > 0 {
        let _ = writeln!(text, "and {hidden} more; --all lists every tensor");
    }
    let count = |of: fn(&Verdict) -> bool| compared.iter().filter(|t| of(&t.verdict)).count();
    let exact = count(|v| *v == Verdict::Exact);
    let rounded = count(|v| matches!(v, Verdict::Rounded { .. }));
    let differ = count(|v| matches!(v, Verdict::Differs { .. }));
    let bytes: u64 = compared
        .iter()
        .map(|tensor| tensor.elements * tensor.dtypes.1.size())
        .sum();
    let casts = compared.iter().filter(|t| t.dtypes.0 != t.dtypes.1).count();
    let mut parts = vec![format!("{exact} tensors bit-exact")];
    if rounded > 0 {
        parts.push(format!("{rounded} within the rounding of the norm shift"));
    }
    if differ > 0 {
        parts.push(format!("{differ} differ"));
    }
    if casts > 0 {
        parts.push(format!("{casts} compared after a cast"));
    }
    let tone = if differ > 0 { Tone::Error } else { Tone::Good };
    let word = if differ > 0 { "different" } else { "same" };
    let _ = writeln!(
        text,
        "{}: {}, {}",
        context.out.paint(tone, word),
        parts.join(", "),
        Bytes(bytes)
    );
    let not_finite: Vec<(String, u64)> = compared
        .iter()
        .filter(|tensor| tensor.not_finite > 0)
        .map(|tensor| (tensor.name.clone(), tensor.not_finite))
        .collect();
    if let Some(sentence) = super::convert::not_finite(&not_finite) {
        let word = context.out.paint(Tone::Warning, "warning");
        let _ = writeln!(text, "{word}: {sentence}");
    }
    text
}
