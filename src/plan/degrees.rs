//! Degrees of parallelism, and the place of a rank on every axis.

use std::fmt;

/// How many ways each axis is cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Degrees {
    /// Tensor parallel.
    pub tp: usize,
    /// Context parallel.
    pub cp: usize,
    /// Expert parallel; its ranks come out of those of `cp` and `dp`.
    pub ep: usize,
    /// Tensor parallel of the experts.
    pub etp: usize,
    /// Data parallel.
    pub dp: usize,
    /// Pipeline parallel.
    pub pp: usize,
    /// Chunks of layers a pipeline rank holds; above 1 is the interleaved schedule.
    pub vpp: usize,
    /// Whether norms and residuals are cut along the sequence over `tp`.
    pub sequence_parallel: bool,
}

impl Default for Degrees {
    /// One rank.
    fn default() -> Self {
        Self {
            tp: 1,
            cp: 1,
            ep: 1,
            etp: 1,
            dp: 1,
            pp: 1,
            vpp: 1,
            sequence_parallel: false,
        }
    }
}

impl Degrees {
    /// Ranks in all: `tp * cp * dp * pp`; the largest number where the product is larger.
    pub fn world_size(&self) -> usize {
        [self.tp, self.cp, self.dp, self.pp]
            .into_iter()
            .fold(1, usize::saturating_mul)
    }

    /// The degree of an axis.
    pub fn of(&self, axis: Axis) -> usize {
        match axis {
            Axis::Tp => self.tp,
            Axis::Cp => self.cp,
            Axis::Ep => self.ep,
            Axis::Dp => self.dp,
            Axis::Pp => self.pp,
        }
    }

    /// The degrees with one of them changed.
    #[must_use]
    pub fn with(mut self, axis: Axis, degree: usize) -> Self {
        match axis {
            Axis::Tp => self.tp = degree,
            Axis::Cp => self.cp = degree,
            Axis::Ep => self.ep = degree,
            Axis::Dp => self.dp = degree,
            Axis::Pp => self.pp = degree,
        }
        self
    }
}

/// An axis of the mesh.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Axis {
    /// Tensor parallel.
    Tp,
    /// Context parallel.
    Cp,
    /// Expert parallel.
    Ep,
    /// Data parallel.
    Dp,
    /// Pipeline parallel.
    Pp,
}

impl Axis {
    /// All axes in Megatron's order, fastest first.
    pub const ALL: [Self; 5] = [Self::Tp, Self::Cp, Self::Ep, Self::Dp, Self::Pp];

    /// Its short name: `tp`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Tp => "tp",
            Self::Cp => "cp",
            Self::Ep => "ep",
            Self::Dp => "dp",
            Self::Pp => "pp",
        }
    }
}

impl fmt::Display for Axis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// The place of a rank on every axis.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Coordinates {
    /// Tensor parallel.
    pub tp: usize,
    /// Context parallel.
    pub cp: usize,
    /// Data parallel.
    pub dp: usize,
    /// Pipeline parallel.
    pub pp: usize,
    /// Expert parallel.
    pub ep: usize,
    /// Tensor parallel of the experts.
    pub etp: usize,
}

/// The least number that both divide: the fewest ranks of a stage that two ways of cutting it share, such as `tp` and `ep * etp`. 0 if one is;
/// the largest number where theirs is larger.
pub fn lcm(a: usize, b: usize) -> usize {
    let (mut x, mut y) = (a, b);
    while y != 0 {
        (x, y) = (y, x % y);
    }
    (a / x.max(1)).saturating_mul(b)
}
