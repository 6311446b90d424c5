//! Degrees of parallelism, and the place and groups of every rank.

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
    /// Ranks in all: `tp * cp * dp * pp`.
    pub fn world_size(&self) -> usize {
        self.tp * self.cp * self.dp * self.pp
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

/// Every rank's place, in Megatron's order `tp-cp-ep-dp-pp`: tensor-parallel neighbours have consecutive ranks, pipeline stages are farthest apart.
///
/// Megatron numbers the ranks twice. Dense weights see `tp`, `cp`, `dp`, `pp`; experts see `etp`, `ep`, what is left of data parallel, `pp`, over
/// the same ranks. The two share the pipeline axis.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RankGrid {
    degrees: Degrees,
}

impl RankGrid {
    /// The grid of some degrees; none if a degree is 0 or experts do not fit the ranks of a stage.
    pub fn new(degrees: Degrees) -> Option<Self> {
        let Degrees {
            tp,
            cp,
            ep,
            etp,
            dp,
            pp,
            ..
        } = degrees;
        let positive = [tp, cp, ep, etp, dp, pp].iter().all(|&degree| degree > 0);
        (positive && (tp * cp * dp).is_multiple_of(ep * etp)).then_some(Self { degrees })
    }

    /// The degrees it was made of.
    pub fn degrees(&self) -> &Degrees {
        &self.degrees
    }

    /// Ranks in all.
    pub fn world_size(&self) -> usize {
        self.degrees.world_size()
    }

    /// The place of `rank`, which is below [`world_size`](Self::world_size).
    pub fn coordinates(&self, rank: usize) -> Coordinates {
        let Degrees {
            tp,
            cp,
            ep,
            etp,
            dp,
            ..
        } = self.degrees;
        Coordinates {
            tp: rank % tp,
            cp: rank / tp % cp,
            dp: rank / (tp * cp) % dp,
            pp: rank / (tp * cp * dp),
            etp: rank % etp,
            ep: rank / etp % ep,
        }
    }

    /// The rank at a place; `ep` and `etp` follow from the others and are not read.
    pub fn rank(&self, at: Coordinates) -> usize {
        let Degrees { tp, cp, dp, .. } = self.degrees;
        at.tp + tp * (at.cp + cp * (at.dp + dp * at.pp))
    }

    /// The ranks that form `rank`'s group along an axis, ascending, itself included.
    pub fn group(&self, axis: Axis, rank: usize) -> Vec<usize> {
        let Degrees { tp, cp, dp, .. } = self.degrees;
        let stride = match axis {
            Axis::Tp => 1,
            Axis::Cp => tp,
            Axis::Ep => self.degrees.etp,
            Axis::Dp => tp * cp,
            Axis::Pp => tp * cp * dp,
        };
        let size = self.degrees.of(axis);
        let first = rank - rank / stride % size * stride;
        (0..size).map(|i| first + i * stride).collect()
    }
}

/// The least number that both divide: the fewest ranks of a stage that two ways of cutting it share, such as `tp` and `ep * etp`. 0 if one is.
pub fn lcm(a: usize, b: usize) -> usize {
    let (mut x, mut y) = (a, b);
    while y != 0 {
        (x, y) = (y, x % y);
    }
    a / x.max(1) * b
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_rank_is_alone_in_every_group() {
        let grid = RankGrid::new(Degrees::default()).expect("valid");
        for axis in Axis::ALL {
            assert_eq!(grid.group(axis, 0), [0]);
        }
    }

    #[test]
    fn no_grid_without_ranks() {
        assert!(RankGrid::new(Degrees::default().with(Axis::Pp, 0)).is_none());
        assert!(RankGrid::new(Degrees::default().with(Axis::Ep, 2)).is_none());
    }
}
