//! Writing `.metadata`: the object that PyTorch would pickle, class by class and attribute by attribute.

use std::collections::HashMap;

use super::{Chunk, Item, Metadata};
use crate::base::DType;
use crate::checkpoint::torch_dist::pickle::{Memo, Writer};

const METADATA: &str = "torch.distributed.checkpoint.metadata";
const FILESYSTEM: &str = "torch.distributed.checkpoint.filesystem";

/// Entries that are put into a dict or list at once, as Python's pickler does, so that no reader's stack gets deep.
const BATCH: usize = 1000;

/// The bytes of `.metadata`. `save_id` tells one save from another; readers ignore it.
pub fn write(metadata: &Metadata, save_id: &str) -> Vec<u8> {
    let mut out = Out {
        w: Writer::new(4),
        texts: HashMap::new(),
        globals: HashMap::new(),
        last: None,
    };
    out.object(METADATA, "Metadata");
    out.state();
    out.text("state_dict_metadata");
    out.state_dict(metadata);
    out.text("planner_data");
    out.w.none();
    out.text("storage_data");
    out.storage(metadata);
    out.text("storage_meta");
    out.object(METADATA, "StorageMeta");
    out.state();
    out.text("checkpoint_id");
    out.w.none();
    out.text("save_id");
    out.text(save_id);
    out.text("load_id");
    out.w.none();
    out.text("modules");
    out.w.empty_list();
    out.built();
    out.text("version");
    out.text("1.0.0");
    out.built();
    out.w.finish()
}

struct Out<'a> {
    w: Writer,
    texts: HashMap<&'a str, Memo>,
    globals: HashMap<(&'static str, &'static str), Memo>,
    /// The last place that was written: keys that share an item share it.
    last: Option<(Item, Memo)>,
}

impl<'a> Out<'a> {
    /// A text; a reference if it was written before.
    fn text(&mut self, text: &'a str) {
        if let Some(memo) = self.texts.get(text) {
            self.w.get(*memo);
        } else {
            self.w.text(text);
            self.texts.insert(text, self.w.memoize());
        }
    }

    /// A class or function; a reference if it was written before.
    fn global(&mut self, module: &'static str, name: &'static str) {
        if let Some(memo) = self.globals.get(&(module, name)) {
            self.w.get(*memo);
        } else {
            self.w.global(module, name);
            self.globals.insert((module, name), self.w.memoize());
        }
    }

    /// An object without state.
    fn object(&mut self, module: &'static str, name: &'static str) {
        self.global(module, name);
        self.w.empty_tuple();
        self.w.new_object();
    }

    /// Begins the attributes of the object on top.
    fn state(&mut self) {
        self.w.empty_dict();
        self.w.mark();
    }

    /// Ends them.
    fn built(&mut self) {
        self.w.set_items();
        self.w.build();
    }

    fn size(&mut self, sizes: &[usize]) {
        self.global("torch", "Size");
        self.w.ints(sizes.iter().map(|&n| n as u64));
        self.w.tuple1();
        self.w.reduce();
    }

    fn state_dict(&mut self, metadata: &'a Metadata) {
        self.w.empty_dict();
        for batch in metadata.tensors.chunks(BATCH) {
            self.w.mark();
            for tensor in batch {
                self.text(&tensor.key);
                self.object(METADATA, "TensorStorageMetadata");
                self.state();
                self.text("properties");
                self.properties(tensor.dtype);
                self.text("size");
                self.size(&tensor.shape.0);
                self.text("chunks");
                self.w.empty_list();
                for chunks in tensor.chunks.chunks(BATCH) {
                    self.w.mark();
                    for chunk in chunks {
                        self.object(METADATA, "ChunkStorageMetadata");
                        self.state();
                        self.text("offsets");
                        self.size(&chunk.offsets);
                        self.text("sizes");
                        self.size(&chunk.sizes);
                        self.built();
                    }
                    self.w.appends();
                }
                self.built();
            }
            self.w.set_items();
        }
        for batch in metadata.objects.chunks(BATCH) {
            self.w.mark();
            for object in batch {
                self.text(&object.key);
                self.object(METADATA, "BytesStorageMetadata");
            }
            self.w.set_items();
        }
    }

    /// Five fields, which every version reads; the sixth (strides) came with PyTorch 2.8 and may be left out.
    fn properties(&mut self, dtype: DType) {
        self.object(METADATA, "TensorProperties");
        self.w.mark();
        self.global("torch", dtype.name());
        self.global("torch.serialization", "_get_layout");
        self.text("torch.strided");
        self.w.tuple1();
        self.w.reduce();
        self.w.bool(false);
        self.global(METADATA, "_MEM_FORMAT_ENCODING");
        self.w.int(0);
        self.w.tuple1();
        self.w.reduce();
        self.w.bool(false);
        self.w.tuple();
        self.w.build();
    }

    fn storage(&mut self, metadata: &'a Metadata) {
        let tensors = metadata.tensors.iter().flat_map(|tensor| {
            let many = tensor.chunks.len() > 1;
            let chunks = tensor.chunks.iter().enumerate();
            chunks
                .map(move |(i, chunk)| (&tensor.key, Some((many.then_some(i), chunk)), chunk.item))
        });
        let objects = metadata.objects.iter();
        let objects = objects.map(|object| (&object.key, None, object.item));
        let mut entries = tensors.chain(objects).peekable();
        self.w.empty_dict();
        while entries.peek().is_some() {
            self.w.mark();
            for (key, chunk, item) in entries.by_ref().take(BATCH) {
                self.index(key, chunk);
                self.info(&metadata.files[item.file], item);
            }
            self.w.set_items();
        }
    }

    /// `MetadataIndex`: key, number among the chunks if there are several, offset if it is a tensor.
    fn index(&mut self, key: &'a str, chunk: Option<(Option<usize>, &Chunk)>) {
        self.object(METADATA, "MetadataIndex");
        self.state();
        self.text("fqn");
        self.text(key);
        self.text("index");
        match chunk {
            Some((Some(number), _)) => self.w.count(number as u64),
            _ => self.w.none(),
        }
        if let Some((_, chunk)) = chunk {
            self.text("offset");
            self.size(&chunk.offsets);
        }
        self.built();
    }

    fn info(&mut self, path: &'a str, item: Item) {
        if let Some((last, memo)) = self.last
            && last == item
        {
            return self.w.get(memo);
        }
        self.object(FILESYSTEM, "_StorageInfo");
        self.state();
        self.text("relative_path");
        self.text(path);
        self.text("offset");
        self.w.count(item.offset);
        self.text("length");
        self.w.count(item.length);
        self.built();
        self.last = Some((item, self.w.memoize()));
    }
}
