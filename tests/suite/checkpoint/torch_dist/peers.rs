//! PyTorch and Megatron Core, the real packages, read what we write and write what we read.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;

use serde_json::Value;
use trestle::base::Shape;
use trestle::checkpoint::torch_dist::{Options, Reader};

use super::values;
use super::write::{bytes, every_type, write};
use crate::interop;

/// Type, extents and CRC-32 of a tensor by its key.
type Tensors = BTreeMap<String, (String, Vec<usize>, u32)>;

/// A Python with torch and megatron-core, made once; why there is none.
fn python() -> Option<&'static Path> {
    static PYTHON: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    match PYTHON.get_or_init(|| environment(&[])) {
        Ok(path) => Some(path),
        Err(problem) => {
            interop::skip("PyTorch and Megatron Core were not asked", problem);
            None
        }
    }
}

/// What the script that makes environments prints.
fn environment(arguments: &[&str]) -> Result<PathBuf, String> {
    let script = interop::script("torch_dist_environment.py");
    let output = run(Command::new("python3").arg(script).args(arguments))?;
    let text = String::from_utf8_lossy(&output.stdout);
    let last = text.lines().last().ok_or("no path was printed")?;
    Ok(PathBuf::from(last))
}

fn run(command: &mut Command) -> Result<Output, String> {
    let output = command.output().map_err(|e| format!("{command:?}: {e}"))?;
    if output.status.success() {
        Ok(output)
    } else {
        let error = String::from_utf8_lossy(&output.stderr);
        Err(format!("{command:?}: {}", error.trim()))
    }
}

/// What peers say of checkpoints that they load or save, one answer a work: `torch,load,DIR`.
fn peer(python: &Path, works: &[String]) -> Vec<(Tensors, Value)> {
    peer_with(python, None, works)
}

/// As [`peer`], with packages of a folder before those of the environment.
fn peer_with(python: &Path, packages: Option<&Path>, works: &[String]) -> Vec<(Tensors, Value)> {
    let mut command = Command::new(python);
    command
        .arg(interop::script("torch_dist_peer.py"))
        .args(works);
    command.envs(packages.map(|folder| ("PYTHONPATH", folder)));
    let output = run(&mut command).unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let answers = text
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let answers: Vec<(Tensors, Value)> = answers
        .map(|json| {
            let tensors = serde_json::from_value(json["tensors"].clone()).unwrap();
            (tensors, json["common"].clone())
        })
        .collect();
    assert_eq!(answers.len(), works.len(), "{text}");
    answers
}

/// What our reader says of one.
fn ours(folder: &Path) -> (Reader, Tensors) {
    let reader = Reader::open(folder).unwrap();
    let described = reader.tensors.iter().map(|t| {
        let crc = crc32fast::hash(&values(&reader.files, t));
        (
            t.name.clone(),
            (t.dtype.name().to_owned(), t.shape.0.clone(), crc),
        )
    });
    let described = described.collect();
    (reader, described)
}

#[test]
fn the_peers_read_what_we_write() {
    let Some(python) = python() else { return };
    // every type in shapes of no, one, two and three dims, most cut into several chunks and files
    let tensors = every_type();
    let expected: Tensors = tensors
        .iter()
        .enumerate()
        .map(|(i, (name, shape, dtype))| {
            let crc = crc32fast::hash(&bytes(i, shape, *dtype));
            (
                name.clone(),
                (dtype.name().to_owned(), shape.0.clone(), crc),
            )
        })
        .collect();
    let save = tempfile::tempdir().unwrap();
    let mut works = Vec::new();
    for common_file in [false, true] {
        let folder = save.path().join(format!("{common_file}"));
        std::fs::create_dir(&folder).unwrap();
        let options = Options {
            max_chunk_bytes: 64,
            files: 3,
            iteration: 42,
            common_file,
            ..Options::default()
        };
        let plan = write(&folder, &tensors, options);
        assert_eq!(plan.files.len(), 3);
        assert!(plan.items.len() > 2 * tensors.len());
        works.push(format!("torch,load,{}", folder.display()));
        works.push(format!("megatron,load,{}", folder.display()));
    }
    for ((loaded, common), work) in peer(python, &works).into_iter().zip(&works) {
        assert_eq!(loaded, expected, "{work}");
        if work.starts_with("megatron") {
            assert_eq!(common["checkpoint_version"], 3.0);
            assert_eq!(common["iteration"], 42);
            assert_eq!(common["content_metadata"]["singleton_local_shards"], false);
        }
    }
}

