//! The place of every rank, and the groups that it communicates in.
//!
//! Megatron numbers the ranks twice. Dense weights see `tp`, `cp`, `dp`, `pp`; experts see `etp`, `ep`, what is left of data parallel (`edp`),
//! `pp`, over the same ranks. Both run in the order that [`RankOrder`] says.

use thiserror::Error;

use super::degrees::{Axis, Coordinates, Degrees};
use super::order::RankOrder;

/// Most ranks of a grid; more is a slip of the finger.
pub const MOST_RANKS: usize = 1 << 24;

/// Groups of ranks that work together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Group {
    /// Tensor parallel: parts of every dense matrix.
    Tensor,
    /// Context parallel: parts of a sequence.
    Context,
    /// Data parallel: the same weights, other samples.
    Data,
    /// Data and context parallel: those who add up dense gradients.
    DataContext,
    /// Pipeline: one rank of every stage.
    Pipeline,
    /// Tensor and pipeline parallel: one copy of the model.
    Model,
    /// Tensor and context parallel.
    TensorContext,
    /// Expert parallel: parts of the experts of a layer.
    Expert,
    /// Tensor parallel of experts.
    ExpertTensor,
    /// Expert parallel and its tensor parallel: all experts of a layer.
    ExpertTensorExpert,
    /// Data parallel of experts: those who add up the gradients of the same experts.
    ExpertData,
    /// Everything of the experts in one copy of the model.
    ExpertModel,
}

impl Group {
    /// Every kind.
    pub const ALL: [Self; 12] = [
        Self::Tensor,
        Self::Context,
        Self::Data,
        Self::DataContext,
        Self::Pipeline,
        Self::Model,
        Self::TensorContext,
        Self::Expert,
        Self::ExpertTensor,
        Self::ExpertTensorExpert,
        Self::ExpertData,
        Self::ExpertModel,
    ];

    /// A short name: `tp-cp`; experts' with `e` in front of `tp` and `dp`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Tensor => "tp",
            Self::Context => "cp",
            Self::Data => "dp",
            Self::DataContext => "dp-cp",
            Self::Pipeline => "pp",
            Self::Model => "tp-pp",
            Self::TensorContext => "tp-cp",
            Self::Expert => "ep",
            Self::ExpertTensor => "etp",
            Self::ExpertTensorExpert => "etp-ep",
            Self::ExpertData => "edp",
            Self::ExpertModel => "etp-ep-pp",
        }
    }

    /// The numbering it belongs to, and its axes there.
    fn axes(self) -> (Numbering, &'static [Axis]) {
        use Numbering::{Dense, Experts};
        match self {
            Self::Tensor => (Dense, &[Axis::Tp]),
            Self::Context => (Dense, &[Axis::Cp]),
            Self::Data => (Dense, &[Axis::Dp]),
            Self::DataContext => (Dense, &[Axis::Dp, Axis::Cp]),
            Self::Pipeline => (Dense, &[Axis::Pp]),
            Self::Model => (Dense, &[Axis::Tp, Axis::Pp]),
            Self::TensorContext => (Dense, &[Axis::Tp, Axis::Cp]),
            Self::Expert => (Experts, &[Axis::Ep]),
            Self::ExpertTensor => (Experts, &[Axis::Tp]),
            Self::ExpertTensorExpert => (Experts, &[Axis::Tp, Axis::Ep]),
            Self::ExpertData => (Experts, &[Axis::Dp]),
            Self::ExpertModel => (Experts, &[Axis::Tp, Axis::Ep, Axis::Pp]),
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Numbering {
    Dense,
    Experts,
}

/// Why degrees make no grid.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum GridError {
    /// A degree of 0.
    #[error("{axis} = 0, but a degree is at least 1")]
    Zero {
        /// Its name.
        axis: &'static str,
    },
    /// More ranks than there can be.
    #[error("the degrees make more than {MOST_RANKS} ranks")]
    TooMany,
    /// Experts that do not fit the ranks of a stage.
    #[error("tp * cp * dp = {ranks} is not divisible by ep * etp = {experts}")]
    Experts {
        /// Ranks of a stage.
        ranks: usize,
        /// Ranks that hold the experts of a layer.
        experts: usize,
    },
    /// Stages of dense weights and experts that would be different ranks.
    #[error(
        "in the order {order} with pp = {pp}, {what} must be the same for dense weights and experts, but they are {dense} and {experts}"
    )]
    Stages {
        /// The order.
        order: RankOrder,
        /// Stages.
        pp: usize,
        /// What differs.
        what: &'static str,
        /// That of dense weights.
        dense: usize,
        /// That of experts.
        experts: usize,
    },
}

