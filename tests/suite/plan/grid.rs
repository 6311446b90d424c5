//! Every rank has one place, and groups cut the ranks into equal parts.

use proptest::prelude::*;
use trestle::plan::{Axis, Degrees, RankGrid};

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
