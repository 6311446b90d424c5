//! Runs one batch through a model directory, and writes what another stack can be compared with.

use super::arguments::{ProbeArguments, ProbeDevice};
use super::output::Tone;
use super::{Context, Exit, Failure, OrExit, Outcome};
use crate::checkpoint::{CheckpointError, huggingface};
use crate::nn::{
    BatchFile, LossScales, Model, NnError, Parameters, Precision, Probe, Recompute, open_device,
};

pub(super) fn run(arguments: &ProbeArguments, context: &Context) -> Outcome {
    if !arguments.mtp_loss_scale.is_finite() || arguments.mtp_loss_scale < 0.0 {
        return Err(Exit::Usage.because(format!(
            "--mtp-loss-scale {} is not a number of 0 or more",
            arguments.mtp_loss_scale
        )));
    }
    let device = open_device(arguments.device == ProbeDevice::Cuda).map_err(failure)?;
    let config = huggingface::read_config(&arguments.model_dir).map_err(unusable)?;
    let file = BatchFile::read(&arguments.batch, config.vocab_size).map_err(failure)?;
    let parameters = Parameters::from_spec(&config, &device, Precision::F32).map_err(failure)?;
    huggingface::load(&arguments.model_dir, &config, &parameters).map_err(unusable)?;
    let model = Model::new(config, parameters, &Recompute::None).map_err(failure)?;

    let scales = LossScales {
        mtp_lambda: arguments.mtp_loss_scale as f32,
        ..LossScales::default()
    };
    let probe = Probe::run(&model, &file, arguments.grads.then_some(&scales)).map_err(failure)?;
    probe.write(&arguments.out).or_exit(Exit::Failure)?;

    let out = &context.out;
    let losses = std::iter::once(&probe.output.main).chain(&probe.output.mtp);
    for (depth, loss) in losses.enumerate() {
        let name = match depth {
            0 => "main".to_owned(),
            _ => format!("mtp {depth}"),
        };
        let name = out.paint(Tone::Name, format!("{name:<6}"));
        out.line(format_args!(
            "{name} loss {:.6}  predicted {} of {}",
            loss.mean(),
            loss.correct,
            loss.total
        ))?;
    }
    let objective = probe.output.objective(&scales);
    out.line(format_args!(
        "{} {objective:.6} with mtp loss scale {}",
        out.paint(Tone::Name, "objective"),
        arguments.mtp_loss_scale
    ))?;
    let count = probe.tensors.len();
    let path = arguments.out.display();
    out.line(out.paint(Tone::Dim, format!("{count} tensors in {path}")))?;
    Ok(())
}

fn failure(error: NnError) -> Failure {
    let exit = match error {
        NnError::DeviceUnavailable { .. } => Exit::Device,
        NnError::BatchFile { .. } => Exit::Data,
        _ => Exit::Failure,
    };
    Failure::new(exit, error)
}

/// A model directory that cannot be used is bad data, with the hint that its error has.
fn unusable(error: CheckpointError) -> Failure {
    let hint = error.hint();
    let failure = Failure::new(Exit::Data, error);
    match hint {
        Some(hint) => failure.hint(hint),
        None => failure,
    }
}
