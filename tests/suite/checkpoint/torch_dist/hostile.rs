//! Damaged and hostile checkpoints: each is refused with the file, the key and the numbers.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use proptest::prelude::*;
use tempfile::TempDir;
use trestle::base::{DType, Shape};
use trestle::checkpoint::CheckpointError;
use trestle::checkpoint::torch_dist::metadata::{self, Metadata, MetadataError};
use trestle::checkpoint::torch_dist::{Options, Reader, pickle, zip};

use super::write::write;

/// A checkpoint of two tensors, the first of which has four chunks.
fn checkpoint() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let tensors = vec![
        ("first.weight".to_owned(), Shape(vec![8, 4]), DType::F32),
        ("second.weight".to_owned(), Shape(vec![6]), DType::BF16),
    ];
    let options = Options {
        max_chunk_bytes: 32,
        extra_states: false,
        ..Options::default()
    };
    write(folder.path(), &tensors, options);
    folder
}

fn refused(folder: &Path) -> String {
    Reader::open(folder).unwrap_err().to_string()
}

/// What is done to a checkpoint's metadata.
type Damage = fn(&mut Metadata);

/// Rewrites `.metadata` after a change.
fn change(folder: &Path, change: impl FnOnce(&mut Metadata)) {
    let path = folder.join(".metadata");
    let mut metadata = metadata::parse(&fs::read(&path).unwrap()).unwrap();
    change(&mut metadata);
    fs::write(&path, metadata::write(&metadata, "changed")).unwrap();
}

/// Replaces some bytes of a file, the first or the last time they occur.
fn patch(path: &Path, from: &[u8], to: &[u8], last: bool) {
    assert_eq!(from.len(), to.len());
    let mut bytes = fs::read(path).unwrap();
    let mut places = bytes
        .windows(from.len())
        .enumerate()
        .filter(|(_, w)| *w == from);
    let place = if last {
        places.next_back()
    } else {
        places.next()
    };
    let at = place.unwrap().0;
    bytes[at..at + to.len()].copy_from_slice(to);
    fs::write(path, bytes).unwrap();
}

fn says(message: &str, parts: &[&str]) {
    for part in parts {
        assert!(message.contains(part), "{message:?} lacks {part:?}");
    }
}

#[test]
fn what_is_written_in_metadata_is_read_again() {
    let folder = checkpoint();
    change(folder.path(), |_| {});
    assert_eq!(Reader::open(folder.path()).unwrap().tensors.len(), 2);
}

#[test]
fn a_cut_metadata_says_the_byte() {
    let folder = checkpoint();
    let path = folder.path().join(".metadata");
    let bytes = fs::read(&path).unwrap();
    for cut in [0, 1, 2, 60, bytes.len() / 2, bytes.len() - 1] {
        fs::write(&path, &bytes[..cut]).unwrap();
        says(
            &refused(folder.path()),
            &[".metadata: pickle, byte", &format!("after {cut} bytes")],
        );
    }
}

#[test]
fn an_unknown_global_is_refused_in_metadata_and_in_an_item() {
    let folder = checkpoint();
    patch(
        &folder.path().join(".metadata"),
        b"StorageMeta",
        b"StorageMess",
        true,
    );
    let message = refused(folder.path());
    says(
        &message,
        &[
            "the global torch.distributed.checkpoint.metadata.StorageMess",
            "nothing was executed",
        ],
    );
    let folder = checkpoint();
    patch(
        &folder.path().join("__0_0.distcp"),
        b"FloatStorage",
        b"FloatRobbery",
        false,
    );
    let message = refused(folder.path());
    says(
        &message,
        &[
            "__0_0.distcp: first.weight, item at byte 0",
            "the global torch.FloatRobbery",
        ],
    );
}

#[test]
fn a_path_out_of_the_folder_is_refused() {
    for path in [
        "../../etc/xx",
        "/etc/passwd1",
        "a/../../../b",
        ".",
        "",
        "a\0b",
    ] {
        let folder = checkpoint();
        change(folder.path(), |metadata| {
            metadata.files[0] = path.to_owned();
        });
        says(
            &refused(folder.path()),
            &[
                "first.weight lies in",
                "not a file of the checkpoint's folder",
            ],
        );
    }
}

