"""What huggingface_hub and safetensors make of our files, and files of theirs for us.

Usage: python safetensors_peer.py OURS THEIRS LIMIT < ORDER

OURS holds our files, ORDER is a JSON list of its tensors' names. Prints JSON: for each name type, extents and CRC-32 as safetensors
reads them from our files, and the file in which huggingface_hub would put it with shards of LIMIT bytes. THEIRS is filled by
huggingface_hub from the same tensors.
"""

import json
import sys
import zlib
from pathlib import Path

import torch
from huggingface_hub import save_torch_state_dict, split_torch_state_dict_into_shards
from safetensors import safe_open

ours, theirs, limit = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
order = json.load(sys.stdin)
stored = {}
for path in sorted(ours.glob("*.safetensors")):
    with safe_open(path, framework="pt") as file:
        assert file.metadata() == {"format": "pt"}, file.metadata()
        stored.update({name: file.get_tensor(name) for name in file.keys()})
tensors = {name: stored[name] for name in order}
split = split_torch_state_dict_into_shards(tensors, max_shard_size=limit)
answer = {}
for name, tensor in tensors.items():
    scalars = tensor.contiguous().flatten().view(torch.uint8)
    dtype = str(tensor.dtype).removeprefix("torch.")
    crc = zlib.crc32(bytes(scalars.tolist()))
    answer[name] = [dtype, list(tensor.shape), crc, split.tensor_to_filename[name]]
theirs.mkdir()
save_torch_state_dict(tensors, theirs, max_shard_size=limit)
print(json.dumps({"tensors": answer, "total_size": split.metadata["total_size"]}))
