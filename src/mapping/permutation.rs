//! In which order a Megatron tensor has the rows of its sources.

use super::Source;

/// The order of rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Permutation {
    /// The sources one after another: a copy, gate before up, or the parts of a gated delta net.
    Concat,
    /// Attention with an output gate, grouped by key-value head: a group's queries, its gates, its key, its value. The sources are
    /// `q_proj` (query and gate of each head in turn), `k_proj`, `v_proj`.
    GatedQkv {
        /// Query heads.
        heads: usize,
        /// Key-value heads, which are the groups.
        kv_heads: usize,
        /// Rows of a head.
        head_dim: usize,
    },
    /// The vision tower's attention, head by head: query, key, value. The source has all queries, all keys, all values.
    HeadQkv {
        /// Heads.
        heads: usize,
        /// Rows of a head.
        head_dim: usize,
    },
}

/// Rows that come from one source in their order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Block {
    /// First row in the Megatron tensor.
    pub row: usize,
    /// Index of the source.
    pub source: usize,
    /// First row in the whole Hugging Face tensor.
    pub source_row: usize,
    /// Number of rows.
    pub rows: usize,
}

impl Permutation {
    /// The blocks in the order of the Megatron tensor's rows; together they have every row of every source once.
    pub fn blocks(self, sources: &[Source]) -> Vec<Block> {
        let mut list = List {
            sources,
            row: 0,
            blocks: Vec::new(),
        };
        match self {
            Self::Concat => {
                for (source, from) in sources.iter().enumerate() {
                    list.add(source, 0, from.rows.len());
                }
            }
            Self::GatedQkv {
                heads,
                kv_heads,
                head_dim: d,
            } => {
                let per_group = heads / kv_heads.max(1);
                for group in 0..kv_heads {
                    for half in [0, d] {
                        for head in group * per_group..(group + 1) * per_group {
                            list.add(0, head * 2 * d + half, d);
                        }
                    }
                    list.add(1, group * d, d);
                    list.add(2, group * d, d);
                }
            }
            Self::HeadQkv { heads, head_dim: d } => {
                for head in 0..heads {
                    for part in 0..3 {
                        list.add(0, (part * heads + head) * d, d);
                    }
                }
            }
        }
        list.blocks
    }
}

struct List<'a> {
    sources: &'a [Source],
    row: usize,
    blocks: Vec<Block>,
}

impl List<'_> {
    /// The next rows, from row `at` of a source's part; joined with the block before if they go on from it.
    fn add(&mut self, source: usize, at: usize, rows: usize) {
        let source_row = self.sources[source].rows.start + at;
        match self.blocks.last_mut() {
            Some(last) if last.source == source && last.source_row + last.rows == source_row => {
                last.rows += rows;
            }
            _ => self.blocks.push(Block {
                row: self.row,
                source,
                source_row,
                rows,
            }),
        }
        self.row += rows;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::Shape;

    /// The order of the sources' rows, numbered through.
    fn order(permutation: Permutation, rows: &[usize]) -> Vec<usize> {
        let sources: Vec<Source> = rows
            .iter()
            .map(|&n| Source {
                name: String::new(),
                shape: Shape(vec![n, 1]),
                rows: 0..n,
            })
            .collect();
        let start = |source: usize| rows[..source].iter().sum::<usize>();
        let blocks = permutation.blocks(&sources);
        blocks
            .iter()
            .flat_map(|b| (0..b.rows).map(move |i| start(b.source) + b.source_row + i))
            .collect()
    }

    #[test]
    fn gated_qkv_has_the_order_of_the_reference() {
        let permutation = Permutation::GatedQkv {
            heads: 4,
            kv_heads: 2,
            head_dim: 2,
        };
        let megatron = order(permutation, &[16, 4, 4]);
        let expected = [
            0, 1, 4, 5, 2, 3, 6, 7, 16, 17, 20, 21, 8, 9, 12, 13, 10, 11, 14, 15, 18, 19, 22, 23,
        ];
        assert_eq!(megatron, expected);
        let mut inverse = vec![0; 24];
        for (row, &from) in megatron.iter().enumerate() {
            inverse[from] = row;
        }
        let expected = [
            0, 1, 4, 5, 2, 3, 6, 7, 12, 13, 16, 17, 14, 15, 18, 19, 8, 9, 20, 21, 10, 11, 22, 23,
        ];
        assert_eq!(inverse, expected);
    }

    #[test]
    fn vision_qkv_has_the_order_of_the_reference() {
        let permutation = Permutation::HeadQkv {
            heads: 2,
            head_dim: 2,
        };
        let expected = [0, 1, 4, 5, 8, 9, 2, 3, 6, 7, 10, 11];
        assert_eq!(order(permutation, &[12]), expected);
    }
}
