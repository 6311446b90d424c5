"""The peers of Trestle's torch_dist reader and writer: PyTorch's distributed checkpoint and Megatron Core, on the CPU.

    torch_dist_peer.py WORK...

    torch,load,DIR             what torch.distributed.checkpoint reads
    megatron,load,DIR          what megatron.core.dist_checkpointing reads
    torch,save,DIR,VARIANT     a checkpoint of torch.distributed.checkpoint
    megatron,save,DIR,VARIANT  a checkpoint of megatron.core.dist_checkpointing

Prints one JSON object a work: {"tensors": {key: [dtype, shape, CRC-32 of the bytes]}, "common": ...}.
"""

import inspect
import json
import sys
import tempfile
import zlib

import torch
import torch.distributed.checkpoint as dcp
from torch.distributed.checkpoint.metadata import TensorStorageMetadata


def described(tensor):
    flat = tensor.detach().contiguous().reshape(-1)
    data = flat.view(torch.uint8).numpy().tobytes() if flat.numel() else b""
    return [str(tensor.dtype).removeprefix("torch."), list(tensor.shape), zlib.crc32(data)]


def empty(folder):
    """A tensor to load into for every key of the checkpoint."""
    stored = dcp.FileSystemReader(folder).read_metadata().state_dict_metadata
    tensors = {key: value for key, value in stored.items() if isinstance(value, TensorStorageMetadata)}
    return {key: torch.empty(value.size, dtype=value.properties.dtype) for key, value in tensors.items()}


def single_process():
    if torch.distributed.is_initialized():
        return
    # there is no GPU to wait for
    torch.cuda.synchronize = lambda *_: None
    torch.cuda.current_device = lambda: None
    torch.cuda.Stream = type("Stream", (), {})
    torch.Tensor.cuda = lambda self, *_, **__: self
    store = tempfile.mktemp()
    torch.distributed.init_process_group("gloo", init_method=f"file://{store}", rank=0, world_size=1)


def torch_load(folder):
    tensors = empty(folder)
    dcp.load(tensors, storage_reader=dcp.FileSystemReader(folder), no_dist=True)
    return tensors, None


def megatron_load(folder):
    from megatron.core import dist_checkpointing
    from megatron.core.dist_checkpointing import ShardedTensor
    from megatron.core.dist_checkpointing.mapping import ShardedObject

    single_process()
    wanted = {key: ShardedTensor.from_rank_offsets(key, tensor) for key, tensor in empty(folder).items()}
    # the engine's states, which a real model asks for
    stored = dcp.FileSystemReader(folder).read_metadata().state_dict_metadata
    states = [key for key in stored if "._extra_state/" in key]
    wanted.update((key, ShardedObject.empty_from_unique_key(key)) for key in states)
    # not strict: the check of keys fails with PyTorch 2.15, on Megatron's own checkpoints too
    loaded = dist_checkpointing.load(wanted, folder)
    assert all(loaded[key].dtype == torch.uint8 and loaded[key].numel() == 0 for key in states)
    common = dist_checkpointing.load_common_state_dict(folder)
    if hasattr(dist_checkpointing, "load_content_metadata"):
        assert dist_checkpointing.load_content_metadata(folder) == common["content_metadata"]
    return {key: loaded[key] for key in empty(folder)}, {key: common[key] for key in ("checkpoint_version", "iteration", "content_metadata") if key in common}


def some_tensors():
    generator = torch.Generator().manual_seed(7)
    numbers = lambda *shape: torch.randn(shape, generator=generator)
    return {
        "decoder.layers.0.mlp.linear_fc1.weight": numbers(12, 5),
        "decoder.final_layernorm.weight": numbers(7).to(torch.bfloat16),
        "decoder.experts.weight": numbers(4, 6, 3).to(torch.float16),
        "scalar": numbers().to(torch.float64),
        "counts": torch.arange(10).reshape(2, 5),
        "flags": torch.tensor([True, False, True]),
        "quantized": numbers(4, 4).to(torch.float8_e4m3fn),
        "unsigned": torch.arange(6).to(torch.uint16),
        "empty": torch.zeros(0, 3),
        # one part of a larger storage
        "sliced": numbers(9, 8)[2:5, 1:7],
        "parameter": torch.nn.Parameter(numbers(3, 2)),
    }


