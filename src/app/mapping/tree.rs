//! Names with dots as a tree.

use std::collections::HashMap;

use super::Names;
use super::rows::numbered;

/// What stands for a name at the tree's end.
#[derive(Debug, Clone, Copy)]
pub struct Leaf {
    /// Equal for tensors that are the same but for their name.
    pub signature: u64,
    /// Scalars.
    pub parameters: u64,
    /// Whether something is wrong with it.
    pub is_problem: bool,
}

/// A group or a tensor.
#[derive(Debug, Clone)]
pub struct Node {
    /// The group that it is in; the root is its own.
    pub parent: u32,
    /// First and last of what is in it; 0 for none, since the root is in nothing.
    first: u32,
    last: u32,
    /// The next one in its group; 0 for none.
    next: u32,
    /// Its part of a name.
    label: (u32, u32),
    /// The name that ends here.
    pub leaf: Option<u32>,
    /// Names below, itself counted.
    pub tensors: u32,
    /// Of them, those with a problem.
    pub problems: u32,
    /// Scalars below.
    pub parameters: u64,
    /// Equal for groups that hold the same under the same labels.
    pub signature: u64,
}

/// Names as a tree; what they share up to a dot is a group.
#[derive(Debug, Clone)]
pub struct Tree {
    /// The names, which leaves are numbers of.
    pub names: Names,
    nodes: Vec<Node>,
}

/// The root.
pub(super) const ROOT: u32 = 0;

/// Mixes `value` into a hash.
pub(super) fn mix(hash: u64, value: u64) -> u64 {
    (hash ^ value)
        .wrapping_mul(0x9e37_79b9_7f4a_7c15)
        .rotate_left(29)
}

/// Mixes a text into a hash.
pub(super) fn mix_text(hash: u64, text: &str) -> u64 {
    text.bytes()
        .fold(mix(hash, text.len() as u64), |h, b| mix(h, u64::from(b)))
}

/// The parts of a name: `weight` and `bias` stay with what they are of.
fn parts(name: &str) -> impl Iterator<Item = &str> {
    let stem = name
        .strip_suffix(".weight")
        .or_else(|| name.strip_suffix(".bias"))
        .unwrap_or(name);
    let last = stem.rfind('.').map_or(0, |dot| dot + 1);
    let groups = (last > 0).then(|| &name[..last.saturating_sub(1)]);
    groups
        .into_iter()
        .flat_map(|groups| groups.split('.'))
        .chain(std::iter::once(&name[last..]))
}

impl Tree {
    /// The tree of `names`, in their order, with what `leaf` says of each.
    pub fn new(names: Names, leaf: impl Fn(usize) -> Leaf) -> Self {
        let mut nodes = vec![Node::new(ROOT, (0, 0))];
        let mut groups: HashMap<(u32, &str), u32> = HashMap::new();
        // Groups of the name before, each with its label: most names go on in them.
        let mut path: Vec<(u32, &str)> = Vec::new();
        for index in 0..names.len() {
            let name = names.get(index);
            let mut at = ROOT;
            let mut offset = names.start(index);
            let mut depth = 0;
            let mut parts = parts(name).peekable();
            while let Some(label) = parts.next() {
                let place = (offset, label.len() as u32);
                offset += place.1 + 1;
                if parts.peek().is_none() {
                    let node = add(&mut nodes, at, place);
                    nodes[node as usize].leaf = Some(index as u32);
                    break;
                }
                at = match path.get(depth) {
                    Some(&(node, same)) if same == label => node,
                    _ => {
                        path.truncate(depth);
                        let node = *groups
                            .entry((at, label))
                            .or_insert_with(|| add(&mut nodes, at, place));
                        path.push((node, label));
                        node
                    }
                };
                depth += 1;
            }
            path.truncate(depth);
        }
        drop(groups);
        let mut tree = Self { names, nodes };
        tree.sum(leaf);
        tree
    }

    /// Adds up from the leaves; whatever is in a group has a higher number than it.
    fn sum(&mut self, leaf: impl Fn(usize) -> Leaf) {
        for index in (0..self.nodes.len()).rev() {
            let node = &mut self.nodes[index];
            if let Some(name) = node.leaf {
                let leaf = leaf(name as usize);
                node.tensors = 1;
                node.problems = u32::from(leaf.is_problem);
                node.parameters = leaf.parameters;
                node.signature = mix(leaf.signature, 1);
            }
            let node = self.nodes[index].clone();
            if index == ROOT as usize {
                break;
            }
            let (start, len) = node.label;
            let hash = mix_text(node.signature, self.names.part(start, len));
            let parent = &mut self.nodes[node.parent as usize];
            parent.tensors += node.tensors;
            parent.problems += node.problems;
            parent.parameters += node.parameters;
            parent.signature = parent.signature.wrapping_add(mix(hash, 2));
        }
    }

    /// A node.
    pub fn node(&self, node: u32) -> &Node {
        &self.nodes[node as usize]
    }

