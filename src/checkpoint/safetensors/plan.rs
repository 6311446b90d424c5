//! Files to be written: names, headers, and the place of every tensor, before the first byte.

use std::collections::BTreeMap;
use std::fmt::Write;

use serde_json::{Value, json};

use super::SINGLE;
use crate::base::{DType, Shape};

/// The files that a set of tensors goes to.
///
/// A writer puts each file's `header` at byte 0 and each tensor at its `offset`, in any order and from any thread; together they are every
/// byte of the files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// The files.
    pub files: Vec<PlannedFile>,
    /// Where each tensor goes, in the order in which they were given.
    pub tensors: Vec<PlannedTensor>,
    /// Text of `model.safetensors.index.json`, if there is more than one file.
    pub index: Option<String>,
}

/// A file to be written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlannedFile {
    /// Its name, without a folder.
    pub name: String,
    /// Its first bytes: the length, the JSON, and spaces up to a multiple of 8.
    pub header: Vec<u8>,
    /// Its size, header included.
    pub bytes: u64,
}

/// Where a tensor goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PlannedTensor {
    /// Index into [`Plan::files`].
    pub file: usize,
    /// Byte of the file at which it begins.
    pub offset: u64,
    /// Its size.
    pub bytes: u64,
}

impl Plan {
    /// Plans a Hugging Face directory: one file, or shards with an index.
    ///
    /// Tensors keep the order in which they are given; names are distinct. A shard is filled while its tensors stay within
    /// `max_shard_bytes`; a tensor that is larger by itself gets a shard of its own. This is how `huggingface_hub` cuts, and so are the names.
    pub fn new<N: AsRef<str>>(tensors: &[(N, Shape, DType)], max_shard_bytes: Option<u64>) -> Self {
        let shards = cut(tensors, max_shard_bytes.unwrap_or(u64::MAX));
        let count = shards.len();
        let names = (1..=count).map(|shard| match count {
            1 => SINGLE.to_owned(),
            _ => format!("model-{shard:05}-of-{count:05}.safetensors"),
        });
        let mut plan = Self {
            files: Vec::with_capacity(count),
            tensors: vec![
                PlannedTensor {
                    file: 0,
                    offset: 0,
                    bytes: 0
                };
                tensors.len()
            ],
            index: None,
        };
        for (name, members) in names.zip(&shards) {
            plan.add(name, tensors, members);
        }
        if count > 1 {
            plan.index = Some(plan.index_of(tensors));
        }
        plan
    }

    /// Plans one file of the given name.
    pub fn file<N: AsRef<str>>(name: &str, tensors: &[(N, Shape, DType)]) -> Self {
        let mut plan = Self::new::<N>(&[], None);
        plan.files.clear();
        plan.tensors = vec![
            PlannedTensor {
                file: 0,
                offset: 0,
                bytes: 0
            };
            tensors.len()
        ];
        let all: Vec<usize> = (0..tensors.len()).collect();
        plan.add(name.to_owned(), tensors, &all);
        plan
    }

    /// Bytes of all files, without the index.
    pub fn bytes(&self) -> u64 {
        self.files.iter().map(|file| file.bytes).sum()
    }

