//! `.metadata`: which tensors there are and where their chunks lie.
//!
//! PyTorch pickles an object `Metadata`. Of its attributes two matter: `state_dict_metadata` says for each key its type, shape and chunks (or that
//! it is an object), `storage_data` says for each chunk, by key and offset, which bytes of which file are its item. Fields came and went between
//! PyTorch 2.0 and 2.15; what is not needed is not looked at.

mod write;

use std::collections::HashMap;

use thiserror::Error;

use super::pickle::known::Kind;
use super::pickle::{self, Pickle, PickleError, Value};
use crate::base::{DType, Shape};

pub use write::write;

/// What `.metadata` says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Metadata {
    /// Every tensor, in the file's order.
    pub tensors: Vec<TensorMetadata>,
    /// Every object that is no tensor.
    pub objects: Vec<ObjectMetadata>,
    /// Paths of the files that items lie in, relative to the folder, as they are written. Nothing about them is checked here.
    pub files: Vec<String>,
}

/// A tensor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TensorMetadata {
    /// Its key.
    pub key: String,
    /// Type of its scalars.
    pub dtype: DType,
    /// Its extents.
    pub shape: Shape,
    /// Its parts.
    pub chunks: Vec<Chunk>,
}

/// A box of a tensor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chunk {
    /// Index of its first element in every dim.
    pub offsets: Vec<usize>,
    /// Its extents.
    pub sizes: Vec<usize>,
    /// Where it lies.
    pub item: Item,
}

/// An object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObjectMetadata {
    /// Its key.
    pub key: String,
    /// Where it lies.
    pub item: Item,
}

/// Bytes of a file: an archive of `torch.save`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Item {
    /// Index into [`Metadata::files`].
    pub file: usize,
    /// First byte.
    pub offset: u64,
    /// Number of bytes.
    pub length: u64,
}

/// Why a `.metadata` was refused.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum MetadataError {
    /// No pickle, or one that asks for more than data.
    #[error(transparent)]
    Pickle(#[from] PickleError),
    /// A value of another kind than PyTorch writes.
    #[error("{place} is {found}, not {expected}")]
    Kind {
        /// Key and attribute.
        place: String,
        /// What PyTorch writes.
        expected: &'static str,
        /// What is there.
        found: String,
    },
    /// Scalars of a type that Trestle does not handle.
    #[error("{key} is of type {dtype}, which cannot be read")]
    DType {
        /// The tensor.
        key: String,
        /// Its type.
        dtype: String,
    },
    /// A key that is there twice.
    #[error("{key} is there twice")]
    Twice {
        /// The key, with the offset for a chunk.
        key: String,
    },
    /// A chunk or object without an item.
    #[error("{key} has no entry in storage_data")]
    NoItem {
        /// The key, with the offset for a chunk.
        key: String,
    },
    /// A chunk of another number of dims than its tensor.
    #[error("{key} has {dims} dims, but a chunk of it has {chunk}")]
    Dims {
        /// The tensor.
        key: String,
        /// Its dims.
        dims: usize,
        /// The chunk's.
        chunk: usize,
    },
    /// A tensor of more bytes than any file can hold.
    #[error("{key} is {shape}, which is more than any file can hold")]
    Large {
        /// The tensor.
        key: String,
        /// Its extents.
        shape: Shape,
    },
    /// More chunks than the file has bytes: lists that are shared to make them seem many.
    #[error("more than {bytes} chunks in {bytes} bytes")]
    TooMany {
        /// Bytes of the file.
        bytes: usize,
    },
    /// An item that was transformed before it was stored.
    #[error("{key} is stored through the transform {transform}, which cannot be undone here")]
    Transformed {
        /// The key.
        key: String,
        /// The transform.
        transform: String,
    },
}

/// Reads the bytes of a `.metadata` file.
///
/// # Errors
/// [`MetadataError`]; a global outside the [known ones](pickle::known) is one of them.
pub fn parse(bytes: &[u8]) -> Result<Metadata, MetadataError> {
    let pickle = pickle::parse(bytes)?;
    let walk = Walk {
        pickle: &pickle,
        budget: bytes.len(),
    };
    walk.metadata()
}

