//! Batches as safetensors files, so that another stack can be run on the same tokens.
//!
//! | key | type, shape | without it |
//! |---|---|---|
//! | `input_ids` | integers `[B, s]` or `[N]` | an error |
//! | `labels` | integers, shape of `input_ids`; negative is masked | the next token inside each sequence, the last masked |
//! | `loss_mask` | floats, shape of `input_ids` | 1 |
//! | `cu_seqlens` | integers, from 0 to `B * s`; no row border inside a sequence | each row is a sequence |
//! | `position_ids` | integers `[3, B, s]`, `[3, s]` of one row, or the shape of `input_ids` | from 0 in each sequence |

use std::collections::HashMap;
use std::path::Path;

use candle_core::{DType, Device, Tensor, safetensors};

use crate::base::Shape;
use crate::ops::CuSeqlens;

use super::NnError;
use super::batch::Batch;

/// A batch as a file has it: the packed batch, and the rows that it was made of.
#[derive(Debug, Clone)]
pub struct BatchFile {
    /// The batch, rows one after the other.
    pub batch: Batch,
    /// Rows `B`.
    pub rows: usize,
    /// Tokens of a row, `s`.
    pub seq_length: usize,
}

impl BatchFile {
    /// Reads a batch for a model with `vocab_size` tokens.
    ///
    /// # Errors
    /// When the file cannot be read, a key is missing or of a wrong type or shape, or an id is outside the vocabulary.
    pub fn read(path: &Path, vocab_size: usize) -> Result<Self, NnError> {
        let tensors = safetensors::load(path, &Device::Cpu)
            .map_err(|error| problem(path, error.to_string()))?;
        Self::from_tensors(&tensors, vocab_size).map_err(|error| match error {
            NnError::BatchFile { problem: what, .. } => problem(path, what),
            other => problem(path, other.to_string()),
        })
    }

    /// Makes a batch of named tensors.
    pub fn from_tensors(
        tensors: &HashMap<String, Tensor>,
        vocab_size: usize,
    ) -> Result<Self, NnError> {
        let Some(ids) = tensors.get("input_ids") else {
            return Err(invalid("it has no input_ids"));
        };
        let (rows, seq_length) = match *ids.dims() {
            [tokens] => (1, tokens),
            [rows, seq_length] => (rows, seq_length),
            _ => return Err(shape_error("input_ids", ids, "[B, s] or [N]")),
        };
        let tokens = rows * seq_length;
        let cu_seqlens = cu_seqlens(tensors.get("cu_seqlens"), rows, seq_length)?;
        let input_ids = integers("input_ids", ids)?;
        let input_ids = vocabulary("input_ids", &input_ids, vocab_size)?;

        let mut loss_mask = match tensors.get("loss_mask") {
            None => vec![1.0; tokens],
            Some(mask) => {
                same_shape("loss_mask", mask, ids)?;
                mask.to_dtype(DType::F32)?.flatten_all()?.to_vec1()?
            }
        };
        let mut labels = if let Some(labels) = tensors.get("labels") {
            same_shape("labels", labels, ids)?;
            integers("labels", labels)?
        } else {
            let mut labels = vec![-1; tokens];
            for segment in cu_seqlens.segments() {
                for i in segment.start + 1..segment.end {
                    labels[i - 1] = i64::from(input_ids[i]);
                }
            }
            labels
        };
        for (label, mask) in labels.iter_mut().zip(&mut loss_mask) {
            if *label < 0 {
                (*label, *mask) = (0, 0.0);
            }
        }
        let labels = vocabulary("labels", &labels, vocab_size)?;

        let mut batch = Batch::text(input_ids, labels, loss_mask, cu_seqlens);
        if let Some(positions) = tensors.get("position_ids") {
            batch.position_ids = position_ids(positions, ids, rows, seq_length)?;
        }
        Ok(Self {
            batch,
            rows,
            seq_length,
        })
    }

