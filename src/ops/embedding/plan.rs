//! Which tokens add up to which row of the embedding's gradient, as tables for a GPU.

/// Most tokens of a run: one after the other, while all runs go side by side.
const RUN: usize = 32;

/// The tables of `kernels/embedding.cu` for one list of ids. Their lengths depend on the number of ids alone: what is not needed is 0.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    /// Tokens sorted by id, equal ids in their order, `[N]`.
    pub order: Vec<u32>,
    /// First place in `order`, places, target, `[N, 3]`.
    pub runs: Vec<u32>,
    /// Id, first row of partial sums, rows, `[several(N), 3]`.
    pub several: Vec<u32>,
}

impl Plan {
    /// Sorts `ids` of a table with `vocabulary` rows.
    pub fn new(ids: &[u32], vocabulary: usize) -> Self {
        let mut order: Vec<u32> = (0..ids.len() as u32).collect();
        order.sort_by_key(|&n| ids[n as usize]); // stable: equal ids stay in the order of the tokens
        let mut runs = Vec::with_capacity(3 * ids.len());
        let mut several = Vec::with_capacity(3 * Self::several(ids.len()));
        let (mut first, mut partials) = (0, 0);
        for group in order.chunk_by(|&a, &b| ids[a as usize] == ids[b as usize]) {
            let id = ids[group[0] as usize];
            let count = group.len().div_ceil(RUN);
            if count > 1 {
                several.extend([id, partials, count as u32]);
            }
            for places in group.chunks(RUN) {
                let target = if count > 1 {
                    partials += 1;
                    vocabulary as u32 + partials - 1
                } else {
                    id
                };
                runs.extend([first, places.len() as u32, target]);
                first += places.len() as u32;
            }
        }
        runs.resize(3 * ids.len(), 0);
        several.resize(3 * Self::several(ids.len()), 0);
        Self {
            order,
            runs,
            several,
        }
    }

    /// Most ids among `tokens` that have more than one run: each has at least 33 tokens.
    pub fn several(tokens: usize) -> usize {
        tokens / (RUN + 1)
    }

    /// Most rows of partial sums for `tokens`: an id has fewest tokens a row when it has 33 and 2 rows.
    pub fn partials(tokens: usize) -> usize {
        2 * tokens / (RUN + 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_token_is_in_one_run_of_its_id() {
        let mut ids = vec![7; 70];
        ids.extend([3, 9, 3]);
        let plan = Plan::new(&ids, 10);
        assert_eq!(plan.order[..3], [70, 72, 0]);
        assert_eq!(
            plan.runs[..15],
            [0, 2, 3, 2, 32, 10, 34, 32, 11, 66, 6, 12, 72, 1, 9]
        );
        assert_eq!(plan.runs.len(), 3 * ids.len());
        assert!(plan.runs[15..].iter().all(|&word| word == 0));
        assert_eq!(plan.several, [7, 0, 3, 0, 0, 0]);
    }

    #[test]
    fn tables_hold_every_way_in_which_ids_can_repeat() {
        for tokens in 0..200usize {
            for of_one in [1, 2, 31, 32, 33, 34, 64, 65, 66, 97] {
                let ids: Vec<u32> = (0..tokens).map(|n| (n / of_one) as u32).collect();
                let plan = Plan::new(&ids, tokens);
                assert_eq!(plan.order.len(), tokens);
                assert_eq!(plan.runs.len(), 3 * tokens);
                assert_eq!(plan.several.len(), 3 * Plan::several(tokens));
                let rows: u32 = plan.several.chunks(3).map(|id| id[2]).sum();
                assert!(rows as usize <= Plan::partials(tokens));
            }
        }
    }
}
