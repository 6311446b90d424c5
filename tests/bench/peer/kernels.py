#!/usr/bin/env python3
"""Times the peer's kernels: fla's chunked gated delta rule and every backend of torch's attention, forward and both, as one JSON line.

    kernels.py [--rows 2] [--sequence 4096] [--repeat 20] [--only delta|attention]

Shapes are those of a layer: delta rule with 16 key and 16 value heads of 128, l2 norm of queries and keys inside; attention with 8 query
heads over 2 key-value heads of 256, causal. bf16. A time is the median over `repeat` of device events around one call, inputs rotated
over two sets, after warm-up. `both` is a forward and its backward.
"""
import argparse
import json
import statistics
import sys
import time

import torch
import torch.nn.functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

import tune
from train import LIFTED, allow_fla, versions


# Clock cycles, about 15 ms.
AHEAD = 25_000_000


def milliseconds(call, sets, repeat):
    begin = time.perf_counter()
    # The clocks of a GPU that was idle rise over tenths of a second.
    while time.perf_counter() - begin < 0.5:
        for inputs in sets * 2:
            call(*inputs)
        torch.cuda.synchronize()
    times = []
    for number in range(repeat):
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        inputs = sets[number % len(sets)]
        torch.cuda._sleep(AHEAD)  # the host queues everything meanwhile, so that only the device's time counts
        start.record()
        call(*inputs)
        end.record()
        torch.cuda.synchronize()
        times.append(start.elapsed_time(end))
    return {
        "median_ms": round(statistics.median(times), 4),
        "min_ms": round(min(times), 4),
        "max_ms": round(max(times), 4),
    }


def both_of(forward):
    def call(*inputs):
        leaves = inputs[:-1]
        o = forward(*leaves)
        torch.autograd.grad(o, leaves, inputs[-1])

    return call


def measured(forward, sets, repeat):
    """`sets`: leaves, then the gradient of the output."""
    with torch.no_grad():
        alone = milliseconds(lambda *inputs: forward(*inputs[:-1]), sets, repeat)
    return {"forward": alone, "both": milliseconds(both_of(forward), sets, repeat)}


def delta(a):
    from fla.ops.gated_delta_rule import chunk_gated_delta_rule

    def inputs():
        shape = (a.rows, a.sequence, a.key_heads, 128)
        q, k = (torch.randn(shape, device="cuda", dtype=torch.bfloat16) for _ in range(2))
        v = torch.randn(a.rows, a.sequence, a.value_heads, 128, device="cuda", dtype=torch.bfloat16)
        g = F.logsigmoid(torch.randn(a.rows, a.sequence, a.value_heads, device="cuda"))
        beta = torch.rand(a.rows, a.sequence, a.value_heads, device="cuda").to(torch.bfloat16)
        return [*(t.requires_grad_() for t in (q, k, v, g, beta)), torch.randn_like(v)]

    def forward(q, k, v, g, beta):
        repeats = a.value_heads // a.key_heads
        if repeats > 1:  # as transformers does
            q, k = q.repeat_interleave(repeats, 2), k.repeat_interleave(repeats, 2)
        return chunk_gated_delta_rule(q, k, v, g=g, beta=beta, use_qk_l2norm_in_kernel=True)[0]

    return {"fla chunk_gated_delta_rule": measured(forward, [inputs(), inputs()], a.repeat)}


def attention(a):
    heads, kv_heads, width = a.heads, a.kv_heads, 256

    def inputs(groups):
        shape = lambda count: (a.rows, count, a.sequence, width)
        q, k, v = (torch.randn(shape(n), device="cuda", dtype=torch.bfloat16) for n in (heads, groups, groups))
        return [*(t.requires_grad_() for t in (q, k, v)), torch.randn_like(q)]

    results = {}
    for name, backend in (
        ("flash", SDPBackend.FLASH_ATTENTION),
        ("cudnn", SDPBackend.CUDNN_ATTENTION),
        ("efficient", SDPBackend.EFFICIENT_ATTENTION),
    ):
        # With groups where the backend takes them; with keys and values repeated beforehand where it does not.
        for groups in (kv_heads, heads):

            def forward(q, k, v):
                return F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=groups != heads)

            try:
                with sdpa_kernel(backend):
                    key = f"sdpa {name}, {heads} over {groups} heads"
                    results[key] = measured(forward, [inputs(groups), inputs(groups)], a.repeat)
            except Exception as error:  # this backend does not take this shape: part of the answer
                results[key] = {"error": f"{type(error).__name__}: {str(error)[:160]}"}
    return results


def shapes(parser):
    parser.add_argument("--rows", type=int, default=2)
    parser.add_argument("--sequence", type=int, default=4096)
    parser.add_argument("--repeat", type=int, default=20)
    parser.add_argument("--key-heads", type=int, default=16)
    parser.add_argument("--value-heads", type=int, default=16)
    parser.add_argument("--heads", type=int, default=8)
    parser.add_argument("--kv-heads", type=int, default=2)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    shapes(parser)
    parser.add_argument("--only", choices=["delta", "attention"])
    a = parser.parse_args()
    tune.environment()
    torch.manual_seed(1)
    result = {
        "kernels": {},
        "rows": a.rows,
        "sequence": a.sequence,
        "repeat": a.repeat,
        "device": torch.cuda.get_device_name(),
        "command": " ".join(["kernels.py", *sys.argv[1:]]),
    }
    if a.only != "attention":
        if allow_fla():
            result["note"] = LIFTED
        result["kernels"] |= delta(a)
    if a.only != "delta":
        result["kernels"] |= attention(a)
    result["versions"] = versions("fla" if a.only != "attention" else "plain")
    print(json.dumps(result), flush=True)


if __name__ == "__main__":
    main()