/// Every rank's place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RankGrid {
    degrees: Degrees,
    order: RankOrder,
    expert_dp: usize,
}

impl RankGrid {
    /// The grid of some degrees in Megatron's default order; none if a degree is 0 or experts do not fit the ranks of a stage.
    pub fn new(degrees: Degrees) -> Option<Self> {
        Self::ordered(degrees, RankOrder::default()).ok()
    }

    /// The grid in an order.
    pub fn ordered(degrees: Degrees, order: RankOrder) -> Result<Self, GridError> {
        let Degrees {
            tp,
            cp,
            ep,
            etp,
            dp,
            pp,
            ..
        } = degrees;
        let named = [
            ("tp", tp),
            ("cp", cp),
            ("ep", ep),
            ("etp", etp),
            ("dp", dp),
            ("pp", pp),
        ];
        if let Some((axis, _)) = named.into_iter().find(|&(_, degree)| degree == 0) {
            return Err(GridError::Zero { axis });
        }
        let product = |degrees: &[usize]| {
            degrees
                .iter()
                .try_fold(1usize, |all, &degree| all.checked_mul(degree))
                .filter(|&all| all <= MOST_RANKS)
                .ok_or(GridError::TooMany)
        };
        product(&[tp, cp, dp, pp])?;
        let ranks = product(&[tp, cp, dp])?;
        let experts = product(&[ep, etp])?;
        if !ranks.is_multiple_of(experts) {
            return Err(GridError::Experts { ranks, experts });
        }
        let expert_dp = ranks / experts;
        let grid = Self {
            degrees,
            order,
            expert_dp,
        };
        let apart = |numbering| {
            let strides = grid.strides(numbering).into_iter();
            let stage = strides.filter(|(axis, ..)| *axis == Axis::Pp);
            stage.map(|(.., stride)| stride).sum::<usize>()
        };
        let pairs = [
            ("data-parallel ranks", dp, expert_dp),
            (
                "ranks from stage to stage",
                apart(Numbering::Dense),
                apart(Numbering::Experts),
            ),
        ];
        let differs = pairs
            .into_iter()
            .find(|(_, dense, experts)| dense != experts);
        match differs {
            Some((what, dense, experts)) if pp > 1 && !order.is_pipeline_last() => {
                Err(GridError::Stages {
                    order,
                    pp,
                    what,
                    dense,
                    experts,
                })
            }
            _ => Ok(grid),
        }
    }

    /// The degrees it was made of.
    pub fn degrees(&self) -> &Degrees {
        &self.degrees
    }

    /// The order it was made in.
    pub fn order(&self) -> RankOrder {
        self.order
    }

    /// Data parallel of experts: `tp * cp * dp / (ep * etp)`.
    pub fn expert_dp(&self) -> usize {
        self.expert_dp
    }

    /// Ranks in all.
    pub fn world_size(&self) -> usize {
        self.degrees.world_size()
    }

    /// Degrees of a numbering, each with the distance of neighbours, fastest first.
    fn strides(&self, numbering: Numbering) -> [(Axis, usize, usize); 5] {
        let size = |axis| match (numbering, axis) {
            (Numbering::Dense, Axis::Ep) | (Numbering::Experts, Axis::Cp) => 1,
            (Numbering::Experts, Axis::Tp) => self.degrees.etp,
            (Numbering::Experts, Axis::Dp) => self.expert_dp,
            (_, axis) => self.degrees.of(axis),
        };
        let mut stride = 1;
        self.order.axes().map(|axis| {
            let this = (axis, size(axis), stride);
            stride *= this.1;
            this
        })
    }

    /// The place of `rank`, which is below [`world_size`](Self::world_size).
    pub fn coordinates(&self, rank: usize) -> Coordinates {
        let at = |numbering, wanted| {
            self.strides(numbering)
                .into_iter()
                .find(|&(axis, ..)| axis == wanted)
                .map_or(0, |(_, size, stride)| rank / stride % size)
        };
        Coordinates {
            tp: at(Numbering::Dense, Axis::Tp),
            cp: at(Numbering::Dense, Axis::Cp),
            dp: at(Numbering::Dense, Axis::Dp),
            pp: at(Numbering::Dense, Axis::Pp),
            ep: at(Numbering::Experts, Axis::Ep),
            etp: at(Numbering::Experts, Axis::Tp),
        }
    }

