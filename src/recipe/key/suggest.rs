//! Which known word somebody meant.

/// The known words most like `word`, the best first, at most three; empty if none is like it.
pub(in crate::recipe) fn closest<'a>(
    word: &str,
    known: impl IntoIterator<Item = &'a str>,
) -> Vec<&'a str> {
    let mut scored: Vec<(usize, &str)> = known
        .into_iter()
        .filter_map(|candidate| {
            // Of a long text nobody meant a short word, and the distance costs its length squared.
            if word.len() > 100 {
                return None;
            }
            let distance = distance(word, candidate);
            let allowed = (word.chars().count().max(candidate.len()) / 3).clamp(1, 4);
            // A word that was cut short or spelled out: `micro_batch`, `core_attention`.
            let shared = word.bytes().zip(candidate.bytes());
            let shared = shared.take_while(|(a, b)| a == b).count();
            let is_form =
                shared >= 4 && (shared * 3 >= candidate.len() * 2 || shared == word.len());
            (distance <= allowed || is_form).then_some((distance, candidate))
        })
        .collect();
    scored.sort_by_key(|(distance, _)| *distance);
    scored.truncate(3);
    let best = scored.first().map_or(0, |(distance, _)| *distance);
    scored.retain(|(distance, _)| *distance <= best + 1);
    scored.into_iter().map(|(_, candidate)| candidate).collect()
}

/// Insertions, deletions, replacements and swaps of neighbours from `a` to `b`; letter case and `-` against `_` cost nothing.
fn distance(a: &str, b: &str) -> usize {
    let letters = |text: &str| -> Vec<char> {
        text.chars()
            .map(|c| {
                if c == '-' {
                    '_'
                } else {
                    c.to_ascii_lowercase()
                }
            })
            .collect()
    };
    let (a, b) = (letters(a), letters(b));
    let mut before: Vec<usize> = vec![0; b.len() + 1];
    let mut last: Vec<usize> = (0..=b.len()).collect();
    for i in 1..=a.len() {
        let mut row = vec![i; b.len() + 1];
        for j in 1..=b.len() {
            let replaced = last[j - 1] + usize::from(a[i - 1] != b[j - 1]);
            row[j] = replaced.min(last[j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                row[j] = row[j].min(before[j - 2] + 1);
            }
        }
        before = std::mem::replace(&mut last, row);
    }
    last[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn near_words_are_found_and_far_ones_are_not() {
        let known = ["sequence_parallel", "seq_length", "steps", "seed", "tp"];
        assert_eq!(closest("sequence_paralel", known), ["sequence_parallel"]);
        assert_eq!(closest("seq-length", known), ["seq_length"]);
        assert_eq!(closest("setps", known), ["steps"]);
        assert_eq!(closest("sequence", known), ["sequence_parallel"]);
        assert!(closest("flux_capacitor", known).is_empty());
    }
}