#[test]
fn we_read_what_pytorch_writes() {
    let Some(python) = python() else { return };
    let variants = ["threads", "one_file", "file_each", "nested", "unflattened"];
    let save = tempfile::tempdir().unwrap();
    let folder = |variant: &str| save.path().join(variant);
    let work = |variant| format!("torch,save,{},{variant}", folder(variant).display());
    let mut works: Vec<String> = variants.iter().map(|variant| work(variant)).collect();
    works.push(work("transposed"));
    let answers = peer(python, &works);
    for (variant, (saved, _)) in variants.iter().zip(&answers) {
        let (reader, found) = ours(&folder(variant));
        assert_eq!(&found, saved, "{variant}");
        assert_eq!(reader.iteration, None);
        let objects: &[&str] = match *variant {
            "nested" => &["args.betas", "args.lr", "step"],
            _ => &[],
        };
        let mut names = reader.objects.clone();
        names.sort_unstable();
        // tuples are flattened by some versions of PyTorch and kept by others
        for name in &mut names {
            name.truncate(10);
        }
        names.dedup();
        assert_eq!(names, objects, "{variant}");
    }
    let error = Reader::open(&folder("transposed")).unwrap_err().to_string();
    let said = error.contains("transposed") && error.contains("[3, 4] has strides [1, 3]");
    assert!(said, "{error}");
}

#[test]
fn we_read_what_megatron_writes() {
    let Some(python) = python() else { return };
    let save = tempfile::tempdir().unwrap();
    let variants = ["plain", "arguments"];
    let folder = |variant: &str| save.path().join(variant);
    let works = variants.map(|v| format!("megatron,save,{},{v}", folder(v).display()));
    for (variant, (saved, _)) in variants.iter().zip(peer(python, &works)) {
        let (reader, found) = ours(&folder(variant));
        assert_eq!(found, saved, "{variant}");
        assert_eq!(reader.extra_states, 1);
        assert_eq!(
            reader.optimizer[0].name,
            "optimizer.state.exp_avg.cut.weight"
        );
        assert_eq!(reader.optimizer[0].shape, Shape(vec![6, 8]));
        let common = reader.common().unwrap().unwrap();
        assert_eq!(
            (common.checkpoint_version, common.iteration),
            (Some(3.0), Some(12))
        );
        if *variant == "arguments" {
            let args = common.entries.iter().find(|(key, _)| key == "args");
            let expected = "Namespace(\"tensor_model_parallel_size\": 2, \"params_dtype\": torch.bfloat16, \"seed\": None)";
            assert_eq!(args.unwrap().1, expected);
        }
    }
}

#[test]
fn an_older_megatron_with_common_pt_reads_ours_and_is_read() {
    let Some(python) = python() else { return };
    let older = match environment(&["0.14.0"]) {
        Ok(folder) => folder,
        Err(problem) => return interop::skip("Megatron Core 0.14 was not asked", &problem),
    };
    let save = tempfile::tempdir().unwrap();
    let (own, theirs) = (save.path().join("own"), save.path().join("theirs"));
    std::fs::create_dir(&own).unwrap();
    write(&own, &every_type(), Options::default());
    let works = [
        format!("megatron,load,{}", own.display()),
        format!("megatron,save,{},arguments", theirs.display()),
    ];
    let answers = peer_with(python, Some(&older), &works);
    let (_, found) = ours(&own);
    assert_eq!(answers[0].0, found);
    assert_eq!(answers[0].1["checkpoint_version"], 3.0);

    assert!(theirs.join("common.pt").exists());
    let (reader, found) = ours(&theirs);
    assert_eq!(found, answers[1].0);
    assert_eq!(reader.objects, ["rng_state/shard_0_1"]);
    let common = reader.common().unwrap().unwrap();
    assert_eq!(
        (common.checkpoint_version, common.iteration),
        (Some(3.0), Some(12))
    );
    assert!(
        common
            .entries
            .iter()
            .any(|(key, value)| key == "args" && value.contains("torch.bfloat16"))
    );
}

#[test]
fn an_imported_model_is_what_megatron_itself_saved() {
    let Some(python) = python() else { return };
    let save = tempfile::tempdir().unwrap();
    let mut works = Vec::new();
    for (case, file, layout) in [
        ("dense", "hf.safetensors", "tp2"),
        ("moe", "hf-fused.safetensors", "tp2-ep2"),
    ] {
        let golden = Path::new("tests/golden/mapping");
        let model = save.path().join(case);
        std::fs::create_dir(&model).unwrap();
        let copy = |from: &str, to: &str| {
            std::fs::copy(golden.join(case).join(from), model.join(to)).unwrap();
        };
        copy("config.json", "config.json");
        copy(file, "model.safetensors");
        let out = save.path().join(format!("{case}-megatron"));
        run(Command::new(env!("CARGO_BIN_EXE_trestle"))
            .args(["convert", "import"])
            .args([&model, &out]))
        .unwrap();
        let theirs = golden.join("torch_dist").join(case).join(layout);
        works.push(format!(
            "megatron,load,{}",
            out.join("iter_0000000").display()
        ));
        works.push(format!("megatron,load,{}", theirs.display()));
    }
    for pair in peer(python, &works).chunks(2) {
        assert!(pair[0].0.len() > 60);
        assert_eq!(pair[0].0, pair[1].0);
        assert_eq!(pair[0].1["content_metadata"], pair[1].1["content_metadata"]);
    }
}
