//! Every rank has one place, and groups cut the ranks into equal parts.

use proptest::prelude::*;
use trestle::plan::{Axis, Degrees, Group, RankGrid, RankOrder};

#[test]
fn groups_follow_megatrons_order() {
    let degrees = Degrees {
        tp: 2,
        cp: 2,
        ep: 4,
        etp: 2,
        dp: 2,
        pp: 2,
        ..Degrees::default()
    };
    let grid = RankGrid::new(degrees).expect("16 ranks");
    assert_eq!(grid.world_size(), 16);
    assert_eq!(grid.group(Axis::Tp, 0), [0, 1]);
    assert_eq!(grid.group(Axis::Cp, 0), [0, 2]);
    assert_eq!(grid.group(Axis::Dp, 0), [0, 4]);
    assert_eq!(grid.group(Axis::Pp, 0), [0, 8]);
    assert_eq!(grid.group(Axis::Ep, 0), [0, 2, 4, 6]);
    assert_eq!(grid.group(Axis::Ep, 13), [9, 11, 13, 15]);
    assert_eq!(grid.group(Axis::Dp, 11), [11, 15]);
    let at = grid.coordinates(13);
    assert_eq!((at.tp, at.cp, at.dp, at.pp), (1, 0, 1, 1));
}

proptest! {
    #[test]
    fn places_and_ranks_are_inverse_and_groups_partition(
        tp in 1usize..5, cp in 1usize..4, dp in 1usize..5, pp in 1usize..4, ep in 1usize..5,
    ) {
        let degrees = Degrees { tp, cp, dp, pp, ep, ..Degrees::default() };
        let grid = RankGrid::new(degrees);
        prop_assert_eq!(grid.is_some(), (tp * cp * dp) % ep == 0);
        let Some(grid) = grid else { return Ok(()) };
        for rank in 0..grid.world_size() {
            prop_assert_eq!(grid.rank(grid.coordinates(rank)), rank);
            for axis in Axis::ALL {
                let group = grid.group(axis, rank);
                prop_assert_eq!(group.len(), degrees.of(axis));
                prop_assert!(group.contains(&rank));
                prop_assert!(group.is_sorted());
                for &other in &group {
                    prop_assert_eq!(&grid.group(axis, other), &group);
                }
            }
        }
    }
}

/// What every rank is, by counting through the axes one rank at a time as an odometer: `(axis, size)` fastest first.
fn count_through(order: &[(Axis, usize)]) -> Vec<Vec<(Axis, usize)>> {
    let world: usize = order.iter().map(|(_, size)| size).product();
    let mut at: Vec<(Axis, usize)> = order.iter().map(|&(axis, _)| (axis, 0)).collect();
    let mut places = Vec::new();
    for _ in 0..world {
        places.push(at.clone());
        for (wheel, &(_, size)) in at.iter_mut().zip(order) {
            wheel.1 += 1;
            if wheel.1 < size {
                break;
            }
            wheel.1 = 0;
        }
    }
    places
}

/// Ranks whose place differs from `rank`'s on `axes` alone.
fn alike(places: &[Vec<(Axis, usize)>], rank: usize, axes: &[Axis]) -> Vec<usize> {
    let rest = |place: &[(Axis, usize)]| -> Vec<(Axis, usize)> {
        let mut rest = place.to_vec();
        rest.retain(|(axis, _)| !axes.contains(axis));
        rest
    };
    let own = rest(&places[rank]);
    (0..places.len())
        .filter(|&other| rest(&places[other]) == own)
        .collect()
}