    /// Adds a file that holds the tensors in `members`.
    fn add<N: AsRef<str>>(
        &mut self,
        name: String,
        tensors: &[(N, Shape, DType)],
        members: &[usize],
    ) {
        // Written by hand: a tree of JSON values would take ten times as long for the hundred thousand tensors of a large model.
        let mut text = String::from(r#"{"__metadata__":{"format":"pt"}"#);
        let mut end = 0;
        for &member in members {
            let (name, shape, dtype) = &tensors[member];
            let start = end;
            end += size(shape, *dtype);
            let name = Value::from(name.as_ref());
            let dims: Vec<String> = shape.0.iter().map(ToString::to_string).collect();
            let (dtype, dims) = (dtype.safetensors_name(), dims.join(","));
            let _ = write!(
                text,
                r#",{name}:{{"dtype":"{dtype}","shape":[{dims}],"data_offsets":[{start},{end}]}}"#
            );
            self.tensors[member] = PlannedTensor {
                file: self.files.len(),
                offset: start,
                bytes: end - start,
            };
        }
        text.push('}');
        text.push_str(&" ".repeat(text.len().next_multiple_of(8) - text.len()));
        let mut header = (text.len() as u64).to_le_bytes().to_vec();
        header.extend_from_slice(text.as_bytes());
        for &member in members {
            self.tensors[member].offset += header.len() as u64;
        }
        self.files.push(PlannedFile {
            name,
            bytes: header.len() as u64 + end,
            header,
        });
    }

    /// The index's text, with names sorted as transformers writes them.
    fn index_of<N: AsRef<str>>(&self, tensors: &[(N, Shape, DType)]) -> String {
        let total: u64 = self.tensors.iter().map(|tensor| tensor.bytes).sum();
        let map: BTreeMap<&str, &str> = tensors
            .iter()
            .zip(&self.tensors)
            .map(|((name, ..), place)| (name.as_ref(), self.files[place.file].name.as_str()))
            .collect();
        let index = json!({ "metadata": { "total_size": total }, "weight_map": map });
        format!("{index:#}\n")
    }
}

fn size(shape: &Shape, dtype: DType) -> u64 {
    shape.elements() * dtype.size()
}

/// The members of each shard.
fn cut<N>(tensors: &[(N, Shape, DType)], limit: u64) -> Vec<Vec<usize>> {
    let mut shards = Vec::new();
    let (mut open, mut filled) = (Vec::new(), 0_u64);
    for (member, (_, shape, dtype)) in tensors.iter().enumerate() {
        let bytes = size(shape, *dtype);
        if bytes > limit {
            shards.push(vec![member]);
            continue;
        }
        if filled.saturating_add(bytes) > limit {
            shards.push(std::mem::take(&mut open));
            filled = 0;
        }
        open.push(member);
        filled += bytes;
    }
    if !open.is_empty() || shards.is_empty() {
        shards.push(open);
    }
    shards
}

#[cfg(test)]
mod tests {
    use super::super::{Header, Index};
    use super::*;

    fn tensors(lengths: &[usize]) -> Vec<(String, Shape, DType)> {
        let named = lengths.iter().enumerate();
        named
            .map(|(i, &n)| (format!("t{i}"), Shape::from([n]), DType::BF16))
            .collect()
    }

    fn files(plan: &Plan) -> Vec<usize> {
        plan.tensors.iter().map(|place| place.file).collect()
    }

    #[test]
    fn shards_are_filled_in_order_and_a_large_tensor_gets_its_own() {
        let plan = Plan::new(&tensors(&[2, 3, 9, 1, 4, 2]), Some(12));
        // 4 + 6 + 2 bytes fill a shard; 18 bytes go alone, before the shard that was open; 8 + 4 bytes are the rest.
        assert_eq!(files(&plan), [1, 1, 0, 1, 2, 2]);
        assert_eq!(plan.files[0].name, "model-00001-of-00003.safetensors");
        let index = Index::parse(plan.index.as_ref().unwrap().as_bytes()).unwrap();
        for (i, place) in plan.tensors.iter().enumerate() {
            let file = index.weight_map[&format!("t{i}")];
            assert_eq!(index.files[file], plan.files[place.file].name);
        }
        let total: Value = serde_json::from_str(plan.index.as_ref().unwrap()).unwrap();
        assert_eq!(total["metadata"]["total_size"], 42);
    }

    #[test]
    fn without_a_limit_there_is_one_file_and_no_index() {
        for plan in [
            Plan::new(&tensors(&[2, 3]), None),
            Plan::new(&tensors(&[]), None),
        ] {
            assert_eq!(plan.files.len(), 1);
            assert_eq!(plan.files[0].name, "model.safetensors");
            assert_eq!(plan.index, None);
        }
    }

    #[test]
    fn a_planned_header_reads_back() {
        let given = [
            ("quote \" and \u{e9}", Shape::from([3, 5]), DType::F32),
            ("scalar", Shape(Vec::new()), DType::F8E4M3),
            ("empty", Shape::from([0, 7]), DType::I64),
            ("last", Shape::from([2]), DType::Bool),
        ];
        let plan = Plan::file("tp0.safetensors", &given);
        let file = &plan.files[0];
        assert_eq!(
            (file.name.as_str(), file.header.len() % 8),
            ("tp0.safetensors", 0)
        );
        assert_eq!(plan.bytes(), file.header.len() as u64 + 60 + 1 + 2);
        let mut bytes = file.header.clone();
        bytes.resize(file.bytes as usize, 0);
        let header = Header::parse(&bytes).unwrap();
        assert_eq!(header.metadata["format"], "pt");
        assert_eq!(header.tensors.len(), given.len());
        for ((name, shape, dtype), place) in given.iter().zip(&plan.tensors) {
            let read = header.tensors.iter().find(|t| t.name == *name).unwrap();
            assert_eq!((&read.shape, read.dtype), (shape, *dtype));
            assert_eq!(read.extents[0].offset, place.offset);
        }
    }
}
