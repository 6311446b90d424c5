//! Weights of any format into the trainer's arena.

use std::path::Path;

use candle_core::{Device, Tensor};

use super::{Files, Input, gather};
use crate::base::DType;
use crate::checkpoint::{CheckpointError, Format, Weights, huggingface};
use crate::mapping::{View, join};
use crate::nn::Parameters;
use crate::spec::{ExpertStyle, ModelConfig, TextConfig};

/// Copies the weights of a Hugging Face directory, a `torch_dist` checkpoint or a directory of rank files into `parameters`, widened to f32.
///
/// Of a multimodal model the text part is taken. MTP that the model leaves out is passed over.
///
/// # Errors
/// A missing, unexpected, truncated or differently shaped tensor; nothing of `parameters` is to be used then.
pub fn load(
    path: &Path,
    config: &TextConfig,
    parameters: &Parameters,
) -> Result<(), CheckpointError> {
    let mut weights = match Weights::open(path) {
        Ok(weights) if weights.format != Format::HuggingFace => weights,
        // The trainer's own reader is stricter about what it says.
        _ => return huggingface::load(path, config, parameters),
    };
    if config.mtp_num_hidden_layers == 0 {
        let is_mtp = |name: &str| name.contains("mtp.layers.");
        weights.tensors.retain(|tensor| !is_mtp(&tensor.name));
    }
    let stored = weights.config.clone().or_else(|| weights.model().ok());
    let model = ModelConfig {
        text: config.clone(),
        vision: stored.and_then(|stored| stored.vision),
    };
    let bound = weights.bind(&model, ExpertStyle::QWEN3_5)?;
    let view = View::huggingface(&bound.table);
    let moves = join(&bound.table, &bound.view, &view)?;
    let files = Files::open(&weights.files)?;
    let inputs: Vec<Option<Input>> = bound.tensors.iter().map(|t| Some(Input::new(t))).collect();
    let prefix = model.text_prefix();
    for (tensor, moves) in view.tensors.iter().zip(&moves) {
        let name = match tensor.name.strip_prefix(prefix) {
            _ if tensor.name.starts_with("model.visual.") => continue,
            Some(rest) => format!("model.{rest}"),
            None => tensor.name.clone(),
        };
        let (rows, cols) = tensor.shape.matrix();
        let mut bytes = vec![0; rows * cols * DType::F32.size() as usize];
        let form = (cols, DType::F32);
        gather(&files, &inputs, moves, &(0..rows), form, &mut bytes)?;
        let values: Vec<f32> = bytes
            .chunks_exact(4)
            .map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]))
            .collect();
        let value = Tensor::from_vec(values, tensor.shape.0.as_slice(), &Device::Cpu)?;
        parameters.set(&name, &value)?;
    }
    Ok(())
}
