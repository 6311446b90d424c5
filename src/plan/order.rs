//! In which order the axes of a mesh run over ranks.

use std::fmt;
use std::str::FromStr;

use thiserror::Error;

use super::Axis;

/// The axes from the fastest, whose neighbours have consecutive ranks, to the slowest; Megatron spells it `tp-cp-ep-dp-pp`.
///
/// Dense weights skip `ep`; experts read `tp` as their own degree, `dp` as what is left of it, and skip `cp`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct RankOrder([Axis; 5]);

/// Why a text is no order.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum RankOrderError {
    /// A word that is no axis.
    #[error("`{0}` is no axis; they are tp, cp, ep, dp, pp")]
    Unknown(String),
    /// An axis twice.
    #[error("`{0}` is there twice")]
    Twice(Axis),
    /// An axis that is not there.
    #[error("`{0}` is missing")]
    Missing(Axis),
}

impl RankOrder {
    /// Megatron's default with pipeline stages farthest apart: `tp-cp-ep-dp-pp`.
    pub const PIPELINE_LAST: Self = Self(Axis::ALL);

    /// Data-parallel copies farthest apart (`use_tp_pp_dp_mapping`): `tp-cp-ep-pp-dp`.
    pub const DATA_LAST: Self = Self([Axis::Tp, Axis::Cp, Axis::Ep, Axis::Pp, Axis::Dp]);

    /// The axes, fastest first.
    pub fn axes(&self) -> [Axis; 5] {
        self.0
    }

    /// Whether pipeline stages are farthest apart.
    pub fn is_pipeline_last(&self) -> bool {
        self.0[4] == Axis::Pp
    }
}

impl Default for RankOrder {
    fn default() -> Self {
        Self::PIPELINE_LAST
    }
}

impl FromStr for RankOrder {
    type Err = RankOrderError;

    /// Reads `tp-cp-ep-dp-pp`, any case; each axis once.
    fn from_str(text: &str) -> Result<Self, RankOrderError> {
        let mut axes = Vec::with_capacity(5);
        for word in text.split('-') {
            let axis = Axis::ALL
                .into_iter()
                .find(|axis| axis.name().eq_ignore_ascii_case(word.trim()))
                .ok_or_else(|| RankOrderError::Unknown(word.to_owned()))?;
            if axes.contains(&axis) {
                return Err(RankOrderError::Twice(axis));
            }
            axes.push(axis);
        }
        match Axis::ALL.into_iter().find(|axis| !axes.contains(axis)) {
            Some(axis) => Err(RankOrderError::Missing(axis)),
            None => Ok(Self([axes[0], axes[1], axes[2], axes[3], axes[4]])),
        }
    }
}

impl fmt::Display for RankOrder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = self.0.iter().map(|axis| axis.name()).collect();
        f.pad(&names.join("-"))
    }
}
