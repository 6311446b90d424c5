//! Ranks of a stage in blocks, so that thousands of them have room on a screen.
//!
//! A stage's ranks stand in columns: tensor parallel fastest, then context, then data parallel. Where there are more than [`MOST_COLUMNS`], a
//! cell is a block of neighbours, and entering a block shows what is inside, as blocks or as ranks.

use crate::plan::{Axis, Coordinates, Degrees, RankGrid};

/// Most columns that are shown as ranks.
pub const MOST_COLUMNS: usize = 64;
/// Most blocks side by side.
pub const MOST_BLOCKS: usize = 8;

/// The part of a stage's columns that is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Blocks {
    /// The first column.
    pub first: usize,
    /// How many columns.
    pub len: usize,
    /// Columns of a cell; 1 is ranks.
    pub each: usize,
    /// How many blocks were entered to come here.
    pub depth: usize,
}

/// Columns of a stage.
pub fn columns(d: &Degrees) -> usize {
    d.tp.saturating_mul(d.cp).saturating_mul(d.dp)
}

/// Columns of a block where `len` columns are shown: whole copies of the model if there are enough of them, then whole tensor-parallel groups.
fn each(len: usize, d: &Degrees) -> usize {
    if len <= MOST_COLUMNS {
        return 1;
    }
    let unit = [d.tp.saturating_mul(d.cp), d.tp, 1]
        .into_iter()
        .find(|&unit| unit > 0 && unit < len)
        .unwrap_or(1);
    let units = len.div_ceil(unit);
    units.div_ceil(MOST_BLOCKS) * unit
}

/// What is shown after entering `depth` blocks, each the one that has `column`. A depth beyond what there is counts as the deepest.
pub fn blocks(d: &Degrees, column: usize, depth: usize) -> Blocks {
    let (mut first, mut len, mut entered) = (0, columns(d), 0);
    loop {
        let each = each(len, d);
        if entered == depth || each == 1 {
            return Blocks {
                first,
                len,
                each,
                depth: entered,
            };
        }
        let inside = column.saturating_sub(first).min(len - 1) / each * each;
        first += inside;
        len = each.min(len - inside);
        entered += 1;
    }
}

impl Blocks {
    /// The cells, each by its columns.
    pub fn cells(&self) -> impl Iterator<Item = std::ops::Range<usize>> + use<> {
        let (first, end, each) = (self.first, self.first + self.len, self.each.max(1));
        (first..end)
            .step_by(each)
            .map(move |start| start..(start + each).min(end))
    }
}

/// The column of a rank.
pub fn column(grid: &RankGrid, rank: usize) -> usize {
    let d = grid.degrees();
    let at = grid.coordinates(rank);
    (at.dp * d.cp + at.cp) * d.tp + at.tp
}

/// The rank of a stage's column.
pub fn rank_at(grid: &RankGrid, pp: usize, column: usize) -> usize {
    let d = grid.degrees();
    let (tp, cp) = (d.tp.max(1), d.cp.max(1));
    grid.rank(Coordinates {
        tp: column % tp,
        cp: column / tp % cp,
        dp: column / tp / cp,
        pp,
        ep: 0,
        etp: 0,
    })
}

/// How many members of `group` each cell of a stage has; members sorted by column.
pub fn members(columns: &[usize], cell: &std::ops::Range<usize>) -> usize {
    let below = |end: usize| columns.partition_point(|&column| column < end);
    below(cell.end) - below(cell.start)
}

/// The columns of a rank's group on one axis, stage by stage, each sorted.
pub fn highlighted(grid: &RankGrid, axis: Axis, rank: usize) -> Vec<Vec<usize>> {
    let mut stages = vec![Vec::new(); grid.degrees().pp];
    for member in grid.group(axis, rank) {
        let pp = grid.coordinates(member).pp;
        if let Some(stage) = stages.get_mut(pp) {
            stage.push(column(grid, member));
        }
    }
    for stage in &mut stages {
        stage.sort_unstable();
    }
    stages
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn degrees(tp: usize, cp: usize, dp: usize, pp: usize) -> Degrees {
        Degrees {
            tp,
            cp,
            dp,
            pp,
            ..Degrees::default()
        }
    }

    #[test]
    fn few_ranks_are_ranks_and_many_are_blocks() {
        let d = degrees(2, 2, 2, 2);
        assert_eq!(blocks(&d, 5, 3).each, 1);
        let d = degrees(8, 1, 64, 8);
        let top = blocks(&d, 300, 0);
        assert_eq!((top.first, top.len, top.each), (0, 512, 64));
        let inside = blocks(&d, 300, 1);
        assert_eq!((inside.first, inside.len, inside.each), (256, 64, 1));
        assert_eq!(blocks(&d, 300, 9), inside);
    }

    proptest! {
        #[test]
        fn cells_cover_what_is_shown_and_the_cursor_is_inside(
            tp in 1usize..20, cp in 1usize..9, dp in 1usize..400, depth in 0usize..4, at in 0.0..1.0f64,
        ) {
            let d = degrees(tp, cp, dp, 1);
            let all = columns(&d);
            let column = ((all as f64 * at) as usize).min(all - 1);
            let shown = blocks(&d, column, depth);
            prop_assert!((shown.first..shown.first + shown.len).contains(&column));
            let cells: Vec<_> = shown.cells().collect();
            prop_assert_eq!(cells.first().map(|cell| cell.start), Some(shown.first));
            prop_assert_eq!(cells.last().map(|cell| cell.end), Some(shown.first + shown.len));
            prop_assert!(cells.windows(2).all(|pair| pair[0].end == pair[1].start));
            prop_assert!(cells.len() <= MOST_COLUMNS.max(MOST_BLOCKS));
            prop_assert!(shown.each == 1 || cells.len() <= MOST_BLOCKS);
        }

        #[test]
        fn columns_and_ranks_are_inverse_and_members_add_up(
            tp in 1usize..5, cp in 1usize..4, dp in 1usize..40, pp in 1usize..5, at in 0.0..1.0f64,
        ) {
            let d = degrees(tp, cp, dp, pp);
            let grid = RankGrid::new(d).expect("valid");
            let rank = ((grid.world_size() as f64 * at) as usize).min(grid.world_size() - 1);
            let stage = grid.coordinates(rank).pp;
            prop_assert_eq!(rank_at(&grid, stage, column(&grid, rank)), rank);
            for axis in Axis::ALL {
                let stages = highlighted(&grid, axis, rank);
                let shown = blocks(&d, column(&grid, rank), 0);
                let counted: usize = stages
                    .iter()
                    .map(|stage| shown.cells().map(|cell| members(stage, &cell)).sum::<usize>())
                    .sum();
                prop_assert_eq!(counted, grid.group(axis, rank).len());
            }
        }
    }
}
