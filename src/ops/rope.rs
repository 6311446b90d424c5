//! Rotary embedding for three rows of positions, interleaved (mRoPE of Qwen3.5), on the first `rotary_dim` dims of a head.
//!
//! Frequency `j` of `rotary_dim / 2` is `theta^(-2j / rotary_dim)`. With sections `[t, h, w]` it reads the height row for
//! `j = 1, 4, 7, ...` below `3 h`, the width row for `j = 2, 5, ...` below `3 w`, the time row otherwise. The rotation pairs dims `j` and
//! `j + rotary_dim / 2`: `y_j = x_j cos - x_j' sin`, `y_j' = x_j' cos + x_j sin`. The backward is the rotation by the opposite angle.

#[cfg(feature = "cuda")]
mod cuda;
mod reference;

use candle_core::{Result, Tensor, bail};

use super::host;

/// Cosine and sine of every token and frequency, made once per batch.
#[derive(Debug, Clone)]
pub struct Table {
    cos: Vec<f32>, // [N, rotary / 2]
    sin: Vec<f32>,
    inverse_frequencies: Vec<f32>,
    tokens: usize,
    #[cfg(feature = "cuda")]
    resident: cuda::Resident,
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
        let (mut cos, mut sin) = (
            Vec::with_capacity(tokens * half),
            Vec::with_capacity(tokens * half),
        );
        for ((time, height), width) in time.iter().zip(height).zip(width) {
            let positions = [time, height, width];
            for (j, frequency) in inverse_frequencies.iter().enumerate() {
                let angle = *positions[row(j, sections)] as f64 * f64::from(*frequency);
                cos.push(angle.cos() as f32);
                sin.push(angle.sin() as f32);
            }
        }
        Ok(Self {
            cos,
            sin,
            inverse_frequencies,
            tokens,
            #[cfg(feature = "cuda")]
            resident: cuda::Resident::new(),
        })
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
        &self.cos
    }

    /// Sines, `[N, rotary_dim / 2]`.
    pub fn sin(&self) -> &[f32] {
        &self.sin
    }
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
    let (n, h, d) = x.dims3()?;
    if n != table.tokens || d < table.rotary_dim() {
        bail!(
            "rope: x is [{n}, {h}, {d}], the table has {} tokens and a width of {}",
            table.tokens,
            table.rotary_dim()
        );
    }
    #[cfg(feature = "cuda")]
    if x.device().is_cuda() {
        return cuda::rotate(x, table, sign, h, d);
    }
    host::tensor(
        reference::rotate(&host::read("rope", x)?, table, sign, h, d),
        (n, h, d),
    )
}
