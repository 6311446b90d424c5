//! Everything that another stack can be compared with: logits, losses, acceptance, gradients.

use std::collections::HashMap;
use std::path::Path;

use candle_core::{Device, Tensor, safetensors};

use super::NnError;
use super::batch_file::BatchFile;
use super::loss::{LossScales, StepOutput};
use super::model::Model;

/// The outputs of one batch.
#[derive(Debug, Clone)]
pub struct Probe {
    /// Losses and acceptance.
    pub output: StepOutput,
    /// `logits.K` `[B, s, V]`, `loss.K` (a scalar), `accept.K` `[correct, total]`, `grad.NAME`; K is 0 for the decoder.
    pub tensors: HashMap<String, Tensor>,
}

impl Probe {
    /// Runs `model` on `file`, with the gradients of the objective if `scales` say what it is.
    pub fn run(
        model: &Model,
        file: &BatchFile,
        scales: Option<&LossScales>,
    ) -> Result<Self, NnError> {
        let mut tensors = HashMap::new();
        let shape = (file.rows, file.seq_length, model.config().vocab_size);
        let hidden = model.hidden_states(&file.batch)?;
        for (k, state) in hidden.depths.iter().enumerate() {
            let logits = model.logits(state)?.reshape(shape)?;
            tensors.insert(format!("logits.{k}"), logits);
        }
        let output = match scales {
            None => model.evaluate(&file.batch)?.read()?,
            Some(scales) => {
                model.parameters().zero_grads()?;
                model.forward_backward(&file.batch, scales)?.read()?
            }
        };
        for (k, loss) in std::iter::once(&output.main).chain(&output.mtp).enumerate() {
            let counts = [loss.correct as i64, loss.total as i64];
            let mean = Tensor::new(loss.mean() as f32, &Device::Cpu)?;
            tensors.insert(format!("loss.{k}"), mean);
            if k > 0 {
                let counts = Tensor::new(&counts, &Device::Cpu)?;
                tensors.insert(format!("accept.{k}"), counts);
            }
        }
        if scales.is_some() {
            for name in model.parameters().names() {
                let grad = model.parameters().grad(name)?;
                tensors.insert(format!("grad.{name}"), grad);
            }
        }
        Ok(Self { output, tensors })
    }

    /// Writes the tensors as a safetensors file.
    pub fn write(&self, path: &Path) -> Result<(), NnError> {
        safetensors::save(&self.tensors, path).map_err(|error| NnError::BatchFile {
            path: path.to_owned(),
            problem: error.to_string(),
        })
    }
}