type Sizes<'p, 'a> = &'p [Value<'a>];

struct Walk<'p, 'a> {
    pickle: &'p Pickle<'a>,
    budget: usize,
}

impl<'p, 'a> Walk<'p, 'a> {
    fn metadata(mut self) -> Result<Metadata, MetadataError> {
        let root = self.pickle.root();
        let classes = ["Metadata", "MCoreMetadata"];
        self.of_class(root, &classes, || "the pickle".to_owned())?;
        let mut out = Metadata::default();
        let stored = self.storage(&mut out.files)?;
        let place = || "state_dict_metadata".to_owned();
        let entries = self.entries(self.attribute(root, "state_dict_metadata"), place)?;
        let mut seen = std::collections::HashSet::with_capacity(entries.len());
        for &(key, value) in entries {
            let Value::Str(key) = key else {
                return Err(self.kind(key, "a text", || "a key of state_dict_metadata".to_owned()));
            };
            if !seen.insert(key) {
                return Err(MetadataError::Twice {
                    key: key.to_owned(),
                });
            }
            let classes = ["TensorStorageMetadata", "BytesStorageMetadata"];
            let items = stored.get(key).map_or(&[][..], Vec::as_slice);
            if self.of_class(value, &classes, || key.to_owned())? == classes[0] {
                out.tensors.push(self.tensor(key, value, items)?);
            } else {
                let item = items.first().ok_or_else(|| no_item(key, None))?.1;
                out.objects.push(ObjectMetadata {
                    key: key.to_owned(),
                    item,
                });
            }
        }
        Ok(out)
    }

    fn tensor(
        &mut self,
        key: &'a str,
        value: Value<'a>,
        items: &[(Option<Sizes<'p, 'a>>, Item)],
    ) -> Result<TensorMetadata, MetadataError> {
        let dtype = self.dtype(key, self.attribute(value, "properties"))?;
        let size = self.attribute(value, "size");
        let shape = self.sizes(size, || format!("{key}: size"))?;
        // dims of no extent do not make the others harmless
        let mut dims = shape.iter().map(|&n| (n as u64).max(1));
        let bytes = dims.try_fold(dtype.size(), u64::checked_mul);
        if bytes.is_none_or(|bytes| bytes > i64::MAX as u64) {
            return Err(MetadataError::Large {
                key: key.to_owned(),
                shape: Shape(shape),
            });
        }
        let chunks = self.attribute(value, "chunks");
        let chunks = chunks.and_then(|chunks| self.pickle.sequence(chunks));
        let Some(chunks) = chunks else {
            let found = self.attribute(value, "chunks").unwrap_or(Value::None);
            return Err(self.kind(found, "a list", || format!("{key}: chunks")));
        };
        self.budget = match self.budget.checked_sub(chunks.len()) {
            Some(rest) => rest,
            None => {
                return Err(MetadataError::TooMany {
                    bytes: self.pickle.length(),
                });
            }
        };
        let by_offset: HashMap<Vec<usize>, Item> = if chunks.len() > 1 {
            let mut by_offset = HashMap::with_capacity(items.len());
            for (offset, item) in items {
                let offset = self.counts(offset.unwrap_or(&[]), || format!("{key}: offset"))?;
                if by_offset.insert(offset.clone(), *item).is_some() {
                    return Err(MetadataError::Twice {
                        key: format!("{key} at {offset:?}"),
                    });
                }
            }
            by_offset
        } else {
            HashMap::new()
        };
        let mut out = Vec::with_capacity(chunks.len());
        for &chunk in chunks {
            self.of_class(chunk, &["ChunkStorageMetadata"], || {
                format!("a chunk of {key}")
            })?;
            let offsets = self.attribute(chunk, "offsets");
            let offsets = self.sizes(offsets, || format!("{key}: offsets of a chunk"))?;
            let sizes = self.attribute(chunk, "sizes");
            let sizes = self.sizes(sizes, || format!("{key}: sizes of a chunk"))?;
            for dims in [offsets.len(), sizes.len()] {
                if dims != shape.len() {
                    return Err(MetadataError::Dims {
                        key: key.to_owned(),
                        dims: shape.len(),
                        chunk: dims,
                    });
                }
            }
            let item = if chunks.len() > 1 {
                by_offset.get(&offsets).copied()
            } else {
                let place = || format!("{key}: offset");
                let mut found = None;
                for (offset, item) in items {
                    if self.counts(offset.unwrap_or(&[]), place)? == offsets {
                        found = Some(*item);
                    }
                }
                found
            };
            let item = item.ok_or_else(|| no_item(key, Some(&offsets)))?;
            out.push(Chunk {
                offsets,
                sizes,
                item,
            });
        }
        Ok(TensorMetadata {
            key: key.to_owned(),
            dtype,
            shape: Shape(shape),
            chunks: out,
        })
    }

