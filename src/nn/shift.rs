//! Shifting tokens, labels and masks by one, inside each sequence.

use crate::ops::CuSeqlens;

use super::NnError;

/// Every value takes the place of the one before it; the last of each sequence becomes the default, 0.
///
/// `[11 12 13 | 21 22]` becomes `[12 13 0 | 22 0]`.
pub fn shift<T: Copy + Default>(values: &[T], cu_seqlens: &CuSeqlens) -> Vec<T> {
    let mut shifted = vec![T::default(); values.len()];
    for segment in cu_seqlens.segments() {
        if let Some(last) = segment
            .end
            .checked_sub(1)
            .filter(|last| *last > segment.start)
        {
            shifted[segment.start..last].copy_from_slice(&values[segment.start + 1..=last]);
        }
    }
    shifted
}

/// [`shift`] of a batch that context parallelism has cut: one `Vec` a rank, in and out.
///
/// Each sequence is cut into `2 * cp` chunks, of which rank `r` holds chunks `r` and `2 * cp - 1 - r`, sequence after
/// sequence. The last value of a chunk becomes the first of the chunk that follows it in the sequence, which lies on a
/// neighbour; the last chunk ends with the default. `cu_seqlens` are those of the whole batch.
///
/// # Errors
/// When a sequence is not divisible by `2 * cp`, or the ranks do not hold the same number of values.
pub fn shift_context_parallel<T: Copy + Default>(
    ranks: &[Vec<T>],
    cu_seqlens: &CuSeqlens,
) -> Result<Vec<Vec<T>>, NnError> {
    let cp = ranks.len();
    let local = cu_seqlens.tokens() / cp.max(1);
    if let Some(rank) = ranks.iter().find(|rank| rank.len() != local) {
        return Err(NnError::BatchLength {
            part: "share of a context-parallel rank",
            tokens: local,
            found: rank.len(),
        });
    }
    let mut shifted = ranks.to_vec();
    for segment in cu_seqlens.segments() {
        let chunk = segment.len() / (2 * cp);
        if chunk * 2 * cp != segment.len() {
            return Err(NnError::UnevenContextParallel {
                length: segment.len(),
                chunks: 2 * cp,
            });
        }
        // Where chunk `c` lies: its rank, and its first place there.
        let first = segment.start / cp;
        let place = |c: usize| {
            if c < cp {
                (c, first)
            } else {
                (2 * cp - 1 - c, first + chunk)
            }
        };
        for c in 0..2 * cp {
            let (rank, start) = place(c);
            let end = start + chunk;
            shifted[rank][start..end - 1].copy_from_slice(&ranks[rank][start + 1..end]);
            shifted[rank][end - 1] = if c + 1 < 2 * cp {
                let (next, start) = place(c + 1);
                ranks[next][start]
            } else {
                T::default()
            };
        }
    }
    Ok(shifted)
}
