#!/usr/bin/env python3
"""Trains the peer, transformers' Qwen3.5 with an MTP head, on one device and says how fast it is, as one JSON line a mode.

    train.py --modes fla fla-liger [--size 0.8b] [--micro-batch 2] [--sequence 4096] [--steps 20] [--warmup 3]

Modes: `plain` is transformers alone, `fla` has flash-linear-attention's delta rule (which transformers takes up when it is installed),
`fla-liger` also Liger's fused linear cross-entropy in the place of logits. What a user of that stack keeps: fp32 parameters, bf16
autocast, fused AdamW, clipping at 1; one MTP depth whose loss counts 0.1. Tokens are random. A step is timed from its begin to the
end of all device work; the median counts. Peak memory is what the allocator held at most (`allocated`), what it had taken from the
driver (`reserved`), and what the driver says the device holds in all (`driver`).
"""
import argparse
import gc
import json
import platform
import statistics
import sys
import time

import torch
import torch.nn.functional as F

import tune

LAMBDA, CLIP, LR = 0.1, 1.0, 1e-4
IGNORED = -100
MODES = ["plain", "fla", "fla-liger"]
LIFTED = "fla refuses chunk_bwd_dqkwg on this GPU and Triton, whose gradients are wrong there; forced, so speed only"

# layers, hidden, MLP, query heads, key-value heads, key heads and value heads of the delta net; all three have tied embeddings
SIZES = {
    "0.8b": (24, 1024, 3584, 8, 2, 16, 16),
    "2b": (24, 2048, 6144, 8, 2, 16, 16),
    "4b": (32, 2560, 9216, 16, 4, 16, 32),
    "toy": (4, 64, 128, 4, 2, 2, 4),
}


def hide_fla():
    """Makes transformers believe that flash-linear-attention is not installed; before its model is imported."""
    from transformers.utils import import_utils

    import_utils.is_flash_linear_attention_available = lambda: False


def allow_fla():
    """fla refuses one backward kernel on this pair of GPU and Triton, since its gradients would be wrong; its time is unchanged.

    Returns whether the refusal was in force. Losses of such a run are not to be compared with anything.
    """
    from fla.ops.common import chunk_o

    refused = chunk_o.IS_NVIDIA_HOPPER and chunk_o.TRITON_ABOVE_3_4_0 and not chunk_o.TRITON_ABOVE_3_7_1
    if refused:
        chunk_o.TRITON_ABOVE_3_7_1 = True
    return refused


def geometry(size, layers=None):
    """The config of a size, or of its first `layers` layers."""
    from transformers.models.qwen3_5.configuration_qwen3_5 import Qwen3_5TextConfig

    depth, hidden, mlp, heads, kv_heads, key_heads, value_heads = SIZES[size]
    toy = size == "toy"
    config = Qwen3_5TextConfig(
        vocab_size=512 if toy else 248320,
        hidden_size=hidden,
        intermediate_size=mlp,
        num_hidden_layers=layers or depth,
        num_attention_heads=heads,
        num_key_value_heads=kv_heads,
        head_dim=64 if toy else 256,
        linear_num_key_heads=key_heads,
        linear_num_value_heads=value_heads,
        linear_key_head_dim=16 if toy else 128,
        linear_value_head_dim=16 if toy else 128,
        tie_word_embeddings=True,
        use_cache=False,
        rope_parameters={
            "rope_type": "default",
            "rope_theta": 1e7,
            "partial_rotary_factor": 0.25,
            "mrope_section": [3, 3, 2] if toy else [11, 11, 10],
        },
    )
    config._attn_implementation = "sdpa"
    return config


class Peer(torch.nn.Module):
    """The causal model, one MTP depth after it, and both losses; `fused_loss` takes hidden states, or None for logits in memory."""

    def __init__(self, config, fused_loss):
        super().__init__()
        from transformers.models.qwen3_5 import modeling_qwen3_5 as qwen

        h, eps = config.hidden_size, config.rms_norm_eps
        self.causal = qwen.Qwen3_5ForCausalLM(config)
        attention = config.layer_types.index("full_attention")
        self.mtp_layer = qwen.Qwen3_5DecoderLayer(config, attention)
        self.mtp_fc = torch.nn.Linear(2 * h, h, bias=False)
        self.mtp_norms = torch.nn.ModuleList([qwen.Qwen3_5RMSNorm(h, eps) for _ in range(3)])
        self.fused_loss = fused_loss

    def forward(self, ids):
        model = self.causal.model
        hidden = model(input_ids=ids, use_cache=False).last_hidden_state
        one_ahead, two_ahead = self.ahead(ids, 1), self.ahead(ids, 2)
        loss = self.cross_entropy(hidden, one_ahead)
        of_embedding, of_hidden, last = self.mtp_norms
        embedded = model.embed_tokens(one_ahead.clamp(min=0))
        x = self.mtp_fc(torch.cat([of_embedding(embedded), of_hidden(hidden)], dim=-1))
        positions = torch.arange(ids.shape[1], device=ids.device).expand(3, ids.shape[0], -1)
        # Without a mask torch's fused attention is causal: the layer says so itself.
        x = self.mtp_layer(x, position_embeddings=model.rotary_emb(x, positions), attention_mask=None)
        x = x[0] if isinstance(x, tuple) else x
        return loss + LAMBDA * self.cross_entropy(last(x), two_ahead)

    @staticmethod
    def ahead(ids, by):
        """The ids `by` places later; the last `by` of a sequence have none."""
        return F.pad(ids[:, by:], (0, by), value=IGNORED)

    def cross_entropy(self, hidden, labels):
        head = self.causal.lm_head
        if self.fused_loss is None:
            return F.cross_entropy(head(hidden).float().flatten(0, 1), labels.flatten(), ignore_index=IGNORED)
        low = torch.bfloat16
        return self.fused_loss(head.weight.to(low), hidden.to(low).flatten(0, 1), labels.flatten())


