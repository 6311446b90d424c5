//! What is written is read back, byte for byte, however it is cut.

use std::fs;
use std::path::Path;

use proptest::prelude::*;
use trestle::base::{DType, Shape};
use trestle::checkpoint::torch_dist::{self, Options, Plan, Reader, TorchDistError, zip};
use trestle::checkpoint::{CheckpointError, matrix};

use super::values;

const TYPES: [DType; 16] = [
    DType::F64,
    DType::F32,
    DType::BF16,
    DType::F16,
    DType::F8E4M3,
    DType::F8E5M2,
    DType::F8E8M0,
    DType::I64,
    DType::I32,
    DType::I16,
    DType::I8,
    DType::U64,
    DType::U32,
    DType::U16,
    DType::U8,
    DType::Bool,
];

pub(super) type Wanted = Vec<(String, Shape, DType)>;

/// A byte of a tensor, told from its neighbours; 0 or 1, so that it is a byte of any type.
fn byte(tensor: usize, at: usize) -> u8 {
    (((at + tensor) * 2_654_435_761) >> 13) as u8 & 1
}

/// Bytes of a whole tensor.
pub(super) fn bytes(tensor: usize, shape: &Shape, dtype: DType) -> Vec<u8> {
    let length = (shape.elements() * dtype.size()) as usize;
    (0..length).map(|at| byte(tensor, at)).collect()
}

pub(super) fn write(folder: &Path, tensors: &Wanted, options: Options) -> Plan {
    let fill = |tensor: usize, rows: std::ops::Range<usize>, out: &mut [u8]| {
        let (_, shape, dtype) = &tensors[tensor];
        let row = matrix(shape).1 * dtype.size() as usize;
        assert_eq!(out.len(), rows.len() * row);
        let all = bytes(tensor, shape, *dtype);
        out.copy_from_slice(&all[rows.start * row..rows.end * row]);
    };
    torch_dist::write_all(folder, tensors, options, fill).unwrap()
}

/// A tensor of every type in shapes of no, one, two and three dims.
pub(super) fn every_type() -> Wanted {
    let shapes = [vec![], vec![33], vec![7, 5], vec![4, 3, 6]];
    let all = TYPES
        .iter()
        .flat_map(|dtype| shapes.iter().map(move |shape| (dtype, shape)));
    all.map(|(dtype, shape)| {
        (
            format!("{dtype}.{}d.weight", shape.len()),
            Shape(shape.clone()),
            *dtype,
        )
    })
    .collect()
}

