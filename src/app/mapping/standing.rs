//! How it stands with the tensors of a model, by what files have of them.

use std::collections::HashSet;

use super::Files;
use crate::mapping::{Convention, ProblemKind, View};

/// How it stands with a tensor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Standing {
    /// It has its partner.
    Fine,
    /// The files lack it: without a source, Megatron would keep its random initialisation.
    Missing,
    /// The files have it with a wrong shape or type, or twice.
    Wrong,
    /// The files have it and the model has no place for it.
    Extra,
}

/// How it stands with every tensor, by the files' audit; gives the tensors without a place.
pub(super) fn judge(
    files: &Files,
    entries: &mut [Standing],
    sources: &mut [Standing],
    huggingface: &View,
) -> Vec<usize> {
    let mut wrong: HashSet<&str> = HashSet::new();
    let mut strange: HashSet<&str> = HashSet::new();
    for problem in &files.audit.problems {
        match &problem.kind {
            ProblemKind::Extra => strange.insert(problem.tensor.as_str()),
            ProblemKind::Shape { .. } | ProblemKind::DType(_) | ProblemKind::Twice { .. } => {
                wrong.insert(problem.tensor.as_str())
            }
            _ => false,
        };
    }
    let standing = |tensor: usize| match files.audit.partners.get(tensor).copied().flatten() {
        None => Standing::Missing,
        Some(stored) if wrong.contains(files.stored[stored].name.as_str()) => Standing::Wrong,
        Some(_) => Standing::Fine,
    };
    let is_hf = files.view.convention == Convention::HuggingFace;
    for (at, tensor) in files.view.tensors.iter().enumerate() {
        let standing = standing(at);
        if is_hf && let Some(source) = sources.get_mut(at) {
            *source = standing;
        }
        for piece in &tensor.pieces {
            let entry = &mut entries[piece.entry as usize];
            *entry = standing.max(*entry);
        }
    }
    if !is_hf {
        for (source, tensor) in sources.iter_mut().zip(&huggingface.tensors) {
            let worst = tensor
                .pieces
                .iter()
                .map(|piece| entries[piece.entry as usize]);
            *source = worst.max().unwrap_or(Standing::Fine);
        }
    }
    let stored = files.stored.iter().enumerate();
    stored
        .filter(|(_, tensor)| strange.contains(tensor.name.as_str()))
        .map(|(at, _)| at)
        .collect()
}
