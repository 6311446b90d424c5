"""Makes toy models with transformers, and compares what transformers computes with two copies of one.

    transformers_export.py make GOLDENS OUT CLASS/STYLE...     a directory OUT/CLASS/STYLE for each
    transformers_export.py compare A B [A B]...                JSON: a list with an object for each pair

GOLDENS has CLASS/config.json and CLASS/STYLE.safetensors, of which names and shapes are used. Weights are random, bfloat16, with `A_log` and the gated
delta norm in float32, as they are published. transformers has no MTP, so those tensors are made from the golden's names and shapes. The weights are cut
into several files with an index.
"""

import hashlib
import json
import re
import sys
from pathlib import Path

import torch
import transformers
from safetensors import safe_open
from safetensors.torch import load_file, save_file

SHARDS = 3
FLOAT32 = re.compile(r"linear_attn\.(A_log|norm\.weight)$")
# Ids of the placeholders that fit into the toy's vocabulary.
SPECIAL = {"image_token_id": 120, "video_token_id": 121, "vision_start_token_id": 122, "vision_end_token_id": 123}


def value(name, shape, generator):
    """Random weights of a size at which every tensor matters to the logits."""
    noise = torch.randn(shape, generator=generator)
    if name.endswith("linear_attn.norm.weight"):
        noise = 1 + 0.2 * noise
    elif name.endswith("A_log"):
        noise = 0.5 * noise
    elif "norm" in name or name.endswith(("bias", "dt_bias")):
        noise = 0.1 * noise
    elif name.endswith("conv1d.weight"):
        noise = 0.4 * noise
    else:
        noise = noise * shape[-1] ** -0.5
    # The float32 ones hold bfloat16 values, as the published ones do.
    noise = noise.to(torch.bfloat16)
    return noise.float() if FLOAT32.search(name) else noise


def golden_shapes(file):
    with safe_open(file, "pt") as golden:
        return {name: golden.get_slice(name).get_shape() for name in golden.keys()}


def shards_of(folder):
    index = folder / "model.safetensors.index.json"
    if index.exists():
        return sorted(set(json.loads(index.read_text())["weight_map"].values()))
    return ["model.safetensors"]


def tensors_of(folder):
    return {name: tensor for shard in shards_of(folder) for name, tensor in load_file(folder / shard).items()}


def make(golden, out):
    """`golden` is CLASS/STYLE."""
    config = transformers.AutoConfig.from_pretrained(golden.parent)
    for key, token in SPECIAL.items():
        if hasattr(config, key):
            setattr(config, key, token)
    model = getattr(transformers, config.architectures[0])(config).to(torch.bfloat16)
    model.save_pretrained(out)
    shapes = golden_shapes(golden.with_name(golden.name + ".safetensors"))
    body = {name for name in shapes if not name.startswith("mtp.")}
    # It loads packed experts, which is how they are published, and saves them one by one.
    known = [set(model.state_dict()), set(tensors_of(out))]
    assert body in known, f"transformers knows other names: {sorted(known[0] ^ body)[:4]}"
    for shard in shards_of(out):
        (out / shard).unlink()

    generator = torch.Generator().manual_seed(len(shapes))
    tensors = {name: value(name, shapes[name], generator) for name in sorted(shapes)}
    order = sorted(tensors)
    weight_map = {}
    for number in range(SHARDS):
        file = f"model-{number + 1:05}-of-{SHARDS:05}.safetensors"
        part = {name: tensors[name] for name in order[number::SHARDS]}
        save_file(part, out / file, metadata={"format": "pt"})
        weight_map.update(dict.fromkeys(part, file))
    total = sum(tensor.nbytes for tensor in tensors.values())
    index = {"metadata": {"total_size": total}, "weight_map": dict(sorted(weight_map.items()))}
    (out / "model.safetensors.index.json").write_text(json.dumps(index, indent=2))
    (out / "tokenizer_config.json").write_text('{"kept": "as it is"}')