#[test]
fn a_missing_file_and_a_symlink_loop_are_named() {
    let folder = checkpoint();
    let file = folder.path().join("__0_0.distcp");
    let moved = folder.path().join("moved");
    fs::rename(&file, &moved).unwrap();
    let error = Reader::open(folder.path()).unwrap_err();
    says(
        &error.to_string(),
        &[
            "first.weight lies in",
            "__0_0.distcp, which cannot be opened: No such file",
        ],
    );
    says(&error.hint().unwrap(), &["copy the whole folder"]);
    symlink("__0_0.distcp", &file).unwrap();
    says(&refused(folder.path()), &["__0_0.distcp", "symbolic links"]);
    fs::remove_file(&file).unwrap();
    // a link to a file elsewhere is how caches store files
    symlink(&moved, &file).unwrap();
    Reader::open(folder.path()).unwrap();

    let metadata = folder.path().join(".metadata");
    fs::remove_file(&metadata).unwrap();
    symlink(".metadata", &metadata).unwrap();
    says(&refused(folder.path()), &[".metadata", "symbolic links"]);
    let save = tempfile::tempdir().unwrap();
    symlink("iter_0000001", save.path().join("iter_0000001")).unwrap();
    fs::write(save.path().join("latest_checkpointed_iteration.txt"), "1").unwrap();
    says(&refused(save.path()), &["iter_0000001", "symbolic links"]);
}

#[test]
fn a_cut_file_of_items_says_its_sizes() {
    let folder = checkpoint();
    let path = folder.path().join("__0_0.distcp");
    let size = fs::metadata(&path).unwrap().len();
    fs::File::options()
        .write(true)
        .open(&path)
        .unwrap()
        .set_len(1000)
        .unwrap();
    assert!(size > 5000);
    let error = Reader::open(folder.path()).unwrap_err();
    says(
        &error.to_string(),
        &["first.weight lies at bytes", "but the file has 1000"],
    );
    says(&error.hint().unwrap(), &["cut off"]);
}

#[test]
fn chunks_that_overlap_leave_gaps_or_stick_out_are_told_with_their_place() {
    let cases: [(Damage, &[&str]); 10] = [
        (
            |m| {
                m.tensors[0].shape = Shape(vec![1 << 40, 0, 1 << 40, 1 << 40]);
                m.tensors[0].chunks.clear();
            },
            &[
                "first.weight is [1099511627776, 0, 1099511627776, 1099511627776], which is more than any file",
            ],
        ),
        (
            |m| m.tensors[0].chunks.clear(),
            &["first.weight of [8, 4]", "the chunks hold 0 of 32 elements"],
        ),
        (
            |m| {
                let chunks = &mut m.tensors[0].chunks;
                let item = chunks[0].item;
                chunks[1].offsets = vec![1, 0];
                chunks[1].item = item;
            },
            &[
                "first.weight of [8, 4]",
                "two chunks overlap: rows 0..2 columns 0..4, and rows 1..3 columns 0..4",
            ],
        ),
        (
            |m| {
                m.tensors[0].chunks.remove(2);
            },
            &[
                "first.weight of [8, 4]",
                "the chunks hold 24 of 32 elements",
            ],
        ),
        (
            |m| m.tensors[0].chunks[3].offsets = vec![7, 0],
            &["first.weight is [8, 4], but a chunk of it begins at [7, 0] with [2, 4]"],
        ),
        (
            |m| m.tensors[0].chunks[3].offsets = vec![usize::MAX >> 1, 0],
            &["begins at [9223372036854775807, 0]"],
        ),
        (
            |m| m.tensors[0].shape = Shape(vec![usize::MAX >> 1, 4]),
            &["first.weight is [9223372036854775807, 4], which is more than any file"],
        ),
        (
            |m| m.tensors[0].chunks[0].offsets.push(0),
            &["first.weight has 2 dims, but a chunk of it has 3"],
        ),
        (
            |m| m.tensors[1].dtype = DType::F16,
            &[
                "second.weight, item at byte",
                "the item holds bf16, but .metadata says f16",
            ],
        ),
        (
            |m| {
                m.tensors[1].shape = Shape(vec![5]);
                m.tensors[1].chunks[0].sizes = vec![5];
            },
            &[
                "second.weight, item at byte",
                "the item holds [6], but .metadata says [5]",
            ],
        ),
    ];
    for (damage, parts) in cases {
        let folder = checkpoint();
        change(folder.path(), damage);
        says(&refused(folder.path()), parts);
    }
}