fn tensors() -> impl Strategy<Value = Wanted> {
    let shape = prop::collection::vec(0_usize..7, 0..5);
    let tensor = (shape, prop::sample::select(TYPES.to_vec()));
    prop::collection::vec(tensor, 0..8).prop_map(|all| {
        let all = all.into_iter().enumerate();
        all.map(|(i, (shape, dtype))| (format!("layers.{i}.weight"), Shape(shape), dtype))
            .collect()
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn tensors_of_any_shape_and_type_come_back(
        tensors in tensors(), max_chunk_bytes in 1_u64..600, files in 1_usize..5, iteration in 0_u64..20_000_000, common_file: bool, extra_states: bool,
    ) {
        let folder = tempfile::tempdir().unwrap();
        let options = Options { max_chunk_bytes, files, iteration, common_file, extra_states };
        let plan = write(folder.path(), &tensors, options);
        prop_assert!(plan.files.len() <= files);
        for file in &plan.files {
            let size = fs::metadata(folder.path().join(&file.name)).unwrap().len();
            prop_assert_eq!(size, file.bytes);
        }
        for item in &plan.items {
            let (_, shape, dtype) = &tensors[item.tensor];
            prop_assert!(item.data_offset.is_multiple_of(64));
            let row = shape.elements() / shape.0.first().map_or(1, |&n| n.max(1) as u64) * dtype.size();
            prop_assert!(item.bytes <= max_chunk_bytes.max(row));
        }
        let reader = Reader::open(folder.path()).unwrap();
        prop_assert_eq!(&reader.objects, &["common_state/shard_0_1"]);
        prop_assert_eq!(reader.tensors.len(), tensors.len());
        for (i, (stored, (name, shape, dtype))) in reader.tensors.iter().zip(&tensors).enumerate() {
            prop_assert_eq!((&stored.name, &stored.shape, stored.dtype), (name, shape, *dtype));
            prop_assert_eq!(values(&reader.files, stored), bytes(i, shape, *dtype));
        }
        let common = reader.common().unwrap().unwrap();
        prop_assert_eq!((common.checkpoint_version, common.iteration), (Some(3.0), Some(iteration)));
    }
}

fn some() -> Wanted {
    [
        ("embedding.weight", vec![40, 6], DType::BF16),
        ("experts.weight", vec![4, 6, 5], DType::F32),
        ("norm.weight", vec![9], DType::F32),
    ]
    .map(|(name, shape, dtype)| (name.to_owned(), Shape(shape), dtype))
    .into()
}

#[test]
fn the_same_plan_gives_the_same_bytes() {
    let folders = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    for folder in &folders {
        write(folder.path(), &some(), Options::default());
    }
    for file in [".metadata", "metadata.json", "common.pt", "__0_0.distcp"] {
        let [a, b] = [0, 1].map(|i| fs::read(folders[i].path().join(file)).unwrap());
        assert_eq!(a, b, "{file}");
    }
}

#[test]
fn every_record_of_an_item_carries_its_crc() {
    let folder = tempfile::tempdir().unwrap();
    let options = Options {
        max_chunk_bytes: 100,
        files: 2,
        ..Options::default()
    };
    let plan = write(folder.path(), &some(), options);
    for item in &plan.items {
        let file = fs::read(folder.path().join(&plan.files[item.file].name)).unwrap();
        let end = item.data_offset + item.bytes;
        let data = &file[item.data_offset as usize..end as usize];
        let tail = plan.tail(item, crc32fast::hash(data));
        let archive = &file[item.offset as usize..end as usize + tail.len()];
        let records = zip::records(archive).unwrap();
        let names: Vec<&str> = records.iter().map(|r| r.name).collect();
        assert_eq!(names[0], "archive/data.pkl");
        assert!(names.contains(&"archive/data/0") && names.contains(&"archive/version"));
        for record in &records {
            let header = &archive[record.header as usize..];
            let at = zip::data_offset(record, header, archive.len() as u64).unwrap() as usize;
            assert_eq!(at % 64, 0, "{}", record.name);
            let data = &archive[at..at + record.size as usize];
            assert_eq!(record.crc, crc32fast::hash(data), "{}", record.name);
        }
    }
}

#[test]
fn a_plan_refuses_a_key_that_is_there_twice_and_a_row_that_no_archive_holds() {
    let mut twice = some();
    twice.push(twice[0].clone());
    let error = Plan::new(&twice, Options::default()).unwrap_err();
    assert!(matches!(error, TorchDistError::Twice { key } if key == "embedding.weight"));
    let wide = [("w", Shape(vec![2, 1 << 31]), DType::F32)];
    let error = Plan::new(&wide, Options::default()).unwrap_err();
    assert_eq!(
        error.to_string(),
        "w of [2, 2147483648]: one index of its first dim takes 8.0 GiB, but an item holds 4.0 GiB at most"
    );
}

#[test]
fn the_tracker_leads_to_the_latest_checkpoint() {
    let save = tempfile::tempdir().unwrap();
    for iteration in [10, 500] {
        let folder = save.path().join(torch_dist::folder_name(iteration));
        fs::create_dir(&folder).unwrap();
        write(
            &folder,
            &some(),
            Options {
                iteration,
                ..Options::default()
            },
        );
        torch_dist::track(save.path(), iteration).unwrap();
        let reader = Reader::open(save.path()).unwrap();
        assert_eq!(reader.iteration, Some(iteration));
        assert_eq!(reader.folder, folder);
    }
    let old = Reader::open(&save.path().join("iter_0000010")).unwrap();
    assert_eq!(old.iteration, Some(10));
    fs::rename(
        save.path().join("iter_0000500"),
        save.path().join("release"),
    )
    .unwrap();
    fs::write(save.path().join(torch_dist::TRACKER), "release\n").unwrap();
    assert_eq!(Reader::open(save.path()).unwrap().iteration, None);

    fs::write(save.path().join(torch_dist::TRACKER), "latest").unwrap();
    let error = Reader::open(save.path()).unwrap_err().to_string();
    assert!(
        error.contains("expected a step number or \"release\", found \"latest\""),
        "{error}"
    );
    fs::write(save.path().join(torch_dist::TRACKER), "77").unwrap();
    let error = Reader::open(save.path()).unwrap_err();
    assert!(
        matches!(&error, CheckpointError::Io { path, .. } if path.ends_with("iter_0000077/.metadata")),
        "{error}"
    );
    let empty = tempfile::tempdir().unwrap();
    let error = Reader::open(empty.path()).unwrap_err();
    assert!(
        error
            .to_string()
            .contains("neither .metadata nor latest_checkpointed_iteration.txt")
    );
    assert!(error.hint().unwrap().contains("iter_*"));
}