proptest! {
    #[test]
    fn groups_of_every_order_are_those_of_counting_through_the_axes(
        tp in 1usize..4, cp in 1usize..3, dp in 1usize..4, pp in 1usize..4, ep in 1usize..5, etp in 1usize..3,
        shuffle in 0usize..120,
    ) {
        let mut left: Vec<Axis> = Axis::ALL.to_vec();
        let mut pick = shuffle;
        let mut axes = Vec::new();
        while !left.is_empty() {
            axes.push(left.remove(pick % left.len()));
            pick /= left.len().max(1) + 1;
        }
        let text: Vec<_> = axes.iter().map(|axis| axis.name()).collect();
        let order: RankOrder = text.join("-").parse().expect("each axis once");
        prop_assert_eq!(order.to_string(), text.join("-"));
        let degrees = Degrees { tp, cp, dp, pp, ep, etp, ..Degrees::default() };
        let fits = (tp * cp * dp) % (ep * etp) == 0;
        let expert_dp = tp * cp * dp / (ep * etp);
        let below: Vec<_> = axes.iter().take_while(|&&a| a != Axis::Pp).collect();
        let apart = |of: &dyn Fn(Axis) -> usize| below.iter().map(|&&axis| of(axis)).product::<usize>();
        let dense_apart = apart(&|axis| if axis == Axis::Ep { 1 } else { degrees.of(axis) });
        let experts_apart = apart(&|axis| match axis {
            Axis::Cp => 1,
            Axis::Tp => etp,
            Axis::Dp => expert_dp,
            other => degrees.of(other),
        });
        let same_stages = pp == 1 || axes[4] == Axis::Pp || (expert_dp == dp && dense_apart == experts_apart);
        let grid = RankGrid::ordered(degrees, order);
        prop_assert_eq!(grid.is_ok(), fits && same_stages);
        let Ok(grid) = grid else { return Ok(()) };
        let dense: Vec<_> = axes.iter().filter(|&&a| a != Axis::Ep).map(|&a| (a, degrees.of(a))).collect();
        let experts: Vec<_> = axes.iter().filter(|&&a| a != Axis::Cp).map(|&a| (a, match a {
            Axis::Tp => etp,
            Axis::Dp => expert_dp,
            other => degrees.of(other),
        })).collect();
        let (dense, experts) = (count_through(&dense), count_through(&experts));
        let kinds: [(Group, &[Axis], bool); 12] = [
            (Group::Tensor, &[Axis::Tp], true),
            (Group::Context, &[Axis::Cp], true),
            (Group::Data, &[Axis::Dp], true),
            (Group::DataContext, &[Axis::Dp, Axis::Cp], true),
            (Group::Pipeline, &[Axis::Pp], true),
            (Group::Model, &[Axis::Tp, Axis::Pp], true),
            (Group::TensorContext, &[Axis::Tp, Axis::Cp], true),
            (Group::Expert, &[Axis::Ep], false),
            (Group::ExpertTensor, &[Axis::Tp], false),
            (Group::ExpertTensorExpert, &[Axis::Tp, Axis::Ep], false),
            (Group::ExpertData, &[Axis::Dp], false),
            (Group::ExpertModel, &[Axis::Tp, Axis::Ep, Axis::Pp], false),
        ];
        for rank in 0..grid.world_size() {
            prop_assert_eq!(grid.rank(grid.coordinates(rank)), rank);
            for (group, axes, is_dense) in kinds {
                let places = if is_dense { &dense } else { &experts };
                prop_assert_eq!(grid.members(group, rank), alike(places, rank, axes), "{:?} of {}", group, rank);
                prop_assert_eq!(grid.members(group, rank).len(), grid.size(group));
            }
            // A stage of dense weights is a stage of experts.
            let pp = |places: &[Vec<(Axis, usize)>]| places[rank].iter().find(|(a, _)| *a == Axis::Pp).map(|p| p.1);
            prop_assert_eq!(pp(&dense), pp(&experts));
        }
    }
}

#[test]
fn copies_of_the_embedding_are_on_first_last_and_mtps_stage() {
    let degrees = Degrees {
        tp: 2,
        dp: 2,
        pp: 4,
        ..Degrees::default()
    };
    let grid = RankGrid::new(degrees).expect("16 ranks");
    assert_eq!(grid.embedding_group(5, None), [1, 13]);
    assert_eq!(grid.embedding_group(5, Some(3)), [1, 13]);
    assert_eq!(grid.embedding_group(5, Some(2)), [1, 9, 13]);
    assert_eq!(grid.position_group(15), [3]);
    let one = RankGrid::new(degrees.with(Axis::Pp, 1)).expect("4 ranks");
    assert_eq!(one.embedding_group(2, Some(0)), [2]);
    assert_eq!(one.groups(Group::Tensor), [[0, 1], [2, 3]]);
}

#[test]
fn orders_are_read_and_bad_ones_named() {
    for (text, error) in [
        ("tp-cp-ep-dp", "`pp` is missing"),
        ("tp-tp-ep-dp-pp", "`tp` is there twice"),
        (
            "tp-cp-ep-dp-xx",
            "`xx` is no axis; they are tp, cp, ep, dp, pp",
        ),
        ("", "`` is no axis; they are tp, cp, ep, dp, pp"),
    ] {
        let read: Result<RankOrder, _> = text.parse();
        assert_eq!(read.expect_err(text).to_string(), error);
    }
    assert_eq!("TP-cp-ep-pp-dp".parse(), Ok(RankOrder::DATA_LAST));
}