    /// The type of `TensorProperties`, whose state is a tuple that begins with it.
    fn dtype(&self, key: &str, properties: Option<Value<'a>>) -> Result<DType, MetadataError> {
        let place = || format!("{key}: properties");
        let properties = properties.unwrap_or(Value::None);
        self.of_class(properties, &["TensorProperties"], place)?;
        let state = self.pickle.object(properties).and_then(|(_, _, s)| s);
        let state = state.unwrap_or(Value::None);
        let first = match self.pickle.sequence(state) {
            Some(items) => items.first().copied(),
            None => self.pickle.get(state, "dtype"),
        };
        let layout = self.pickle.sequence(state).and_then(|s| s.get(1));
        let layout = layout.and_then(|layout| self.pickle.object(*layout));
        if let Some((_, args, _)) = layout
            && let Some([Value::Str(layout)]) = self.pickle.sequence(args)
            && *layout != "torch.strided"
        {
            return Err(MetadataError::DType {
                key: key.to_owned(),
                dtype: format!("{layout:.60}"),
            });
        }
        match first {
            Some(Value::Global(known)) => match known.kind {
                Kind::DType(dtype) => Ok(dtype),
                _ => Err(MetadataError::DType {
                    key: key.to_owned(),
                    dtype: known.to_string(),
                }),
            },
            other => Err(self.kind(other.unwrap_or(Value::None), "a dtype", place)),
        }
    }