#[test]
fn items_of_wrong_length_or_place_are_no_archives() {
    let cases: [Damage; 5] = [
        |m| m.tensors[1].chunks[0].item.length -= 1,
        |m| m.tensors[1].chunks[0].item.length += 1,
        |m| m.tensors[1].chunks[0].item.offset += 1,
        |m| m.tensors[1].chunks[0].item.length = 0,
        |m| m.tensors[1].chunks[0].item.length = 10,
    ];
    for damage in cases {
        let folder = checkpoint();
        change(folder.path(), damage);
        says(&refused(folder.path()), &["second.weight, item at byte"]);
    }
    let folder = checkpoint();
    change(folder.path(), |m| {
        m.tensors[1].chunks[0].item.offset = u64::MAX >> 1;
    });
    says(
        &refused(folder.path()),
        &[
            "second.weight lies at bytes 9223372036854775807..",
            "but the file has",
        ],
    );
}

#[test]
fn keys_without_items_and_items_without_keys() {
    let folder = checkpoint();
    change(folder.path(), |m| {
        let again = m.tensors[0].clone();
        m.tensors.push(again);
    });
    says(&refused(folder.path()), &["first.weight"]);
    // An item that no key needs hinders nobody.
    let folder = checkpoint();
    patch(
        &folder.path().join(".metadata"),
        b"second.weight",
        b"sec\xc3\xb6nd.weigt",
        false,
    );
    assert_eq!(
        Reader::open(folder.path()).unwrap().tensors[1].name,
        "sec\u{f6}nd.weigt"
    );
}

#[test]
fn compressed_and_big_endian_items_are_refused() {
    let folder = checkpoint();
    let file = folder.path().join("__0_0.distcp");
    // the directory's entry of the last tensor's data: version, version, flags, method
    let mut bytes = fs::read(&file).unwrap();
    let entry = b"PK\x01\x02\x00\x00\x00\x00\x08\x08\x00\x00";
    let name = b"archive/data/0";
    let place = (0..bytes.len() - 64)
        .rfind(|&at| bytes[at..].starts_with(entry) && bytes[at + 46..].starts_with(name));
    bytes[place.unwrap() + 10] = 8;
    fs::write(&file, &bytes).unwrap();
    says(
        &refused(folder.path()),
        &[
            "second.weight",
            "record archive/data/0 is compressed or encrypted (method 8",
        ],
    );
    let folder = checkpoint();
    patch(
        &folder.path().join("__0_0.distcp"),
        b"little",
        b"big\0\0\0",
        false,
    );
    says(
        &refused(folder.path()),
        &["first.weight", "byte order \"big", "little-endian"],
    );
}

#[test]
fn another_backend_is_refused_by_name() {
    for (json, parts) in [
        (
            "{\"sharded_backend\": \"fsdp_dtensor\"}",
            "sharded_backend is \"fsdp_dtensor\"",
        ),
        (
            "{\"sharded_backend\": \"torch_dist\", \"sharded_backend_version\": 2}",
            "sharded_backend_version is 2",
        ),
        ("[]", "sharded_backend is null"),
        ("{", "metadata.json:1:1"),
    ] {
        let folder = checkpoint();
        fs::write(folder.path().join("metadata.json"), json).unwrap();
        says(&refused(folder.path()), &[parts]);
    }
    // torch.distributed.checkpoint by itself writes none
    let folder = checkpoint();
    fs::remove_file(folder.path().join("metadata.json")).unwrap();
    Reader::open(folder.path()).unwrap();
}

