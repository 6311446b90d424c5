//! Safetensors files and directories: what is read, what is refused, and in which words.

mod peers;

use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, symlink};
use std::path::{Path, PathBuf};

use candle_core::{Device, Tensor};
use proptest::prelude::*;
use serde_json::json;
use trestle::base::{DType, Shape};
use trestle::checkpoint::CheckpointError;
use trestle::checkpoint::safetensors::{Directory, Header, Index, Plan};

/// A file with this header and so many bytes behind it.
fn file(header: &str, data: usize) -> Vec<u8> {
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend_from_slice(header.as_bytes());
    bytes.resize(bytes.len() + data, 0);
    bytes
}

fn refusal(bytes: &[u8]) -> String {
    Header::parse(bytes).unwrap_err().to_string()
}

/// What is wrong with a header of these entries before so many bytes.
fn refused(entries: &str, data: usize) -> String {
    refusal(&file(&format!("{{{entries}}}"), data))
}

fn opened(path: &Path) -> String {
    Directory::open(path).unwrap_err().to_string()
}

/// Writes a file of zeros with bf16 vectors of these names.
fn write(path: &Path, names: &[&str]) {
    let tensors: Vec<_> = names
        .iter()
        .map(|name| (*name, Shape::from([2]), DType::BF16))
        .collect();
    let planned = &Plan::file("any", &tensors).files[0];
    let mut bytes = planned.header.clone();
    bytes.resize(planned.bytes as usize, 0);
    fs::write(path, bytes).unwrap();
}

fn write_index(folder: &Path, map: &[(&str, &str)]) {
    let map: serde_json::Map<_, _> = map
        .iter()
        .map(|(name, file)| ((*name).to_owned(), json!(file)))
        .collect();
    let text = json!({ "metadata": { "total_size": 1 }, "weight_map": map }).to_string();
    fs::write(folder.join("model.safetensors.index.json"), text).unwrap();
}

#[test]
fn what_candle_writes_is_read() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("some.safetensors");
    let a = Tensor::from_vec(vec![1f32, 2., 3., 4., 5., 6.], (2, 3), &Device::Cpu).unwrap();
    let b = Tensor::from_vec(vec![7u8, 8], 2, &Device::Cpu).unwrap();
    let all = std::collections::HashMap::from([("a".to_owned(), a), ("b".to_owned(), b)]);
    candle_core::safetensors::save(&all, &path).unwrap();
    let directory = Directory::open(&path).unwrap();
    assert_eq!(directory.files, std::slice::from_ref(&path));
    let [a, b] = &directory.tensors[..] else {
        panic!("{directory:?}");
    };
    assert_eq!(
        (a.name.as_str(), a.dtype, a.shape.to_string()),
        ("a", DType::F32, "[2, 3]".to_owned())
    );
    assert_eq!((b.name.as_str(), b.dtype, b.bytes()), ("b", DType::U8, 2));
    let extent = &a.extents[0];
    assert_eq!((extent.rows.clone(), extent.cols.clone()), (0..2, 0..3));
    let mut bytes = [0; 4];
    let file = fs::File::open(&path).unwrap();
    file.read_exact_at(&mut bytes, extent.offset + 8).unwrap();
    assert_eq!(f32::from_le_bytes(bytes), 3.0);
}

#[test]
fn lengths_that_lie_are_refused_before_anything_is_allocated() {
    let mut bytes = file("{}", 0);
    assert_eq!(Header::parse(&bytes).unwrap().tensors, []);
    bytes[..8].copy_from_slice(&(1_u64 << 60).to_le_bytes());
    let text = refusal(&bytes);
    assert!(
        text.contains("claims 1152921504606846976 bytes, at most 100000000"),
        "{text}"
    );
    bytes[..8].copy_from_slice(&90_000_000_u64.to_le_bytes());
    let text = refusal(&bytes);
    assert!(
        text.contains("90000008 bytes are needed and 10 are there, 89999998 are missing"),
        "{text}"
    );
    assert!(refusal(&bytes[..5]).contains("8 bytes are needed and 5"));
    assert!(refusal(&[]).contains("8 bytes are needed and 0"));
}

