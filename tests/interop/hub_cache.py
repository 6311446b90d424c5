"""Asks huggingface_hub and transformers about a cache.

    hub_cache.py find ID      prints the snapshot that both find without a network, as JSON
    hub_cache.py fetch ID     downloads the JSON files with huggingface_hub

The cache and the server are those of HF_HOME and HF_ENDPOINT.
"""

import json
import sys

from huggingface_hub import scan_cache_dir, snapshot_download


def find(model):
    from transformers import AutoConfig

    snapshot = snapshot_download(model, local_files_only=True)
    config = AutoConfig.from_pretrained(model)
    cache = scan_cache_dir()
    (repository,) = cache.repos
    (revision,) = repository.revisions
    return {
        "snapshot": snapshot,
        "model_type": config.model_type,
        "hidden_size": config.hidden_size,
        "warnings": [str(warning) for warning in cache.warnings],
        "files": sorted(file.file_name for file in revision.files),
        "refs": sorted(revision.refs),
        "bytes": repository.size_on_disk,
    }


def fetch(model):
    return {"snapshot": snapshot_download(model, allow_patterns="*.json")}


if __name__ == "__main__":
    print(json.dumps({"find": find, "fetch": fetch}[sys.argv[1]](sys.argv[2])))
