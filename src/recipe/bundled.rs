//! The recipes that come with the program: our own, and every published one of Megatron-Bridge.

use std::io;
use std::path::{Path, PathBuf};

use super::{Loaded, Megatron, Value, load};

macro_rules! texts {
    ($($name:literal,)*) => {
        &[$(($name, include_str!(concat!("../../recipes/", $name)))),*]
    };
}

/// Path below the recipes' folder and text of each, sorted by folder and name.
pub const BUNDLED: &[(&str, &str)] = texts![
    "demo-concat.toml",
    "demo-mtp0.toml",
    "demo-mtp2.toml",
    "demo-packed.toml",
    "demo.toml",
    "pretrain.toml",
    "qwen3_5-0_8b-h100.toml",
    "qwen3_5-0_8b.toml",
    "qwen3_5-27b.toml",
    "qwen3_5-2b.toml",
    "qwen3_5-4b.toml",
    "qwen3_5-9b.toml",
    "tiny-smoke.toml",
    "megatron/base/benchmark-fp8.toml",
    "megatron/base/benchmark-qwen3_5-122b-a10b.toml",
    "megatron/base/benchmark-qwen3_5-35b-a3b.toml",
    "megatron/base/benchmark-qwen3_5-397b-a17b.toml",
    "megatron/base/benchmark.toml",
    "megatron/base/checkpoints.toml",
    "megatron/base/experts-finetune.toml",
    "megatron/base/experts.toml",
    "megatron/base/finetune.toml",
    "megatron/base/full-recompute.toml",
    "megatron/base/functional.toml",
    "megatron/base/gb200.toml",
    "megatron/base/h100.toml",
    "megatron/base/hybridep-h100.toml",
    "megatron/base/hybridep.toml",
    "megatron/base/library.toml",
    "megatron/base/peft-dense-rate.toml",
    "megatron/base/peft-moe-rate.toml",
    "megatron/base/peft.toml",
    "megatron/base/pretrain.toml",
    "megatron/base/qwen3_5-0_8b.toml",
    "megatron/base/qwen3_5-122b-a10b.toml",
    "megatron/base/qwen3_5-27b.toml",
    "megatron/base/qwen3_5-2b.toml",
    "megatron/base/qwen3_5-35b-a3b.toml",
    "megatron/base/qwen3_5-397b-a17b.toml",
    "megatron/base/qwen3_5-4b.toml",
    "megatron/base/qwen3_5-9b.toml",
    "megatron/base/sft-dense-rate.toml",
    "megatron/base/sft-moe-rate.toml",
    "megatron/base/sft.toml",
    "megatron/base/text-pretrain.toml",
    "megatron/base/upstream.toml",
    "megatron/qwen35_text_35b_a3b_pretrain_8gpu_gb200_bf16.toml",
    "megatron/qwen35_text_9b_pretrain_8gpu_gb200_bf16.toml",
    "megatron/qwen35_vl_122b_a10b_peft_8gpu_h100_bf16.toml",
    "megatron/qwen35_vl_122b_a10b_pretrain_128gpu_h100_bf16.toml",
    "megatron/qwen35_vl_122b_a10b_pretrain_128gpu_h100_bf16_mock.toml",
    "megatron/qwen35_vl_122b_a10b_pretrain_128gpu_h100_fp8cs.toml",
    "megatron/qwen35_vl_122b_a10b_sft_48gpu_h100_bf16.toml",
    "megatron/qwen35_vl_27b_peft_2gpu_h100_bf16.toml",
    "megatron/qwen35_vl_27b_pretrain_16gpu_gb200_bf16_mock.toml",
    "megatron/qwen35_vl_27b_pretrain_16gpu_h100_bf16_mock.toml",
    "megatron/qwen35_vl_27b_sft_16gpu_h100_bf16.toml",
    "megatron/qwen35_vl_2b_peft_1gpu_h100_bf16.toml",
    "megatron/qwen35_vl_2b_sft_1gpu_h100_bf16.toml",
    "megatron/qwen35_vl_35b_a3b_peft_16gpu_h100_bf16.toml",
    "megatron/qwen35_vl_35b_a3b_peft_4gpu_h100_bf16.toml",
    "megatron/qwen35_vl_35b_a3b_peft_8gpu_gb200_bf16_functional.toml",
    "megatron/qwen35_vl_35b_a3b_pretrain_16gpu_h100_bf16.toml",
    "megatron/qwen35_vl_35b_a3b_pretrain_16gpu_h100_bf16_functional.toml",
    "megatron/qwen35_vl_35b_a3b_pretrain_16gpu_h100_fp8cs.toml",
    "megatron/qwen35_vl_35b_a3b_pretrain_8gpu_h100_bf16_mock.toml",
    "megatron/qwen35_vl_35b_a3b_sft_16gpu_h100_bf16.toml",
    "megatron/qwen35_vl_35b_a3b_sft_2gpu_h100_bf16_fsdp.toml",
    "megatron/qwen35_vl_35b_a3b_sft_8gpu_gb200_bf16_functional.toml",
    "megatron/qwen35_vl_35b_a3b_sft_long_context_32gpu_h100_bf16.toml",
    "megatron/qwen35_vl_397b_a17b_peft_32gpu_h100_bf16.toml",
    "megatron/qwen35_vl_397b_a17b_pretrain_256gpu_h100_bf16.toml",
    "megatron/qwen35_vl_397b_a17b_pretrain_256gpu_h100_fp8cs.toml",
    "megatron/qwen35_vl_397b_a17b_pretrain_512gpu_h100_bf16_mock.toml",
    "megatron/qwen35_vl_397b_a17b_sft_128gpu_h100_bf16.toml",
    "megatron/qwen35_vl_4b_peft_1gpu_h100_bf16.toml",
    "megatron/qwen35_vl_4b_sft_2gpu_h100_bf16.toml",
    "megatron/qwen35_vl_800m_peft_1gpu_h100_bf16.toml",
    "megatron/qwen35_vl_800m_sft_1gpu_h100_bf16.toml",
    "megatron/qwen35_vl_9b_peft_1gpu_h100_bf16.toml",
    "megatron/qwen35_vl_9b_pretrain_4gpu_h100_bf16_mock.toml",
    "megatron/qwen35_vl_9b_sft_4gpu_h100_bf16.toml",
];