#[test]
fn a_common_state_with_an_unknown_class_hinders_only_who_asks_for_it() {
    let folder = checkpoint();
    let file = folder.path().join("__0_0.distcp");
    patch(
        &file,
        b"\x80\x02]}(X\x12\x00\x00\x00checkpoin",
        b"\x80\x02]cos\nsystem\na.pad",
        true,
    );
    let reader = Reader::open(folder.path()).unwrap();
    assert_eq!(reader.tensors.len(), 2);
    assert!(reader.object("common_state/shard_0_1").is_ok());
    let error = reader.common().unwrap_err();
    says(
        &error.to_string(),
        &[
            "common_state/shard_0_1: pickle, byte 3",
            "os.system is not on the list",
        ],
    );
    let error = reader.object("rng_state/shard_0_1").unwrap_err();
    assert!(matches!(error, CheckpointError::TorchDist(_)));
}

#[test]
fn lists_of_chunks_that_are_shared_to_seem_many_are_refused() {
    const METADATA: &str = "torch.distributed.checkpoint.metadata";
    let mut w = pickle::Writer::new(4);
    let object = |w: &mut pickle::Writer, name| {
        w.global(METADATA, name);
        w.empty_tuple();
        w.new_object();
    };
    // one list that holds one chunk a thousand times, and a hundred tensors that name it
    object(&mut w, "Metadata");
    w.empty_dict();
    w.mark();
    w.text("chunks");
    w.empty_list();
    let list = w.memoize();
    w.mark();
    object(&mut w, "ChunkStorageMetadata");
    w.empty_dict();
    w.mark();
    w.text("offsets");
    w.ints([0].into_iter());
    w.text("sizes");
    w.ints([1].into_iter());
    w.set_items();
    w.build();
    let chunk = w.memoize();
    for _ in 1..1000 {
        w.get(chunk);
    }
    w.appends();
    w.text("storage_data");
    w.empty_dict();
    w.mark();
    for i in 0..100 {
        object(&mut w, "MetadataIndex");
        w.empty_dict();
        w.mark();
        w.text("fqn");
        w.text(&format!("{i}"));
        w.text("offset");
        w.ints([0].into_iter());
        w.set_items();
        w.build();
        w.global("torch.distributed.checkpoint.filesystem", "_StorageInfo");
        w.empty_tuple();
        w.new_object();
        w.empty_dict();
        w.mark();
        w.text("relative_path");
        w.text("a");
        w.text("offset");
        w.int(0);
        w.text("length");
        w.int(1);
        w.set_items();
        w.build();
    }
    w.set_items();
    w.text("state_dict_metadata");
    w.empty_dict();
    w.mark();
    for i in 0..100 {
        w.text(&format!("{i}"));
        object(&mut w, "TensorStorageMetadata");
        w.empty_dict();
        w.mark();
        w.text("properties");
        object(&mut w, "TensorProperties");
        w.global("torch", "float32");
        w.tuple1();
        w.build();
        w.text("size");
        w.ints([1].into_iter());
        w.text("chunks");
        w.get(list);
        w.set_items();
        w.build();
    }
    w.set_items();
    w.set_items();
    w.build();
    let bytes = w.finish();
    let error = metadata::parse(&bytes).unwrap_err();
    assert_eq!(error, MetadataError::TooMany { bytes: bytes.len() });
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]
    #[test]
    fn damaged_archives_and_checkpoints_are_errors_not_panics(at in 0_usize..8000, value: u8, cut in 0_usize..8000) {
        let folder = checkpoint();
        let path = folder.path().join("__0_0.distcp");
        let mut bytes = fs::read(&path).unwrap();
        let at = at % bytes.len();
        bytes[at] = value;
        fs::write(&path, &bytes).unwrap();
        let _ = Reader::open(folder.path()).map(|reader| reader.common());
        bytes.truncate(cut);
        if let Ok(records) = zip::records(&bytes) {
            for record in records {
                let header = &bytes[record.header as usize..];
                let _ = zip::data_offset(&record, header, bytes.len() as u64);
            }
        }
    }
}