    /// What a node is called in its group.
    pub fn label(&self, node: u32) -> &str {
        let (start, len) = self.node(node).label;
        self.names.part(start, len)
    }

    /// What is in a group.
    pub fn children(&self, node: u32) -> impl Iterator<Item = u32> + '_ {
        let first = self.node(node).first;
        std::iter::successors(Some(first), |&node| Some(self.node(node).next))
            .take_while(|&node| node != ROOT)
    }

    /// The only thing in a group, if there is one; layers keep their own row.
    pub fn only(&self, node: u32) -> Option<u32> {
        let group = self.node(node);
        let is_number = |node| self.label(node).bytes().all(|b| b.is_ascii_digit());
        (group.first != ROOT && group.first == group.last && !is_number(group.first))
            .then_some(group.first)
    }

    /// Labels from the root, with dots.
    pub fn path(&self, node: u32) -> String {
        let mut labels = Vec::new();
        let mut at = node;
        while at != ROOT {
            labels.push(self.label(at));
            at = self.node(at).parent;
        }
        labels.reverse();
        labels.join(".")
    }

    /// Siblings that are called like a node but for their number, and hold the same; the node is one of them.
    pub fn equals(&self, node: u32) -> Vec<u32> {
        let Some((stem, _)) = numbered(self.label(node)) else {
            return vec![node];
        };
        let is_equal = |&other: &u32| {
            self.node(other).signature == self.node(node).signature
                && numbered(self.label(other)).is_some_and(|(s, _)| s == stem)
        };
        self.children(self.node(node).parent)
            .filter(is_equal)
            .collect()
    }

    /// A node and the groups around it, from the inside.
    pub fn way(&self, node: u32) -> Vec<u32> {
        let around = |&node: &u32| (node != ROOT).then(|| self.node(node).parent);
        let mut way: Vec<u32> = std::iter::successors(Some(node), around).collect();
        way.retain(|&node| node != ROOT);
        way
    }

    /// Paths of the groups around a node, the outermost first, a group of one thing joined with it.
    pub fn groups_around(&self, node: u32) -> Vec<String> {
        let mut paths = Vec::new();
        let mut at = self.node(node).parent;
        while at != ROOT {
            if self.only(at).is_none() {
                paths.push(self.path(at));
            }
            at = self.node(at).parent;
        }
        paths.reverse();
        paths
    }

    /// The node of a name.
    pub fn find(&self, leaf: u32) -> Option<u32> {
        let found = self.nodes.iter().position(|node| node.leaf == Some(leaf))?;
        Some(found as u32)
    }
}

impl Node {
    fn new(parent: u32, label: (u32, u32)) -> Self {
        Self {
            parent,
            first: ROOT,
            last: ROOT,
            next: ROOT,
            label,
            leaf: None,
            tensors: 0,
            problems: 0,
            parameters: 0,
            signature: 0,
        }
    }
}

fn add(nodes: &mut Vec<Node>, parent: u32, label: (u32, u32)) -> u32 {
    let new = nodes.len() as u32;
    nodes.push(Node::new(parent, label));
    let group = &mut nodes[parent as usize];
    let before = std::mem::replace(&mut group.last, new);
    if before == ROOT {
        group.first = new;
    } else {
        nodes[before as usize].next = new;
    }
    new
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(names: &[&str]) -> Tree {
        Tree::new(Names::new(names.iter().copied()), |i| Leaf {
            signature: 7,
            parameters: 10,
            is_problem: i == 1,
        })
    }

    #[test]
    fn names_that_return_to_a_group_are_in_it_once() {
        let tree = tree(&["m.a.w0", "m.b.w0", "m.a.w1", "m.b.w1", "norm.weight"]);
        let top: Vec<&str> = tree.children(ROOT).map(|n| tree.label(n)).collect();
        assert_eq!(top, ["m", "norm.weight"]);
        let m = tree.children(ROOT).next().expect("it was added");
        let inside: Vec<(String, u32, u32)> = tree
            .children(m)
            .map(|n| (tree.path(n), tree.node(n).tensors, tree.node(n).problems))
            .collect();
        assert_eq!(inside, [("m.a".into(), 2, 0), ("m.b".into(), 2, 1)]);
        assert_eq!(tree.node(ROOT).parameters, 50);
        assert_eq!(
            tree.find(4).map(|n| tree.path(n)),
            Some("norm.weight".into())
        );
    }

    #[test]
    fn equal_groups_have_equal_signatures() {
        let tree = tree(&["l.0.q.weight", "l.0.k", "l.1.q.weight", "l.1.k", "l.2.k"]);
        let layers = tree.only(ROOT).expect("one group");
        let signatures: Vec<u64> = tree
            .children(layers)
            .map(|n| tree.node(n).signature)
            .collect();
        assert_eq!(signatures[0], signatures[1]);
        assert_ne!(signatures[0], signatures[2]);
        assert_eq!(tree.only(layers), None);
    }
}
