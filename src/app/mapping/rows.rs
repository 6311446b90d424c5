//! The lines of the tree.

use std::collections::{BTreeSet, HashMap};

use super::tree::{ROOT, Tree};

/// A line of the tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// How far it is indented.
    pub depth: usize,
    /// What it is called at its place; of a search's match the whole name.
    pub label: String,
    /// What it stands for.
    pub content: Content,
}

/// What a row stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Content {
    /// Other rows, shown below it while it is open.
    Group {
        /// Its node.
        node: u32,
        /// Whether they are shown.
        open: bool,
    },
    /// A tensor: the number of its name.
    Tensor(u32),
    /// Siblings equal to the one above.
    Same {
        /// The one that they equal.
        node: u32,
        /// How many.
        count: usize,
        /// Scalars of all of them.
        parameters: u64,
    },
}

/// What of a tree is shown.
#[derive(Debug, Clone, Copy)]
pub(super) struct Shown<'a> {
    /// Paths of open groups.
    pub open: &'a BTreeSet<String>,
    /// Whether equal siblings are shown once.
    pub collapsed: bool,
    /// Whether only tensors with a problem are shown.
    pub problems: bool,
    /// Nodes that are shown by themselves even if others equal them: the way to a tensor that was searched for.
    pub apart: &'a [u32],
}

/// The lines of a tree.
pub(super) fn rows(tree: &Tree, shown: Shown) -> Vec<Row> {
    let mut list = Vec::new();
    inside(tree, ROOT, 0, "", shown, &mut list);
    list
}

/// Numbers as ranges: `0-2, 4-6, 8`.
pub fn ranges(numbers: &[usize]) -> String {
    let mut parts: Vec<(usize, usize)> = Vec::new();
    for &n in numbers {
        match parts.last_mut() {
            Some((_, last)) if *last + 1 == n => *last = n,
            _ => parts.push((n, n)),
        }
    }
    let text = |(first, last): (usize, usize)| {
        if first == last {
            first.to_string()
        } else {
            format!("{first}-{last}")
        }
    };
    parts.into_iter().map(text).collect::<Vec<_>>().join(", ")
}

/// A label that ends in a number, as what is before it and the number.
pub(super) fn numbered(label: &str) -> Option<(&str, usize)> {
    let stem = label.trim_end_matches(|c: char| c.is_ascii_digit());
    let number = label[stem.len()..].parse().ok()?;
    Some((stem, number))
}

fn inside(tree: &Tree, group: u32, depth: usize, path: &str, shown: Shown, list: &mut Vec<Row>) {
    // Of equal siblings, which one stands for them and which numbers the others have.
    let mut first: HashMap<(&str, u64), u32> = HashMap::new();
    let mut equal: HashMap<u32, Vec<usize>> = HashMap::new();
    let is_shown = |node: u32| !shown.problems || tree.node(node).problems > 0;
    let children: Vec<u32> = tree.children(group).filter(|&n| is_shown(n)).collect();
    let mut shown_ones = Vec::with_capacity(children.len());
    for node in children {
        if shown.collapsed
            && let Some((stem, number)) = numbered(tree.label(node))
        {
            let key = (stem, tree.node(node).signature);
            let one = *first.entry(key).or_insert(node);
            if one != node && !shown.apart.contains(&node) {
                equal.entry(one).or_default().push(number);
                continue;
            }
        }
        shown_ones.push(node);
    }
    for node in shown_ones {
        one(tree, node, depth, path, shown, list);
        let Some(numbers) = equal.get(&node) else {
            continue;
        };
        let stem = numbered(tree.label(node)).map_or("", |(stem, _)| stem);
        let label = match (numbers.as_slice(), stem) {
            (_, "") => ranges(numbers),
            ([only], _) => format!("{stem}{only}"),
            ([first, .., last], _) => format!("{stem}{first} .. {stem}{last}"),
            ([], _) => String::new(),
        };
        list.push(Row {
            depth,
            label,
            content: Content::Same {
                node,
                count: numbers.len(),
                parameters: tree.node(node).parameters * numbers.len() as u64,
            },
        });
    }
}

/// A group or tensor; a group of one thing and the thing share a line.
fn one(tree: &Tree, node: u32, depth: usize, path: &str, shown: Shown, list: &mut Vec<Row>) {
    let mut node = node;
    let mut label = tree.label(node).to_owned();
    while let Some(only) = tree.only(node) {
        node = only;
        label = format!("{label}.{}", tree.label(only));
    }
    if let Some(leaf) = tree.node(node).leaf {
        let content = Content::Tensor(leaf);
        list.push(Row {
            depth,
            label,
            content,
        });
        return;
    }
    let path = if path.is_empty() {
        label.clone()
    } else {
        format!("{path}.{label}")
    };
    let open = shown.open.contains(&path) || shown.problems;
    list.push(Row {
        depth,
        label,
        content: Content::Group { node, open },
    });
    if open {
        inside(tree, node, depth + 1, &path, shown, list);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::app::mapping::Names;
    use crate::app::mapping::tree::Leaf;

    #[test]
    fn equal_layers_are_told_as_ranges_and_another_breaks_out() {
        let mut names = Vec::new();
        for layer in 0..8 {
            names.push(format!("decoder.layers.{layer}.q.weight"));
            if layer == 3 || layer == 7 {
                names.push(format!("decoder.layers.{layer}.k.weight"));
            }
        }
        names.push("decoder.norm.weight".into());
        let leaf = |i: usize| Leaf {
            // The tensor of layer 5 has another shape.
            signature: u64::from(i == 6),
            parameters: 1,
            is_problem: i == 6,
        };
        let tree = Tree::new(Names::new(names.iter().map(String::as_str)), leaf);
        let open = ["decoder", "decoder.layers"].map(String::from).into();
        let mut shown = Shown {
            open: &open,
            collapsed: true,
            problems: false,
            apart: &[],
        };
        let labels =
            |shown| -> Vec<String> { rows(&tree, shown).into_iter().map(|r| r.label).collect() };
        let expected = [
            "decoder",
            "layers",
            "0.q.weight",
            "1-2, 4, 6",
            "3",
            "7",
            "5.q.weight",
            "norm.weight",
        ];
        assert_eq!(labels(shown), expected);
        shown.problems = true;
        assert_eq!(labels(shown), ["decoder", "layers", "5.q.weight"]);
        let layers = tree.only(tree.children(ROOT).next().expect("decoder"));
        assert_eq!(layers, None, "it has a norm too");
        let layer_2 = tree.find(2).expect("the tensor of layer 2");
        let way = tree.way(layer_2);
        (shown.problems, shown.apart) = (false, &way);
        assert!(
            labels(shown).contains(&"1, 4, 6".to_owned()),
            "{:?}",
            labels(shown)
        );
        (shown.apart, shown.collapsed) = (&[], false);
        assert_eq!(labels(shown).len(), 11);
    }

    #[test]
    fn numbers_become_ranges() {
        assert_eq!(ranges(&[0, 1, 2, 4, 5, 6, 8]), "0-2, 4-6, 8");
        assert_eq!(ranges(&[]), "");
    }
}
