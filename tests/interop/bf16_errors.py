#!/usr/bin/env python3
"""How far transformers' own bfloat16 runs of the model goldens are from their float32 truth.

    bf16_errors.py tests/golden [--write tests/golden/bf16_errors.json]

For every dense case of `forward` and `mtp`: relative L2 errors of logits and gradients and the error of the losses in nats, once with bfloat16
weights and once with float32 weights under autocast; the larger one counts. The tolerances of tests/device/nn.rs come from the file written.
Documents of a packed row run one by one. A depth of MTP is transformers' own decoder layer between the norms and the joint of the golden.
"""
import argparse
import contextlib
import json
import statistics
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from transformers.models.qwen3_5 import modeling_qwen3_5 as qwen
from transformers.models.qwen3_5.configuration_qwen3_5 import Qwen3_5TextConfig

CASES = {
    "forward/dense": ["short", "long", "packed"],
    "mtp/dense": ["depth1", "depth1_lambda0", "depth2", "packed2"],
    "mtp/dense_untied": ["depth1"],
}
DECAYS = ("A_log", "dt_bias")


def relative(got, want):
    return ((got - want).norm() / want.norm()).item()


def sampled(whole, storage):
    """As the case stores a gradient: whole, or entry `i` is element `i * stride mod n`."""
    if storage["mode"] == "full" or whole.numel() <= storage["count"]:
        return whole
    return whole[torch.arange(storage["count"]) * storage["stride"] % whole.numel()]


class Depth(torch.nn.Module):
    def __init__(self, config):
        super().__init__()
        h, eps = config.hidden_size, config.rms_norm_eps
        self.layer = qwen.Qwen3_5DecoderLayer(config, config.layer_types.index("full_attention"))
        self.fc = torch.nn.Linear(2 * h, h, bias=False)
        self.pre_fc_norm_embedding, self.pre_fc_norm_hidden, self.norm = (qwen.Qwen3_5RMSNorm(h, eps) for _ in range(3))

    def forward(self, model, ids, hidden):
        joined = torch.cat([self.pre_fc_norm_embedding(model.embed_tokens(ids)), self.pre_fc_norm_hidden(hidden)], dim=-1)
        x = self.fc(joined)
        s = ids.shape[1]
        positions = torch.arange(s).expand(3, ids.shape[0], -1)
        mask = torch.full((s, s), float("-inf"), dtype=x.dtype).triu(1)[None, None]
        x = self.layer(x, position_embeddings=model.rotary_emb(x, positions), attention_mask=mask)
        return self.norm(x[0] if isinstance(x, tuple) else x)


def build(folder, case):
    config = json.loads((folder / case["config"]).read_text())
    for key in ("model_type", "architectures", "transformers_version", "mtp_num_hidden_layers"):
        config.pop(key, None)
    config = Qwen3_5TextConfig(**config)
    config._attn_implementation = "eager"
    causal = qwen.Qwen3_5ForCausalLM(config)
    depths = torch.nn.ModuleList([Depth(config) for _ in range(case.get("depth", 0))])
    weights, own = {}, {}
    for file in case["weights"]:
        weights |= load_file(folder / file)
    names = {}
    for name in [name for name in weights if name.startswith("mtp.")]:
        parts = name.split(".")
        if parts[1] == "layers":
            inside = f"{parts[2]}.layer.{'.'.join(parts[3:])}"
        elif parts[1].isdigit():
            inside = ".".join(parts[1:])
        else:
            inside = f"0.{'.'.join(parts[1:])}"
        if int(inside.split(".")[0]) < len(depths):
            own[inside], names[inside] = weights[name], name
        weights.pop(name)
    missing = causal.load_state_dict(weights, strict=False).missing_keys
    assert not [name for name in missing if "lm_head" not in name], missing
    if depths:
        depths.load_state_dict(own)
    return causal, depths, names


def run(folder, case, dtype, autocast):
    causal, depths, names = build(folder, case)
    causal.to(dtype), depths.to(dtype)
    t = load_file(folder / case["file"])
    rows, s = t["input_ids"].shape
    lengths = case.get("lengths") if "cu_seqlens" in t else None
    borders = [0, *torch.tensor(lengths).cumsum(0).tolist()] if lengths else [0, s]
    hidden = [[] for _ in range(len(depths) + 1)]
    with torch.autocast("cpu", torch.bfloat16) if autocast else contextlib.nullcontext():
        for begin, end in zip(borders, borders[1:]):
            x = causal.model(input_ids=t["input_ids"][:, begin:end], use_cache=False).last_hidden_state
            hidden[0].append(x)
            for k, depth in enumerate(depths, 1):
                x = depth(causal.model, t[f"ids.{k}"][:, begin:end], x)
                hidden[k].append(x)
        logits = [causal.lm_head(torch.cat(parts, dim=1)).float() for parts in hidden]

    def mean(logits, labels, mask):
        losses = F.cross_entropy(logits.flatten(0, 1), labels.flatten(), reduction="none")
        return (losses * mask.flatten()).sum() / mask.sum().clamp(min=1)

    losses = [mean(logits[0], t["labels"], t["loss_mask"])]
    losses += [mean(logits[k], t[f"labels_shifted.{k}"], t[f"mask_shifted.{k}"]) for k in range(1, len(logits))]
    share = case.get("lambda", 0.0) / max(len(depths), 1)
    (losses[0] + share * sum(losses[1:])).backward()
    wanted = [case.get("main", case)["loss"], *(depth["loss"] for depth in case.get("mtp", []))]
    parameters = dict(causal.named_parameters()) | {names[name]: p for name, p in depths.named_parameters()}
    groups = {"gradient": {}, "sampled": {}, "decay": {}}
    for name, parameter in parameters.items():
        want = t.get(f"grad.{name}")
        if want is None or want.norm() == 0 or parameter.grad is None:
            continue
        whole = parameter.grad.float().flatten()
        got = sampled(whole, case["grad_storage"])
        kind = "decay" if name.endswith(DECAYS) else "gradient" if got.numel() == whole.numel() else "sampled"
        groups[kind][name] = relative(got, want.flatten())
    others = [*groups["gradient"].values(), *groups["sampled"].values()]
    stored = ["logits"] if "logits" in t else [f"logits.{k}" for k in range(len(logits))]
    return {
        "logits": max(relative(got.reshape(t[name].shape), t[name]) for got, name in zip(logits, stored)),
        "loss": max(abs(got.item() - want) for got, want in zip(losses, wanted)),
        **{kind: max(errors.values(), default=0.0) for kind, errors in groups.items()},
        "median": statistics.median(others),
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("golden", type=Path)
    parser.add_argument("--write", type=Path)
    parser.add_argument("--float32", action="store_true", help="only check that this script computes what the goldens hold")
    a = parser.parse_args()
    found = {}
    for folder, cases in CASES.items():
        for name in cases:
            case = json.loads((a.golden / folder / f"{name}.json").read_text())
            forms = [(torch.float32, False)] if a.float32 else [(torch.bfloat16, False), (torch.float32, True)]
            errors = [run(a.golden / folder, case, *form) for form in forms]
            found[f"{folder}/{name}"] = {key: float(f"{max(e[key] for e in errors):.3g}") for key in errors[0]}
            print(f"{folder}/{name}: " + ", ".join(f"{key} {value:.2e}" for key, value in found[f"{folder}/{name}"].items()), flush=True)
    if a.write:
        a.write.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
