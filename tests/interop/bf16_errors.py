#!/usr/bin/env python3
"""How far transformers' own bfloat16 run of a golden is from the golden's float32 truth.

    bf16_errors.py tests/golden/forward/dense [CASE]

Prints the relative L2 errors of logits and gradients and the error of the loss, for bfloat16 weights and for float32 weights under
autocast. The tolerances of tests/device/nn.rs are the largest errors of the cases `short` and `long`.
"""
import contextlib
import json
import statistics
import sys
from pathlib import Path

import torch
from safetensors.torch import load_file
from transformers.models.qwen3_5.configuration_qwen3_5 import Qwen3_5TextConfig
from transformers.models.qwen3_5.modeling_qwen3_5 import Qwen3_5ForCausalLM


def relative(got, want):
    return ((got - want).norm() / want.norm()).item()


def sampled(whole, storage):
    """As the case stores a gradient: whole, or entry `i` is element `i * stride mod n`."""
    if storage["mode"] == "full" or whole.numel() <= storage["count"]:
        return whole
    return whole[torch.arange(storage["count"]) * storage["stride"] % whole.numel()]


def run(folder, case, dtype, autocast):
    config = json.loads((folder / "config.json").read_text())
    for key in ("model_type", "architectures", "transformers_version"):
        config.pop(key, None)
    config = Qwen3_5TextConfig(**config)
    config._attn_implementation = "eager"
    model = Qwen3_5ForCausalLM(config)
    weights = {}
    for file in case["weights"]:
        weights |= load_file(folder / file)
    model.load_state_dict(weights, strict=False)
    model.to(dtype)
    tensors = load_file(folder / case["file"])
    with torch.autocast("cpu", torch.bfloat16) if autocast else contextlib.nullcontext():
        logits = model(input_ids=tensors["input_ids"], use_cache=False).logits.float()
    logits = logits.flatten(0, -2)
    mask = tensors["loss_mask"].flatten()
    losses = torch.nn.functional.cross_entropy(logits, tensors["labels"].flatten(), reduction="none")
    loss = (losses * mask).sum() / mask.sum()
    loss.backward()
    errors = {}
    for name, parameter in model.named_parameters():
        want = tensors.get(f"grad.{name}")
        if want is not None and want.norm() > 0:
            errors[name] = relative(sampled(parameter.grad.float().flatten(), case["grad_storage"]), want.flatten())
    decay = {name for name in errors if name.endswith(("A_log", "dt_bias"))}
    print(f"{dtype} autocast {autocast}")
    print(f"  logits {relative(logits, tensors['logits'].flatten(0, -2)):.2e}  loss {abs(loss.item() - case['loss']):.2e} nats")
    for title, names in (("decay", decay), ("other", errors.keys() - decay)):
        worst = max(names, key=errors.get)
        median = statistics.median(errors[name] for name in names)
        print(f"  gradients, {title}: worst {errors[worst]:.2e} ({worst}), median {median:.2e}")


def main():
    folder = Path(sys.argv[1])
    case = json.loads((folder / f"{sys.argv[2] if len(sys.argv) > 2 else 'short'}.json").read_text())
    run(folder, case, torch.bfloat16, False)
    run(folder, case, torch.float32, True)


if __name__ == "__main__":
    main()
