//! Rotary embedding for three rows of positions, interleaved (mRoPE of Qwen3.5), on the first `rotary_dim` dims of a head.
//!
//! Frequency `j` of `rotary_dim / 2` is `theta^(-2j / rotary_dim)`. With sections `[t, h, w]` it reads the height row for
//! `j = 1, 4, 7, ...` below `3 h`, the width row for `j = 2, 5, ...` below `3 w`, the time row otherwise. The rotation pairs dims `j` and
//! `j + rotary_dim / 2`: `y_j = x_j cos - x_j' sin`, `y_j' = x_j' cos + x_j sin`. The backward is the rotation by the opposite angle.

#[cfg(feature = "cuda")]
mod cuda;
mod reference;

use std::sync::{Arc, OnceLock};

use candle_core::{Result, Tensor, bail};

use super::host;

/// Cosine and sine of every token and frequency, made once per batch: on the CPU when first asked for, on a GPU from the positions.
/// Clones share them.
#[derive(Debug, Clone)]
pub struct Table {
    positions: Arc<[Vec<i64>; 3]>,
    sections: [usize; 3],
    inverse_frequencies: Vec<f32>,
    tokens: usize,
    host: Arc<OnceLock<Angles>>,
    #[cfg(feature = "cuda")]
    resident: cuda::Resident,
}

#[derive(Debug)]
struct Angles {
    cos: Vec<f32>, // [N, rotary / 2]
    sin: Vec<f32>,
}

impl Table {
    /// Computes the table; angles are taken in f64 from frequencies in f32.
    ///
    /// # Shapes
    /// `position_ids`: rows time, height, width of `[N]` each
    ///
    /// # Errors
    /// When the rows differ in length, `rotary_dim` is odd, or the sections do not add up to half of it.
    pub fn new(
        position_ids: &[Vec<i64>; 3],
        rotary_dim: usize,
        theta: f64,
        sections: [usize; 3],
    ) -> Result<Self> {
        let [time, height, width] = position_ids;
        let tokens = time.len();
        if height.len() != tokens || width.len() != tokens {
            bail!(
                "rope: rows of {tokens}, {} and {} positions",
                height.len(),
                width.len()
            );
        }
        if !rotary_dim.is_multiple_of(2) || sections.iter().sum::<usize>() * 2 != rotary_dim {
            bail!(
                "rope: sections {sections:?} do not add up to half of the rotary width {rotary_dim}"
            );
        }
        let half = rotary_dim / 2;
        // in f32 throughout, as transformers does: near position 262,144 the last bit of a frequency shows
        let inverse_frequencies: Vec<f32> = (0..half)
            .map(|j| 1.0 / (theta as f32).powf(2.0 * j as f32 / rotary_dim as f32))
            .collect();
        Ok(Self {
            positions: Arc::new(position_ids.clone()),
            sections,
            inverse_frequencies,
            tokens,
            host: Arc::default(),
            #[cfg(feature = "cuda")]
            resident: cuda::Resident::default(),
        })
    }

    /// The table of other positions, as many. Angles on a GPU keep their addresses, and the old values until [`Self::refresh`].
    ///
    /// # Errors
    /// When a row has another length.
    pub fn at(&self, position_ids: &[Vec<i64>; 3]) -> Result<Self> {
        if let Some(row) = position_ids.iter().find(|row| row.len() != self.tokens) {
            bail!(
                "rope: a row of {} positions for a table of {}",
                row.len(),
                self.tokens
            );
        }
        Ok(Self {
            positions: Arc::new(position_ids.clone()),
            host: Arc::default(),
            ..self.clone()
        })
    }

    /// Computes the angles of a GPU now, from `positions` that are there, `[3 N]` u32: the rows one after the other, as [`words`] gives
    /// them. They keep their addresses.
    ///
    /// # Errors
    /// When the table has angles on another device, or `positions` are not `3 N`; always on the CPU.
    pub fn refresh(&self, positions: &Tensor) -> Result<()> {
        #[cfg(feature = "cuda")]
        if positions.device().is_cuda() {
            return cuda::refresh(self, positions);
        }
        Err(host::unsupported("rope", positions.device()))
    }