/// Folder of the published recipes below the recipes' folder.
const PUBLISHED: &str = "megatron";

fn read(path: &Path) -> io::Result<String> {
    BUNDLED
        .iter()
        .find(|(name, _)| Path::new(name) == path)
        .map(|(_, text)| (*text).to_owned())
        .ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))
}

/// Loads a bundled recipe, by its path below the recipes' folder.
pub fn load_bundled(path: &str, sets: &[String]) -> Loaded {
    load(Path::new(path), sets, &read)
}

/// Paths of the published recipes of Megatron-Bridge below the recipes' folder.
pub fn published_paths() -> impl Iterator<Item = PathBuf> {
    let paths = BUNDLED.iter().map(|(name, _)| Path::new(name));
    paths
        .filter(|path| path.parent() == Some(Path::new(PUBLISHED)))
        .map(Path::to_owned)
}

/// The published recipe of this name, or of which it is an alias.
pub fn published(name: &str) -> Option<Megatron> {
    // The file is named after the recipe; only aliases have to be looked for.
    let by_file = name.strip_suffix("_config").and_then(|stem| {
        let recipe = load_bundled(&format!("{PUBLISHED}/{stem}.toml"), &[]).megatron?;
        (recipe.recipe == name).then_some(recipe)
    });
    by_file.or_else(|| {
        published_paths().find_map(|path| {
            let recipe = load(&path, &[], &read).megatron?;
            (recipe.recipe == name || is_alias(&recipe, name)).then_some(recipe)
        })
    })
}

fn is_alias(recipe: &Megatron, name: &str) -> bool {
    match recipe.get("megatron.aliases") {
        Some(Value::List(aliases)) => aliases.iter().any(|alias| alias.as_str() == Some(name)),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_published_recipe_is_found_by_name_and_alias() {
        for path in published_paths() {
            let recipe = load(&path, &[], &read).megatron.expect("one of Bridge's");
            let found = published(&recipe.recipe).expect("by name");
            assert_eq!(found.recipe, recipe.recipe);
            if let Some(Value::List(aliases)) = recipe.get("megatron.aliases") {
                for alias in aliases.iter().filter_map(Value::as_str) {
                    assert_eq!(published(alias).expect("by alias").recipe, recipe.recipe);
                }
            }
        }
        assert_eq!(published("no_such_config"), None);
    }
}
