//! Statistics of stored tensors against the plainest computation of the same numbers.

use std::fs;
use std::path::PathBuf;
use std::sync::atomic::AtomicBool;

use half::{bf16, f16};
use rand::{Rng, SeedableRng};
use trestle::base::DType;
use trestle::checkpoint::statistics::{BINS, Detail, hash};
use trestle::checkpoint::{Extent, Statistics, StoredTensor};

static RUN: AtomicBool = AtomicBool::new(false);

/// A tensor whose extents lie in two files: `(file, rows, cols)` of the matrix that `bytes` is.
struct Stored {
    _folder: tempfile::TempDir,
    files: Vec<PathBuf>,
    tensor: StoredTensor,
}

fn store(
    shape: [usize; 2],
    dtype: DType,
    bytes: &[u8],
    extents: &[(usize, [usize; 2], [usize; 2])],
) -> Stored {
    let folder = tempfile::tempdir().unwrap();
    let mut files = [vec![1, 2, 3], vec![9; 16]];
    let size = dtype.size() as usize;
    let mut list = Vec::new();
    for &(file, rows, cols) in extents {
        list.push(Extent {
            file,
            offset: files[file].len() as u64,
            rows: rows[0]..rows[1],
            cols: cols[0]..cols[1],
        });
        for row in rows[0]..rows[1] {
            let start = row * shape[1];
            files[file].extend(&bytes[(start + cols[0]) * size..(start + cols[1]) * size]);
        }
    }
    let paths = ["x", "y"].map(|name| folder.path().join(name));
    for (path, content) in paths.iter().zip(files) {
        fs::write(path, content).unwrap();
    }
    Stored {
        _folder: folder,
        files: paths.into(),
        tensor: StoredTensor {
            name: "t".into(),
            shape: shape.into(),
            dtype,
            extents: list,
        },
    }
}

/// All in one extent.
fn whole(dtype: DType, bytes: &[u8]) -> Stored {
    let shape = [bytes.len() / dtype.size() as usize, 1];
    store(shape, dtype, bytes, &[(0, [0, shape[0]], [0, 1])])
}

impl Stored {
    fn read(&self) -> Statistics {
        Statistics::read(&self.files, &self.tensor, Detail::Histogram, &RUN)
            .unwrap()
            .unwrap()
    }

    fn hash(&self) -> String {
        hash(&self.files, &self.tensor, &RUN).unwrap().unwrap()
    }
}

fn close(a: f64, b: f64) -> bool {
    (a - b).abs() <= 1e-9 * b.abs().max(1e-300)
}

/// The same numbers from a list of values, two passes and no blocks.
fn compare(found: &Statistics, values: &[f64]) {
    let finite: Vec<f64> = values.iter().copied().filter(|v| v.is_finite()).collect();
    let count = |f: &dyn Fn(f64) -> bool| values.iter().filter(|v| f(**v)).count() as u64;
    assert_eq!(found.elements, values.len() as u64);
    assert_eq!(found.finite(), finite.len() as u64);
    assert_eq!(found.nan, count(&f64::is_nan));
    assert_eq!(found.zeros, count(&|v| v == 0.0));
    assert_eq!(found.positive_infinity, count(&|v| v == f64::INFINITY));
    assert_eq!(found.negative_infinity, count(&|v| v == f64::NEG_INFINITY));
    let min = finite.iter().copied().fold(f64::INFINITY, f64::min);
    let max = finite.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    assert_eq!((found.min, found.max), (Some(min), Some(max)));
    let n = finite.len() as f64;
    let mean = finite.iter().sum::<f64>() / n;
    let std = (finite.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / n).sqrt();
    assert!(
        (found.mean.unwrap() - mean).abs() <= 1e-9 * std.max(mean.abs()),
        "{found:?} {mean}"
    );
    assert!(close(found.std.unwrap(), std), "{found:?} {std}");
    let mut histogram = vec![0; BINS];
    for value in &finite {
        let part = (value - min) / (max - min) * BINS as f64;
        histogram[(part as usize).min(BINS - 1)] += 1;
    }
    // A value on the edge of two bins may be in either, by rounding.
    let (mut a, mut b) = (0, 0);
    for (found, expected) in found.histogram.iter().zip(&histogram) {
        (a, b) = (a + found, b + expected);
        assert!(
            a.abs_diff(b) <= finite.len() as u64 / 100,
            "{found} {expected}"
        );
    }
    assert_eq!(a, b);
}