    /// Cosines and sines on the CPU.
    fn angles(&self) -> &Angles {
        self.host.get_or_init(|| {
            let values = self.tokens * self.inverse_frequencies.len();
            let (mut cos, mut sin) = (Vec::with_capacity(values), Vec::with_capacity(values));
            for token in 0..self.tokens {
                for (j, frequency) in self.inverse_frequencies.iter().enumerate() {
                    let position = self.positions[row(j, self.sections)][token];
                    let angle = position as f64 * f64::from(*frequency);
                    cos.push(angle.cos() as f32);
                    sin.push(angle.sin() as f32);
                }
            }
            Angles { cos, sin }
        })
    }

    /// Cosines and sines on the device of `like`, `[N, rotary_dim / 2]` f32 each.
    #[cfg(feature = "cuda")]
    pub(super) fn resident(&self, like: &Tensor) -> Result<(Tensor, Tensor)> {
        cuda::resident(self, like)
    }

    /// Fails unless `x [N, H, D]` fits the table; returns its dimensions.
    pub(super) fn check(&self, op: &str, x: &Tensor) -> Result<(usize, usize, usize)> {
        let (n, h, d) = x.dims3()?;
        if n != self.tokens || d < self.rotary_dim() {
            bail!(
                "{op}: x is [{n}, {h}, {d}], the table has {} tokens and a width of {}",
                self.tokens,
                self.rotary_dim()
            );
        }
        Ok((n, h, d))
    }

    /// The width that is rotated.
    pub fn rotary_dim(&self) -> usize {
        2 * self.inverse_frequencies.len()
    }

    /// `theta^(-2j / rotary_dim)` for every `j`.
    pub fn inverse_frequencies(&self) -> &[f32] {
        &self.inverse_frequencies
    }

    /// Cosines, `[N, rotary_dim / 2]`.
    pub fn cos(&self) -> &[f32] {
        &self.angles().cos
    }

    /// Sines, `[N, rotary_dim / 2]`.
    pub fn sin(&self) -> &[f32] {
        &self.angles().sin
    }
}

/// Rows of positions one after the other, as kernels take them.
///
/// # Errors
/// When a position is negative or does not fit 32 bits.
pub fn words(position_ids: &[Vec<i64>; 3]) -> Result<Vec<u32>> {
    let positions = position_ids.iter().flatten();
    let words = positions.map(|position| match u32::try_from(*position) {
        Ok(position) => Ok(position),
        Err(_) => bail!("rope: position {position}, the CUDA kernel takes 0 to 2^32 - 1"),
    });
    words.collect()
}

/// Which row of the positions frequency `j` reads.
fn row(j: usize, sections: [usize; 3]) -> usize {
    match j % 3 {
        1 if j < 3 * sections[1] => 1,
        2 if j < 3 * sections[2] => 2,
        _ => 0,
    }
}

/// Rotates the first dims of every head, copies the others.
///
/// # Shapes
/// `x`, `y` `[N, H, D]`
pub fn forward(x: &Tensor, table: &Table) -> Result<Tensor> {
    rotate(x, table, 1.0)
}

/// The gradient of the input: the opposite rotation.
///
/// # Shapes
/// `dy`, `dx` `[N, H, D]`
pub fn backward(dy: &Tensor, table: &Table) -> Result<Tensor> {
    rotate(dy, table, -1.0)
}

fn rotate(x: &Tensor, table: &Table, sign: f32) -> Result<Tensor> {
    let (n, h, d) = table.check("rope", x)?;
    #[cfg(feature = "cuda")]
    if x.device().is_cuda() {
        return cuda::rotate(x, table, sign, h, d);
    }
    host::tensor(
        reference::rotate(&host::read("rope", x)?, table, sign, h, d),
        (n, h, d),
    )
}