    /// Writes the batch under the keys that [`BatchFile::read`] knows, all of them.
    pub fn write(&self, path: &Path) -> Result<(), NnError> {
        let batch = &self.batch;
        let shape = (self.rows, self.seq_length);
        let ids = |ids: &[u32]| -> Result<Tensor, NnError> {
            let ids = ids.iter().map(|&id| i64::from(id)).collect::<Vec<_>>();
            Ok(Tensor::from_vec(ids, shape, &Device::Cpu)?)
        };
        let boundaries: Vec<i64> = batch
            .cu_seqlens
            .boundaries()
            .iter()
            .map(|&at| at as i64)
            .collect();
        let count = boundaries.len();
        let tensors = HashMap::from([
            ("input_ids", ids(&batch.input_ids)?),
            ("labels", ids(&batch.labels)?),
            (
                "loss_mask",
                Tensor::from_slice(&batch.loss_mask, shape, &Device::Cpu)?,
            ),
            (
                "position_ids",
                Tensor::from_vec(
                    batch.position_ids.concat(),
                    (3, self.rows, self.seq_length),
                    &Device::Cpu,
                )?,
            ),
            (
                "cu_seqlens",
                Tensor::from_vec(boundaries, count, &Device::Cpu)?,
            ),
        ]);
        safetensors::save(&tensors, path).map_err(|error| problem(path, error.to_string()))
    }
}

fn problem(path: &Path, problem: String) -> NnError {
    NnError::BatchFile {
        path: path.to_owned(),
        problem,
    }
}

fn invalid(problem: impl Into<String>) -> NnError {
    NnError::BatchFile {
        path: "batch".into(),
        problem: problem.into(),
    }
}

fn shape_error(key: &str, tensor: &Tensor, expected: &str) -> NnError {
    let found = Shape(tensor.dims().to_vec());
    invalid(format!("{key} is {found}, expected {expected}"))
}

fn same_shape(key: &str, tensor: &Tensor, ids: &Tensor) -> Result<(), NnError> {
    if tensor.dims() == ids.dims() {
        return Ok(());
    }
    let expected = Shape(ids.dims().to_vec());
    Err(shape_error(
        key,
        tensor,
        &format!("{expected} as input_ids"),
    ))
}

fn integers(key: &str, tensor: &Tensor) -> Result<Vec<i64>, NnError> {
    if !tensor.dtype().is_int() {
        let found = tensor.dtype().as_str();
        return Err(invalid(format!("{key} is {found}, expected integers")));
    }
    let tensor = tensor.to_dtype(DType::I64)?;
    Ok(tensor.flatten_all()?.to_vec1()?)
}

fn vocabulary(key: &str, ids: &[i64], vocab_size: usize) -> Result<Vec<u32>, NnError> {
    ids.iter()
        .enumerate()
        .map(|(index, &id)| match u32::try_from(id) {
            Ok(id) if (id as usize) < vocab_size => Ok(id),
            _ => Err(invalid(format!(
                "{key} has {id} at place {index}, but the vocabulary has {vocab_size} entries"
            ))),
        })
        .collect()
}

fn cu_seqlens(
    boundaries: Option<&Tensor>,
    rows: usize,
    seq_length: usize,
) -> Result<CuSeqlens, NnError> {
    let Some(boundaries) = boundaries else {
        return Ok(CuSeqlens::uniform(rows, seq_length));
    };
    let mut cu = Vec::new();
    for at in integers("cu_seqlens", boundaries)? {
        let Ok(at) = usize::try_from(at) else {
            return Err(invalid(format!("cu_seqlens has {at}")));
        };
        if cu.last() != Some(&at) {
            cu.push(at); // an empty sequence is none
        }
    }
    let tokens = rows * seq_length;
    let end = cu.last().copied().unwrap_or(0);
    if end != tokens {
        return Err(invalid(format!(
            "cu_seqlens end at {end}, but input_ids have {tokens} tokens"
        )));
    }
    if let Some(border) = (1..rows)
        .map(|row| row * seq_length)
        .find(|at| !cu.contains(at))
    {
        return Err(invalid(format!(
            "cu_seqlens lack {border}, where a row of {seq_length} tokens ends"
        )));
    }
    CuSeqlens::new(cu).map_err(|error| invalid(error.to_string()))
}

fn position_ids(
    positions: &Tensor,
    ids: &Tensor,
    rows: usize,
    seq_length: usize,
) -> Result<[Vec<i64>; 3], NnError> {
    let values = integers("position_ids", positions)?;
    let dims = positions.dims();
    if dims == ids.dims() {
        return Ok([values.clone(), values.clone(), values]);
    }
    let tokens = rows * seq_length;
    if dims == [3, rows, seq_length] || dims == [3, tokens] {
        let row = |i: usize| values[i * tokens..(i + 1) * tokens].to_vec();
        return Ok([row(0), row(1), row(2)]);
    }
    let ids = Shape(ids.dims().to_vec());
    let expected = format!("[3, {rows}, {seq_length}], [3, {tokens}] or {ids}");
    Err(shape_error("position_ids", positions, &expected))
}