    /// The rank at a place; `ep` and `etp` follow from the others and are not read.
    pub fn rank(&self, at: Coordinates) -> usize {
        self.strides(Numbering::Dense)
            .into_iter()
            .map(|(axis, _, stride)| {
                stride
                    * match axis {
                        Axis::Tp => at.tp,
                        Axis::Cp => at.cp,
                        Axis::Dp => at.dp,
                        Axis::Pp => at.pp,
                        Axis::Ep => 0,
                    }
            })
            .sum()
    }

    /// Ranks of a group.
    pub fn size(&self, group: Group) -> usize {
        let (numbering, axes) = group.axes();
        let sizes = self.strides(numbering).into_iter();
        sizes
            .filter(|(axis, ..)| axes.contains(axis))
            .map(|(_, size, _)| size)
            .product()
    }

    /// The first and the last rank of `rank`'s group of a kind.
    pub fn extent(&self, group: Group, rank: usize) -> (usize, usize) {
        let (numbering, axes) = group.axes();
        let strides = self.strides(numbering).into_iter();
        strides.filter(|(axis, ..)| axes.contains(axis)).fold(
            (rank, rank),
            |(first, last), (_, size, stride)| {
                let at = rank / stride % size;
                (first - at * stride, last + (size - 1 - at) * stride)
            },
        )
    }

    /// The ranks of `rank`'s group of a kind, ascending, itself included.
    pub fn members(&self, group: Group, rank: usize) -> Vec<usize> {
        let (numbering, axes) = group.axes();
        let mut members = vec![rank];
        for (_, size, stride) in self
            .strides(numbering)
            .into_iter()
            .filter(|(axis, ..)| axes.contains(axis))
        {
            let back = rank / stride % size * stride;
            members = members
                .into_iter()
                .flat_map(|member| (0..size).map(move |i| member - back + i * stride))
                .collect();
        }
        members.sort_unstable();
        members
    }

    /// The ranks that form `rank`'s group along an axis, ascending, itself included.
    pub fn group(&self, axis: Axis, rank: usize) -> Vec<usize> {
        let group = match axis {
            Axis::Tp => Group::Tensor,
            Axis::Cp => Group::Context,
            Axis::Ep => Group::Expert,
            Axis::Dp => Group::Data,
            Axis::Pp => Group::Pipeline,
        };
        self.members(group, rank)
    }

    /// Every group of a kind, by its first rank.
    pub fn groups(&self, group: Group) -> Vec<Vec<usize>> {
        (0..self.world_size())
            .map(|rank| self.members(group, rank))
            .enumerate()
            .filter(|(rank, members)| members.first() == Some(rank))
            .map(|(_, members)| members)
            .collect()
    }

    /// The ranks among which the gradients of copies of the embedding are added up in `rank`'s pipeline: those of the first and the last stage,
    /// and of the stage `mtp` where MTP has one of its own. One rank where there is one stage.
    pub fn embedding_group(&self, rank: usize, mtp: Option<usize>) -> Vec<usize> {
        let mut ranks = self.members(Group::Pipeline, rank);
        ranks.sort_by_key(|&rank| self.coordinates(rank).pp);
        let last = ranks.len() - 1;
        let mut stages: Vec<usize> = [0, last].into_iter().chain(mtp).collect();
        stages.sort_unstable();
        stages.dedup();
        stages
            .into_iter()
            .filter_map(|stage| ranks.get(stage).copied())
            .collect()
    }

    /// The ranks that hold learned positions in `rank`'s pipeline: that of the first stage. The text model has none, the group is made anyway.
    pub fn position_group(&self, rank: usize) -> Vec<usize> {
        self.embedding_group(rank, None)
            .into_iter()
            .take(1)
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_rank_is_alone_in_every_group() {
        let grid = RankGrid::new(Degrees::default()).expect("valid");
        for group in Group::ALL {
            assert_eq!(grid.members(group, 0), [0]);
        }
    }

    #[test]
    fn no_grid_without_ranks() {
        assert!(RankGrid::new(Degrees::default().with(Axis::Pp, 0)).is_none());
        assert!(RankGrid::new(Degrees::default().with(Axis::Ep, 2)).is_none());
        let huge = Degrees::default()
            .with(Axis::Tp, usize::MAX)
            .with(Axis::Dp, usize::MAX);
        assert_eq!(
            RankGrid::ordered(huge, RankOrder::default()),
            Err(GridError::TooMany)
        );
    }
}
