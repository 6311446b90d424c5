//! Compiles the CUDA kernels when the feature `cuda` is on.
//!
//! Each `kernels/NAME.cu` becomes one fat binary with machine code for `sm_80` and `sm_90a` and PTX for what comes later. The file
//! `kernels.rs` in `OUT_DIR` lists them for `src/ops/cuda.rs`.

use std::error::Error;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=kernels");
    for variable in ["NVCC", "CUDA_HOME", "CUDA_PATH"] {
        println!("cargo::rerun-if-env-changed={variable}");
    }
    if env::var_os("CARGO_FEATURE_CUDA").is_none() {
        return Ok(());
    }
    let out = PathBuf::from(env::var("OUT_DIR")?);
    let nvcc = nvcc();
    let mut list = String::from(
        "/// Name and fat binary of every kernel file.\npub(super) static KERNELS: &[(&str, &[u8])] = &[\n",
    );
    let mut sources: Vec<PathBuf> = fs::read_dir("kernels")?
        .map(|e| e.map(|e| e.path()))
        .collect::<Result<_, _>>()?;
    sources.retain(|path| path.extension().is_some_and(|e| e == "cu"));
    sources.sort();
    for source in &sources {
        let name = source
            .file_stem()
            .and_then(|s| s.to_str())
            .ok_or("a kernel file's name is not UTF-8")?;
        let binary = out.join(name).with_extension("fatbin");
        compile(&nvcc, source, &binary)?;
        writeln!(
            list,
            "    ({name:?}, include_bytes!({:?})),",
            binary.display().to_string()
        )?;
    }
    list.push_str("];\n");
    fs::write(out.join("kernels.rs"), list)?;
    Ok(())
}

/// `$NVCC`, else the one of `$CUDA_HOME` or `$CUDA_PATH`, else the one on the path.
fn nvcc() -> PathBuf {
    if let Some(nvcc) = env::var_os("NVCC") {
        return nvcc.into();
    }
    ["CUDA_HOME", "CUDA_PATH"]
        .iter()
        .filter_map(env::var_os)
        .map(|home| Path::new(&home).join("bin/nvcc"))
        .find(|path| path.exists())
        .unwrap_or_else(|| "nvcc".into())
}

fn compile(nvcc: &Path, source: &Path, binary: &Path) -> Result<(), Box<dyn Error>> {
    let output = Command::new(nvcc)
        .args([
            "-fatbin",
            "-O3",
            "-std=c++17",
            "--expt-relaxed-constexpr",
            "-Ikernels",
        ])
        .args([
            "-gencode=arch=compute_80,code=sm_80",
            "-gencode=arch=compute_90a,code=sm_90a",
        ])
        .arg("-gencode=arch=compute_80,code=compute_80")
        .arg("-o")
        .args([binary, source])
        .output()
        .map_err(|error| {
            format!(
                "cannot run {}: {error}. `eval \"$(.ci/cuda-toolkit)\"` installs a toolkit",
                nvcc.display()
            )
        })?;
    if output.status.success() {
        return Ok(());
    }
    Err(format!(
        "{} failed on {}:\n{}",
        nvcc.display(),
        source.display(),
        String::from_utf8_lossy(&output.stderr)
    )
    .into())
}
