//! The layout that arguments ask for.

use super::arguments::LayoutArguments;
use super::{Exit, Failure};
use crate::mapping::{Layout, LayoutOptions, MappingError};
use crate::plan::{Pipeline, PipelineError, lcm};
use crate::spec::ModelConfig;

/// The layout of a model, or why it cannot be laid out so: exit code 2, the two numbers, and what would be legal.
pub(super) fn layout(arguments: &LayoutArguments, config: &ModelConfig) -> Result<Layout, Failure> {
    let text = &config.text;
    let stages = pipeline(arguments)
        .stages(
            text.num_hidden_layers,
            text.mtp_num_hidden_layers,
            text.tie_word_embeddings,
        )
        .map_err(pipeline_failure)?;
    context_parallel(arguments, config)?;
    let options = LayoutOptions {
        tp: arguments.tp,
        ep: arguments.ep,
        etp: arguments.etp,
        world: arguments.world,
        pad_vocab: arguments.pad_vocab,
        sequential_experts: arguments.sequential_experts,
        spelling: arguments.spelling.map(Into::into).unwrap_or_default(),
    };
    let layout = Layout::new(config, &options, stages).map_err(failure)?;
    if arguments.cp == 1 {
        return Ok(layout);
    }
    // Ranks of context parallelism hold the same weights, so they only make the world larger.
    let LayoutArguments {
        tp, cp, ep, etp, ..
    } = *arguments;
    let unit = layout.stages.len() * lcm(tp * cp, ep * etp);
    let world = arguments.world.unwrap_or(unit);
    if world == 0 || !world.is_multiple_of(unit) {
        return Err(failure(MappingError::World {
            world,
            unit,
            formula: format!(
                "pp {} * lcm(tp {tp} * cp {cp}, ep {ep} * etp {etp})",
                layout.stages.len()
            ),
        }));
    }
    let options = LayoutOptions {
        world: Some(world),
        ..options
    };
    Layout::new(config, &options, layout.stages).map_err(failure)
}

/// What arguments ask of the pipeline.
pub(super) fn pipeline(arguments: &LayoutArguments) -> Pipeline {
    Pipeline {
        pp: arguments.pp,
        vpp: arguments.vpp,
        first: arguments.first_stage_layers,
        last: arguments.last_stage_layers,
        account_for_embedding: arguments.account_for_embedding,
        account_for_loss: arguments.account_for_loss,
        layout: arguments.pipeline_layout.clone(),
    }
}

/// A gated delta net gives each context-parallel rank whole heads.
fn context_parallel(arguments: &LayoutArguments, config: &ModelConfig) -> Result<(), Failure> {
    let LayoutArguments { tp, cp, .. } = *arguments;
    if cp == 0 {
        return Err(failure(MappingError::Zero { by: "cp" }));
    }
    for (what, size) in [
        ("linear_num_key_heads", config.text.linear_num_key_heads),
        ("linear_num_value_heads", config.text.linear_num_value_heads),
    ] {
        if cp > 1 && !size.is_multiple_of(tp * cp) {
            return Err(failure(MappingError::Indivisible {
                what,
                size,
                by: "tp * cp",
                degree: tp * cp,
            }));
        }
    }
    Ok(())
}

/// A mapping error as a usage error, with its hint.
pub(super) fn failure(error: MappingError) -> Failure {
    let hint = error.hint();
    let failure = Failure::new(Exit::Usage, error);
    match hint {
        Some(hint) => failure.hint(hint),
        None => failure,
    }
}

fn pipeline_failure(error: PipelineError) -> Failure {
    let hint = error.hint();
    let failure = Failure::new(Exit::Usage, error);
    match hint {
        Some(hint) => failure.hint(hint),
        None => failure,
    }
}