def torch_save(folder, variant):
    tensors = some_tensors()
    state, options, planner = dict(tensors), {}, {}
    if variant == "threads":
        options = {"thread_count": 3}
    elif variant == "one_file":
        options = {"single_file_per_rank": True, "sync_files": False}
    elif variant == "file_each":
        options = {"single_file_per_rank": False}
    elif variant == "nested":
        state = {"model": dict(tensors), "step": 7, "args": {"lr": 1e-3, "betas": (0.9, 0.95)}}
        tensors = {f"model.{key}": value for key, value in tensors.items()}
        planner = {"flatten_state_dict": True, "dedup_save_to_lowest_rank": True}
    elif variant == "transposed":
        tensors = state = {"transposed": torch.arange(12.0).reshape(4, 3).t()}
    elif variant == "unflattened":
        planner = {"flatten_state_dict": False, "flatten_sharded_tensors": False}
    else:
        sys.exit(f"unknown variant {variant}")
    writer = dcp.FileSystemWriter(folder, **options)
    dcp.save(state, storage_writer=writer, planner=dcp.DefaultSavePlanner(**planner), no_dist=True)
    return tensors, None


def megatron_save(folder, variant):
    import argparse
    import os

    from megatron.core import dist_checkpointing
    from megatron.core.dist_checkpointing import ShardedTensor
    from megatron.core.dist_checkpointing.mapping import ShardedObject

    single_process()
    tensors = {key: value.detach() for key, value in some_tensors().items() if key not in ("empty", "scalar")}
    state = {key: ShardedTensor.from_rank_offsets(key, value.contiguous()) for key, value in tensors.items()}
    # two parts along the second dim, as two tensor-parallel ranks would give them
    whole = torch.arange(48, dtype=torch.float32).reshape(6, 8)
    for part in range(2):
        piece = whole[:, 4 * part : 4 * part + 4].contiguous()
        state[f"part{part}"] = ShardedTensor.from_rank_offsets("cut.weight", piece, (1, part, 2))
    tensors["cut.weight"] = whole
    # experts cut along the first two dims
    experts = torch.arange(4 * 6 * 3, dtype=torch.float32).reshape(4, 6, 3)
    for e in range(2):
        for t in range(3):
            piece = experts[2 * e : 2 * e + 2, 2 * t : 2 * t + 2].contiguous()
            state[f"expert{e}{t}"] = ShardedTensor.from_rank_offsets("experts.weight", piece, (0, e, 2), (1, t, 3))
    tensors["experts.weight"] = experts
    state["extra"] = ShardedObject("linear._extra_state", [torch.zeros(0)], (1,), (0,))
    state["rng"] = ShardedObject("rng_state", {"numpy": 3}, (1,), (0,))
    state["exp_avg"] = ShardedTensor.from_rank_offsets("optimizer.state.exp_avg.cut.weight", whole * 2)
    state.update(checkpoint_version=3.0, iteration=12)
    if variant == "arguments":
        state["args"] = argparse.Namespace(tensor_model_parallel_size=2, params_dtype=torch.bfloat16, seed=None)
    elif variant != "plain":
        sys.exit(f"unknown variant {variant}")
    os.makedirs(folder, exist_ok=True)
    content = {"content_metadata": {"singleton_local_shards": False}}
    if "content_metadata" not in inspect.signature(dist_checkpointing.save).parameters:
        content = {}  # before 0.13
    dist_checkpointing.save(state, folder, validate_access_integrity=False, **content)
    return tensors, None


def main():
    works = {("torch", "load"): torch_load, ("torch", "save"): torch_save, ("megatron", "load"): megatron_load, ("megatron", "save"): megatron_save}
    for work in sys.argv[1:]:
        peer, verb, *arguments = work.split(",")
        tensors, common = works[peer, verb](*arguments)
        print(json.dumps({"tensors": {key: described(value) for key, value in tensors.items()}, "common": common}), flush=True)


if __name__ == "__main__":
    main()