def delta_rule(peer):
    """Where the delta rule that a layer calls comes from, for the record."""
    layer = next(m for m in peer.modules() if type(m).__name__ == "Qwen3_5GatedDeltaNet")
    function = getattr(layer, "chunk_gated_delta_rule", None)
    return f"{function.__module__}.{function.__name__}" if function else "transformers' own choice"


def versions(mode):
    import transformers

    found = {"python": platform.python_version(), "torch": torch.__version__, "transformers": transformers.__version__}
    for name, wanted in (("triton", True), ("fla", "fla" in mode), ("liger_kernel", "liger" in mode)):
        if wanted:
            try:
                module = __import__(name)
                found[name] = getattr(module, "__version__", None) or __import__("importlib.metadata").metadata.version(name)
            except Exception as error:  # the record says so; whether that matters shows below
                found[name] = f"none ({type(error).__name__})"
    return found


def options(parser):
    """What is measured; `compare.py` asks the same."""
    parser.add_argument("--size", choices=SIZES, default="0.8b")
    parser.add_argument("--micro-batch", type=int, default=2)
    parser.add_argument("--sequence", type=int, default=4096)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--warmup", type=int, default=3)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--device", default="cuda")


def prepare(mode):
    """Before anything of transformers' model is imported; says whether fla's refusal was lifted."""
    tune.environment()
    torch.backends.cuda.matmul.allow_tf32 = True
    if mode == "plain":
        hide_fla()
        return False
    return allow_fla()


def measure(mode, a):
    """Trains in one mode and returns what is to be known; gives all memory back."""
    try:
        return trained(mode, a)
    except torch.cuda.OutOfMemoryError as error:
        return {"stack": f"transformers {mode}", **asked(a), "error": "out of memory", "message": str(error)[:400]}
    finally:
        gc.collect()
        if a.device == "cuda":
            torch.cuda.empty_cache()


def asked(a):
    return {"size": a.size, "micro_batch": a.micro_batch, "sequence": a.sequence, "steps": a.steps, "warmup": a.warmup}


def trained(mode, a):
    begin = time.perf_counter()
    fused = None
    if mode == "fla-liger":
        from liger_kernel.transformers.fused_linear_cross_entropy import LigerFusedLinearCrossEntropyLoss

        fused = LigerFusedLinearCrossEntropyLoss(ignore_index=IGNORED)
    cuda = a.device == "cuda"
    sync = torch.cuda.synchronize if cuda else lambda: None
    torch.manual_seed(a.seed)
    with torch.device(a.device):
        peer = Peer(geometry(a.size), fused)
    peer.train()
    optimizer = torch.optim.AdamW(peer.parameters(), lr=LR, betas=(0.9, 0.95), weight_decay=0.1, fused=True)
    vocabulary = peer.causal.config.vocab_size
    batches = [torch.randint(vocabulary, (a.micro_batch, a.sequence), device=a.device) for _ in range(4)]

    def step(number):
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast(a.device, torch.bfloat16):
            loss = peer(batches[number % len(batches)])
        loss.backward()
        torch.nn.utils.clip_grad_norm_(peer.parameters(), CLIP)
        optimizer.step()
        return loss

    for number in range(a.warmup):
        loss = step(number)
    sync()
    setup = time.perf_counter() - begin
    if cuda:
        torch.cuda.reset_peak_memory_stats()
    seconds = []
    for number in range(a.steps):
        start = time.perf_counter()
        loss = step(number)
        sync()
        seconds.append(time.perf_counter() - start)
    median = statistics.median(seconds)
    result = {
        "stack": f"transformers {mode}",
        **asked(a),
        "parameters": sum(p.numel() for p in peer.parameters()),
        "dtype": "fp32 parameters and AdamW, bf16 autocast",
        "tokens_per_second": round(a.micro_batch * a.sequence / median, 1),
        "step_ms": {
            "median": round(median * 1e3, 2),
            "min": round(min(seconds) * 1e3, 2),
            "max": round(max(seconds) * 1e3, 2),
        },
        "last_loss": round(loss.item(), 4),
        "setup_seconds": round(setup, 1),
        "delta_rule": delta_rule(peer),
    }
    if cuda:
        free, total = torch.cuda.mem_get_info()
        result["peak_bytes"] = {
            "allocated": torch.cuda.max_memory_allocated(),
            "reserved": torch.cuda.max_memory_reserved(),
            "driver": total - free,
        }
    return result


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--modes", nargs="+", choices=MODES, default=["fla"])
    options(parser)
    a = parser.parse_args()
    if "plain" in a.modes and len(a.modes) > 1:
        parser.error("plain needs a process of its own: the others let transformers find fla")
    lifted = prepare(a.modes[0])
    for mode in a.modes:
        result = measure(mode, a)
        result["versions"] = versions(mode)
        result["command"] = " ".join(["train.py", *sys.argv[1:]])
        if a.device == "cuda":
            result["device"] = torch.cuda.get_device_name()
        if lifted:
            result["note"] = LIFTED
        print(json.dumps(result), flush=True)


if __name__ == "__main__":
    main()