def inputs(config):
    """Token ids, and for a model with a vision tower an image of 4 by 4 patches in each sequence."""
    generator = torch.Generator().manual_seed(1)
    ids = torch.randint(0, 120, (2, 24), generator=generator)
    if not hasattr(config, "vision_config"):
        return [{"input_ids": ids}]
    vision = config.vision_config
    side = 4
    count = side * side // vision.spatial_merge_size**2
    with_image = ids.clone()
    with_image[:, 3] = SPECIAL["vision_start_token_id"]
    with_image[:, 4 : 4 + count] = SPECIAL["image_token_id"]
    with_image[:, 4 + count] = SPECIAL["vision_end_token_id"]
    patch = vision.in_channels * vision.temporal_patch_size * vision.patch_size**2
    pixels = torch.randn((2 * side * side, patch), generator=generator)
    image = {
        "input_ids": with_image,
        "pixel_values": pixels,
        "image_grid_thw": torch.tensor([[1, side, side]] * 2),
        "mm_token_type_ids": (with_image == SPECIAL["image_token_id"]).int(),
    }
    return [{"input_ids": ids}, image]


def logits(folder):
    config = transformers.AutoConfig.from_pretrained(folder)
    kind = getattr(transformers, config.architectures[0])
    model, info = kind.from_pretrained(folder, dtype="auto", output_loading_info=True)
    unexpected = [name for name in info["unexpected_keys"] if not name.startswith("mtp.")]
    complaints = [*info["missing_keys"], *unexpected, *info["mismatched_keys"]]
    assert not complaints, f"{folder}: {complaints[:4]}"
    model.eval()
    with torch.no_grad():
        found = [model(**batch).logits.float() for batch in inputs(config)]
    for one in found:
        assert one.isfinite().all() and one.std() > 1e-3, f"{folder}: logits say nothing"
    return found


def bits(tensor):
    return tensor.contiguous().view(torch.uint8)


def same(a, b):
    return a.dtype == b.dtype and a.shape == b.shape and torch.equal(bits(a), bits(b))


def compare(first, second):
    ours, theirs = logits(first), logits(second)
    a, b = tensors_of(first), tensors_of(second)
    # Placement is the writer's own affair; everything else beside the weights is to be kept. JSON may be spelled anew: 1e-06 as 1e-6.
    placed = {*shards_of(first), *shards_of(second), "model.safetensors.index.json"}
    read = lambda path: json.loads(path.read_text()) if path.suffix == ".json" else path.read_bytes()
    files = lambda folder: {p.name: read(p) for p in folder.iterdir() if p.is_file() and p.name not in placed}
    kept = files(second)
    return {
        "batches": len(ours),
        "logits_equal": all(same(x, y) for x, y in zip(ours, theirs, strict=True)),
        "largest_difference": max((x - y).abs().max().item() for x, y in zip(ours, theirs, strict=True)),
        "logits_sha256": hashlib.sha256(b"".join(x.numpy().tobytes() for x in ours)).hexdigest(),
        "tensors": len(a),
        "mtp_tensors": sum(name.startswith("mtp.") for name in a),
        "float32_tensors": sum(tensor.dtype == torch.float32 for tensor in b.values()),
        "names_that_differ": sorted(set(a) ^ set(b)),
        "tensors_that_differ": sorted(name for name in set(a) & set(b) if not same(a[name], b[name])),
        "files_that_differ": sorted(name for name, data in files(first).items() if kept.get(name) != data),
    }


if __name__ == "__main__":
    torch.set_num_threads(1)
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    action, *arguments = sys.argv[1:]
    if action == "make":
        goldens, out, *classes = arguments
        for kind in classes:
            make(Path(goldens) / kind, Path(out) / kind)
    else:
        paths = [Path(argument) for argument in arguments]
        print(json.dumps([compare(a, b) for a, b in zip(paths[::2], paths[1::2], strict=True)]))