#[test]
fn every_number_is_that_of_the_plainest_computation() {
    let mut random = rand_chacha::ChaCha8Rng::seed_from_u64(7);
    // More than one block of 4 MiB, and no whole number of them.
    let mut values: Vec<f32> = (0..1_200_003)
        .map(|_| random.random_range(-1.0_f32..1.0).powi(3) * 0.04)
        .collect();
    for (i, special) in [0.0, -0.0, f32::NAN, f32::INFINITY, f32::NEG_INFINITY]
        .into_iter()
        .enumerate()
    {
        values[i * 200_001] = special;
        values[i + 7] = special;
    }
    let f32s: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
    let wide: Vec<f64> = values.iter().map(|&v| f64::from(v)).collect();
    compare(&whole(DType::F32, &f32s).read(), &wide);
    let f64s: Vec<u8> = wide.iter().flat_map(|v| v.to_le_bytes()).collect();
    compare(&whole(DType::F64, &f64s).read(), &wide);

    let rounded: Vec<bf16> = values.iter().map(|&v| bf16::from_f32(v)).collect();
    let bytes: Vec<u8> = rounded.iter().flat_map(|v| v.to_le_bytes()).collect();
    let wide: Vec<f64> = rounded.iter().map(|v| v.to_f64()).collect();
    compare(&whole(DType::BF16, &bytes).read(), &wide);
    let rounded: Vec<f16> = values.iter().map(|&v| f16::from_f32(v)).collect();
    let bytes: Vec<u8> = rounded.iter().flat_map(|v| v.to_le_bytes()).collect();
    let wide: Vec<f64> = rounded.iter().map(|v| v.to_f64()).collect();
    compare(&whole(DType::F16, &bytes).read(), &wide);

    let bytes: Vec<u8> = (0..5000).map(|_| random.random()).collect();
    let signed: Vec<f64> = bytes.iter().map(|&b| f64::from(b as i8)).collect();
    compare(&whole(DType::I8, &bytes).read(), &signed);
    let unsigned: Vec<f64> = bytes.iter().map(|&b| f64::from(b)).collect();
    compare(&whole(DType::U8, &bytes).read(), &unsigned);
    let ints: Vec<f64> = bytes
        .chunks_exact(4)
        .map(|b| f64::from(i32::from_le_bytes([b[0], b[1], b[2], b[3]])))
        .collect();
    compare(&whole(DType::I32, &bytes).read(), &ints);
}

#[test]
fn nan_alone_and_nothing_at_all_are_no_errors() {
    let nan: Vec<u8> = [f32::NAN; 3].iter().flat_map(|v| v.to_le_bytes()).collect();
    let found = whole(DType::F32, &nan).read();
    assert_eq!((found.elements, found.nan, found.finite()), (3, 3, 0));
    assert_eq!((found.min, found.mean, found.std), (None, None, None));
    assert!(found.histogram.is_empty());
    let found = whole(DType::BF16, &[]).read();
    assert_eq!((found.elements, found.max), (0, None));
}

#[test]
fn equal_values_are_in_one_bin_and_huge_ones_do_not_overflow() {
    let bytes: Vec<u8> = [0.25_f32; 100]
        .iter()
        .flat_map(|v| v.to_le_bytes())
        .collect();
    let found = whole(DType::F32, &bytes).read();
    assert_eq!((found.std, found.histogram[0]), (Some(0.0), 100));
    let bytes: Vec<u8> = [f64::MIN, f64::MAX, f64::MAX, 0.0]
        .iter()
        .flat_map(|v| v.to_le_bytes())
        .collect();
    let found = whole(DType::F64, &bytes).read();
    assert_eq!(
        (found.histogram[0], found.histogram[32], found.histogram[63]),
        (1, 1, 2)
    );
    assert_eq!(found.mean, Some(f64::MAX / 4.0));
}

#[test]
fn pieces_of_a_tensor_give_the_numbers_and_the_hash_of_the_whole() {
    let bytes: Vec<u8> = (0..7 * 10 * 2).map(|i| (i * 37 % 251) as u8).collect();
    let shape = [7, 10];
    let one = store(shape, DType::BF16, &bytes, &[(1, [0, 7], [0, 10])]);
    let blake3 = blake3::hash(&bytes).to_hex().to_string();
    for extents in [
        &[(0, [3, 7], [0, 10]), (1, [0, 3], [0, 10])][..],
        &[(0, [0, 7], [4, 10]), (1, [0, 7], [0, 4])],
        &[
            (0, [5, 7], [0, 10]),
            (0, [0, 5], [7, 10]),
            (1, [0, 2], [0, 7]),
            (0, [2, 5], [0, 7]),
        ],
        &[
            (0, [0, 0], [0, 10]),
            (1, [0, 7], [0, 1]),
            (1, [1, 7], [1, 10]),
            (0, [0, 1], [1, 10]),
            (0, [0, 7], [10, 10]),
        ],
    ] {
        let pieces = store(shape, DType::BF16, &bytes, extents);
        assert_eq!(pieces.hash(), blake3, "{extents:?}");
        assert_eq!(pieces.read(), one.read(), "{extents:?}");
    }
}

#[test]
fn cancelled_work_has_no_result_and_a_cut_file_is_an_error() {
    let stored = whole(DType::F32, &[0; 400]);
    let cancel = AtomicBool::new(true);
    assert_eq!(
        Statistics::read(&stored.files, &stored.tensor, Detail::Numbers, &cancel).unwrap(),
        None
    );
    assert_eq!(hash(&stored.files, &stored.tensor, &cancel).unwrap(), None);
    fs::write(&stored.files[0], [0; 100]).unwrap();
    let error = Statistics::read(&stored.files, &stored.tensor, Detail::Numbers, &RUN).unwrap_err();
    assert!(error.to_string().contains("cannot read"), "{error}");
    assert!(hash(&stored.files, &stored.tensor, &RUN).is_err());
}