    /// Items by key, each with its offset. Objects have none.
    #[expect(clippy::type_complexity, reason = "a map of lists of pairs")]
    fn storage(
        &self,
        files: &mut Vec<String>,
    ) -> Result<HashMap<&'a str, Vec<(Option<Sizes<'p, 'a>>, Item)>>, MetadataError> {
        let data = self.attribute(self.pickle.root(), "storage_data");
        let entries = self.entries(data, || "storage_data".to_owned())?;
        let mut out = HashMap::<&str, Vec<_>>::with_capacity(entries.len());
        let mut numbers = HashMap::<&str, usize>::new();
        for &(index, info) in entries {
            let place = || "a key of storage_data".to_owned();
            self.of_class(index, &["MetadataIndex"], place)?;
            let key = match self.attribute(index, "fqn") {
                Some(Value::Str(key)) => key,
                other => return Err(self.kind(other.unwrap_or(Value::None), "a text", place)),
            };
            let offset = match self.attribute(index, "offset") {
                None | Some(Value::None) => None,
                Some(offset) => {
                    let place = || format!("{key}: offset in storage_data");
                    let items = self.pickle.sequence(offset);
                    Some(items.ok_or_else(|| self.kind(offset, "a size", place))?)
                }
            };
            let place = || format!("{key}: storage_data");
            self.of_class(info, &["_StorageInfo"], place)?;
            let path = match self.attribute(info, "relative_path") {
                Some(Value::Str(path)) => path,
                other => return Err(self.kind(other.unwrap_or(Value::None), "a path", place)),
            };
            let count = |name: &str| {
                let value = self.attribute(info, name).unwrap_or(Value::None);
                let place = || format!("{key}: {name} in storage_data");
                value
                    .count()
                    .ok_or_else(|| self.kind(value, "a count", place))
            };
            if let Some(transforms) = self.attribute(info, "transform_descriptors")
                && let Some([first, ..]) = self.pickle.sequence(transforms)
            {
                return Err(MetadataError::Transformed {
                    key: key.to_owned(),
                    transform: self.shown(*first),
                });
            }
            let file = *numbers.entry(path).or_insert_with(|| {
                files.push(path.to_owned());
                files.len() - 1
            });
            let item = Item {
                file,
                offset: count("offset")?,
                length: count("length")?,
            };
            out.entry(key).or_default().push((offset, item));
        }
        Ok(out)
    }

    fn shown(&self, value: Value<'a>) -> String {
        let shown = pickle::Shown {
            pickle: self.pickle,
            value,
            limit: 60,
        };
        shown.to_string()
    }

    fn kind(
        &self,
        value: Value<'a>,
        expected: &'static str,
        place: impl Fn() -> String,
    ) -> MetadataError {
        MetadataError::Kind {
            place: place(),
            expected,
            found: self.pickle.kind(value),
        }
    }

    /// The name of an object's class, which must be one of these.
    fn of_class(
        &self,
        value: Value<'a>,
        names: &[&'static str],
        place: impl Fn() -> String,
    ) -> Result<&'static str, MetadataError> {
        match self.pickle.object(value) {
            Some((class, _, _)) if names.contains(&class.name) => Ok(class.name),
            _ => Err(self.kind(value, names[0], place)),
        }
    }

    /// An attribute of an object, by its state: a dict, or a pair whose second is the dict of slots.
    fn attribute(&self, object: Value<'a>, name: &str) -> Option<Value<'a>> {
        let (_, _, state) = self.pickle.object(object)?;
        let state = state?;
        if let Some([first, second]) = self.pickle.sequence(state) {
            let found = self.pickle.get(*second, name);
            return found.or_else(|| self.pickle.get(*first, name));
        }
        self.pickle.get(state, name)
    }

    fn entries(
        &self,
        value: Option<Value<'a>>,
        place: impl Fn() -> String,
    ) -> Result<&'p [(Value<'a>, Value<'a>)], MetadataError> {
        let value = value.unwrap_or(Value::None);
        let entries = self.pickle.dict(value);
        entries.ok_or_else(|| self.kind(value, "a dict", place))
    }

    fn sizes(
        &self,
        value: Option<Value<'a>>,
        place: impl Fn() -> String,
    ) -> Result<Vec<usize>, MetadataError> {
        let value = value.unwrap_or(Value::None);
        match self.pickle.sequence(value) {
            Some(items) => self.counts(items, place),
            None => Err(self.kind(value, "a size", place)),
        }
    }

    fn counts(
        &self,
        items: &[Value<'a>],
        place: impl Fn() -> String,
    ) -> Result<Vec<usize>, MetadataError> {
        /// More dims than any tensor has; a size that is shared by many chunks must not be long.
        const DIMS: usize = 32;
        if items.len() > DIMS {
            return Err(MetadataError::Kind {
                place: place(),
                expected: "a size of 32 dims at most",
                found: format!("one of {}", items.len()),
            });
        }
        let count = |value: &Value<'a>| {
            let n = value.count().and_then(|n| usize::try_from(n).ok());
            n.ok_or_else(|| self.kind(*value, "a count", &place))
        };
        items.iter().map(count).collect()
    }
}

fn no_item(key: &str, offsets: Option<&[usize]>) -> MetadataError {
    let key = match offsets {
        Some(offsets) => format!("{key} at {offsets:?}"),
        None => key.to_owned(),
    };
    MetadataError::NoItem { key }
}