#[test]
fn offsets_have_to_fit_shapes_and_each_other() {
    let entry = |name: &str, shape: &str, start: u64, end: u64| {
        format!(r#""{name}":{{"dtype":"F16","shape":{shape},"data_offsets":[{start},{end}]}}"#)
    };
    let two = |a: String, b: String| format!("{a},{b}");
    let good = two(entry("a", "[4]", 0, 8), entry("b", "[2,1]", 8, 12));
    assert_eq!(
        Header::parse(&file(&format!("{{{good}}}"), 12))
            .unwrap()
            .tensors
            .len(),
        2
    );
    for (entries, data, expected) in [
        (good.clone(), 9, "3 are missing"),
        (good.clone(), 13, "1 bytes follow the last tensor"),
        (
            two(entry("a", "[4]", 0, 8), entry("b", "[2,1]", 6, 10)),
            10,
            r#""b" at 6..10 overlaps "a", which ends at 8"#,
        ),
        (
            two(entry("a", "[4]", 0, 8), entry("b", "[2]", 10, 14)),
            14,
            r#"bytes 8..10 before "b" belong to no tensor"#,
        ),
        (
            entry("a", "[4]", 2, 10),
            10,
            r#"bytes 0..2 before "a" belong to no tensor"#,
        ),
        (
            entry("a", "[4]", 0, 10),
            10,
            r#""a" is f16 [4], 8 bytes, but lies at 0..10"#,
        ),
        (entry("a", "[4]", 8, 0), 8, "but lies at 8..0"),
        (
            entry("a", "[9223372036854775807,3]", 0, 8),
            8,
            "whose size overflows",
        ),
        (
            entry("a", "[4294967296,4294967296,0]", 0, 0),
            0,
            "whose size overflows",
        ),
        (
            entry("a", "[0,4294967296,4294967296,4294967296]", 0, 8),
            8,
            "0 bytes, but lies at 0..8",
        ),
        (
            entry("a", "[18446744073709551615]", 0, 8),
            8,
            "whose size overflows",
        ),
        (
            two(entry("a", "[4]", 0, 8), entry("a", "[4]", 8, 16)),
            16,
            r#""a" occurs twice in the header"#,
        ),
    ] {
        let text = refused(&entries, data);
        assert!(
            text.contains(expected),
            "{entries}\nexpected {expected}\nfound    {text}"
        );
    }
}

#[test]
fn headers_that_are_no_headers_are_refused_with_the_place() {
    for (header, expected) in [
        ("", "EOF"),
        ("[]", "expected an object of tensors"),
        ("{", "EOF"),
        ("{} x", "trailing characters"),
        (r#"{"a":5}"#, r#"at "a""#),
        (r#"{"a":{"dtype":"F32","shape":[1]}}"#, "data_offsets"),
        (
            r#"{"a":{"dtype":"F32","dtype":"F32","shape":[],"data_offsets":[0,4]}}"#,
            "duplicate field `dtype`",
        ),
        (
            r#"{"a":{"dtype":"F32","shape":[],"data_offsets":[0,4],"x":1}}"#,
            "unknown field `x`",
        ),
        (
            r#"{"a":{"dtype":"F32","shape":[-1],"data_offsets":[0,4]}}"#,
            "-1",
        ),
        (
            r#"{"a":{"dtype":"F32","shape":[1.5],"data_offsets":[0,4]}}"#,
            "1.5",
        ),
        (
            r#"{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4,8]}}"#,
            "trailing",
        ),
        (r#"{"__metadata__":{"a":1}}"#, "__metadata__"),
        (
            r#"{"__metadata__":{"a":"1","a":"2"}}"#,
            r#""a" occurs twice"#,
        ),
        (r#"{"__metadata__":{},"__metadata__":{}}"#, "occurs twice"),
    ] {
        let text = refusal(&file(header, 0));
        assert!(
            text.contains(expected),
            "{header}\nexpected {expected}\nfound    {text}"
        );
    }
    let dims = vec!["1"; 65].join(",");
    let text = refused(
        &format!(r#""a":{{"dtype":"U8","shape":[{dims}],"data_offsets":[0,1]}}"#),
        1,
    );
    assert!(text.contains("more than 64 dims"), "{text}");
    let nested = format!(r#"{{"a":{}"#, "[".repeat(100_000));
    assert!(refusal(&file(&nested, 0)).contains("not valid"));

    let mut bytes = file(
        r#"{"nam?":{"dtype":"U8","shape":[],"data_offsets":[0,1]}}"#,
        1,
    );
    bytes[13] = 0xff;
    let text = refusal(&bytes);
    assert!(
        text.contains("the header is not UTF-8 from byte 5 on"),
        "{text}"
    );
}

#[test]
fn every_type_is_read_and_others_are_refused_by_name() {
    for (name, size) in [
        ("F64", 8),
        ("F32", 4),
        ("BF16", 2),
        ("F16", 2),
        ("F8_E4M3", 1),
        ("F8_E5M2", 1),
        ("F8_E8M0", 1),
        ("I64", 8),
        ("I32", 4),
        ("I16", 2),
        ("I8", 1),
        ("U64", 8),
        ("U32", 4),
        ("U16", 2),
        ("U8", 1),
        ("BOOL", 1),
    ] {
        let header = format!(
            r#"{{"a":{{"dtype":"{name}","shape":[3],"data_offsets":[0,{}]}}}}"#,
            3 * size
        );
        let read = Header::parse(&file(&header, 3 * size)).unwrap();
        assert_eq!(read.tensors[0].dtype.safetensors_name(), name);
    }
    for name in ["F4", "F6_E2M3", "C64", "f32", "", "\\u001b[31m"] {
        let text = refused(
            &format!(r#""a":{{"dtype":"{name}","shape":[2],"data_offsets":[0,1]}}"#),
            1,
        );
        assert!(
            text.contains("\"a\" has the dtype") && text.contains("not supported"),
            "{text}"
        );
        assert!(!text.contains('\x1b'), "an escape reaches the terminal");
    }
}

#[test]
fn metadata_escapes_and_odd_names_are_kept() {
    let header = r#"{"__metadata__":{"format":"pt","x":""},"\u0061\"\n":{"dtype":"U8","shape":[],"data_offsets":[0,1]},"":{"dtype":"U8","shape":[0],"data_offsets":[0,0]}}   "#;
    let read = Header::parse(&file(header, 1)).unwrap();
    assert_eq!(read.metadata["format"], "pt");
    let names: Vec<&str> = read.tensors.iter().map(|t| t.name.as_str()).collect();
    assert_eq!(names, ["", "a\"\n"]);
    assert_eq!(read.data_start as usize, 8 + header.len());
}

#[test]
fn an_index_is_checked_both_ways() {
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path();
    assert!(matches!(
        Directory::open(here),
        Err(CheckpointError::NoWeights { .. })
    ));
    write(&here.join("x.safetensors"), &["a", "b"]);
    write(&here.join("y.safetensors"), &["c"]);
    let whole = [
        ("c", "y.safetensors"),
        ("a", "x.safetensors"),
        ("b", "x.safetensors"),
    ];
    write_index(here, &whole);
    let directory = Directory::open(here).unwrap();
    let found: Vec<(&str, PathBuf)> = directory
        .tensors
        .iter()
        .map(|t| {
            (
                t.name.as_str(),
                directory.files[t.extents[0].file]
                    .strip_prefix(here)
                    .unwrap()
                    .to_owned(),
            )
        })
        .collect();
    let expected = whole.map(|(name, file)| (name, PathBuf::from(file)));
    assert_eq!(found, expected);

    let with = |name, file| [&whole[..], &[(name, file)]].concat();
    write_index(here, &with("d", "y.safetensors"));
    assert!(opened(here).contains(r#"the index puts "d" in y.safetensors, which lacks it"#));
    write_index(here, &with("d", "z.safetensors"));
    let text = opened(here);
    assert!(
        text.contains("cannot read") && text.contains("z.safetensors"),
        "{text}"
    );
    write_index(here, &whole[..2]);
    assert!(opened(here).contains(r#"x.safetensors has "b", which the index does not put there"#));
    write(&here.join("y.safetensors"), &["c", "a"]);
    write_index(here, &whole);
    assert!(opened(here).contains(r#"y.safetensors has "a", which the index does not put there"#));
    write(&here.join("model.safetensors"), &["a", "b", "c"]);
    let error = Directory::open(here).unwrap_err();
    assert!(error.to_string().contains("both model.safetensors and"));
    assert_eq!(error.hint().unwrap(), "remove the one that is out of date");
    write_index(
        here,
        &["a", "b", "c"].map(|name| (name, "model.safetensors")),
    );
    assert_eq!(Directory::open(here).unwrap().tensors.len(), 3);
}

#[test]
fn an_index_names_files_of_its_own_folder() {
    let refused = |text: &str| Index::parse(text.as_bytes()).unwrap_err().to_string();
    for name in [
        "../x",
        "/etc/x",
        "a/b",
        "..",
        ".",
        "",
        "a\\\\b",
        "a\\u0000b",
    ] {
        let text = refused(&format!(r#"{{"weight_map":{{"t":"{name}"}}}}"#));
        assert!(
            text.contains("no name of a file in the same folder"),
            "{text}"
        );
    }
    for (text, expected) in [
        ("{}", "weight_map"),
        ("[]", "expected an object with `weight_map`"),
        (r#"{"weight_map":[]}"#, "names of files"),
        (r#"{"weight_map":{"a":7}}"#, r#"at "a""#),
        (r#"{"weight_map":{"a":"x","a":"y"}}"#, "occurs twice"),
        (r#"{"weight_map":{},"weight_map":{}}"#, "occurs twice"),
        (r#"{"weight_map":{}} 5"#, "trailing"),
    ] {
        let found = refused(text);
        assert!(found.contains(expected), "{text}: {found}");
    }
    assert!(
        Index::parse(b"{\"weight_map\":{\"\xff\":\"x\"}}")
            .unwrap_err()
            .to_string()
            .contains("UTF-8 from byte 16")
    );
    let nested = format!(r#"{{"metadata":{}"#, "[".repeat(100_000));
    assert!(refused(&nested).contains("not valid"));
}

#[test]
fn links_are_followed_and_loops_are_told() {
    let folder = tempfile::tempdir().unwrap();
    let blobs = folder.path().join("blobs");
    let snapshot = folder.path().join("snapshots/0123");
    fs::create_dir_all(&blobs).unwrap();
    fs::create_dir_all(&snapshot).unwrap();
    write(&blobs.join("deadbeef"), &["a"]);
    let link = snapshot.join("model.safetensors");
    symlink("../../blobs/deadbeef", &link).unwrap();
    assert_eq!(Directory::open(&snapshot).unwrap().tensors.len(), 1);

    fs::remove_file(blobs.join("deadbeef")).unwrap();
    let error = Directory::open(&snapshot).unwrap_err();
    assert!(
        error
            .to_string()
            .contains("model.safetensors: No such file"),
        "{error}"
    );

    fs::remove_file(&link).unwrap();
    symlink("model.safetensors", &link).unwrap();
    let error = Directory::open(&snapshot).unwrap_err();
    assert!(error.to_string().contains("model.safetensors"), "{error}");
    assert!(error.hint().unwrap().contains("leads back to itself"));

    fs::remove_file(&link).unwrap();
    let index = snapshot.join("model.safetensors.index.json");
    symlink("model.safetensors.index.json", &index).unwrap();
    let error = Directory::open(&snapshot).unwrap_err();
    assert!(error.hint().unwrap().contains("leads back to itself"));

    symlink(".", folder.path().join("loop")).unwrap();
    write(&folder.path().join("model.safetensors"), &["a"]);
    assert!(Directory::open(&folder.path().join("loop/loop/loop")).is_ok());
}

#[test]
fn folders_and_pipes_are_no_weights_and_names_need_not_be_utf8() {
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path().join(std::ffi::OsStr::from_bytes(b"n\xffame"));
    fs::create_dir(&here).unwrap();
    let whole = here.join("model.safetensors");
    write(&whole, &["a"]);
    assert_eq!(Directory::open(&here).unwrap().tensors.len(), 1);
    let bytes = fs::read(&whole).unwrap();
    fs::write(&whole, &bytes[..bytes.len() - 1]).unwrap();
    assert!(opened(&here).contains("1 are missing"));
    fs::remove_file(&whole).unwrap();
    fs::create_dir(&whole).unwrap();
    assert!(opened(&here).contains("it is not a file"));
    fs::remove_dir(&whole).unwrap();
    let made = std::process::Command::new("mkfifo").arg(&whole).status();
    if made.is_ok_and(|status| status.success()) {
        assert!(opened(&here).contains("it is not a file"));
    }
    assert!(matches!(
        Directory::open(&here.join("nowhere")),
        Err(CheckpointError::Io { .. })
    ));
}

#[test]
fn a_header_of_a_hundred_thousand_tensors_is_read() {
    let tensors: Vec<_> = (0..100_000)
        .map(|i| {
            (
                format!(
                    "model.layers.{}.mlp.experts.{}.down_proj.weight",
                    i / 512,
                    i % 512
                ),
                Shape::from([2, 1]),
                DType::BF16,
            )
        })
        .collect();
    let plan = Plan::new(&tensors, None);
    let mut bytes = plan.files[0].header.clone();
    bytes.resize(plan.files[0].bytes as usize, 0);
    let header = Header::parse(&bytes).unwrap();
    assert_eq!(header.tensors.len(), 100_000);
    assert_eq!(
        header.tensors[99_999].extents[0].offset,
        plan.tensors[99_999].offset
    );
}

proptest! {
    #[test]
    fn what_is_planned_reads_back_and_covers_every_byte(
        shapes in proptest::collection::vec((proptest::collection::vec(0usize..5, 0..4), 0usize..3), 0..20),
        limit in proptest::option::of(1u64..300),
    ) {
        let dtypes = [DType::F64, DType::BF16, DType::U8];
        let tensors: Vec<_> = shapes
            .into_iter()
            .enumerate()
            .map(|(i, (shape, dtype))| (format!("t.{i}"), Shape(shape), dtypes[dtype]))
            .collect();
        let plan = Plan::new(&tensors, limit);
        let folder = tempfile::tempdir().unwrap();
        for file in &plan.files {
            let mut bytes = file.header.clone();
            bytes.resize(file.bytes as usize, 0);
            fs::write(folder.path().join(&file.name), bytes).unwrap();
        }
        if let Some(index) = &plan.index {
            fs::write(folder.path().join("model.safetensors.index.json"), index).unwrap();
        }
        let directory = Directory::open(folder.path()).unwrap();
        prop_assert_eq!(directory.tensors.len(), tensors.len());
        for ((name, shape, dtype), place) in tensors.iter().zip(&plan.tensors) {
            let read = directory.tensors.iter().find(|t| t.name == *name).unwrap();
            prop_assert_eq!((&read.shape, read.dtype, read.bytes()), (shape, *dtype, place.bytes));
            prop_assert_eq!(read.extents[0].offset, place.offset);
            let file = folder.path().join(&plan.files[place.file].name);
            prop_assert_eq!(&directory.files[read.extents[0].file], &file);
        }
        for (file, planned) in plan.files.iter().enumerate() {
            let members = plan.tensors.iter().filter(|t| t.file == file);
            let (count, bytes) = members.fold((0, 0), |(n, b), t| (n + 1, b + t.bytes));
            prop_assert!(count <= 1 || bytes <= limit.unwrap_or(u64::MAX), "{} is too full", planned.name);
        }
    }
}
