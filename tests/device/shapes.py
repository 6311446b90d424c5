"""Steps of many shapes on a GPU: tokens/s, and the plan's memory beside what the step took.

    tests/device/shapes.py TRESTLE OUT [--only NAME ...] [--seconds 200]

Every shape is a process of its own (`trestle bench --step`), so that nothing is left of the one before. OUT/shapes.json gets all of it; a line
each is printed. `error` is plan over measured, less one, of the whole process (all that the driver says is gone) and of tensors alone.
"""

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path

SMALL, LARGE, DEMO = "recipes/qwen3_5-0_8b-h100.toml", "recipes/qwen3_5-2b.toml", "recipes/demo.toml"
FULL = ["recompute.mode=full"]
SELECTIVE = ["recompute.mode=selective", 'recompute.modules=["core_attn", "gated_delta", "mlp_act", "norm"]']
# name: recipe, rows of a micro-batch, tokens of a row, more
SHAPES = {
    "0.8b-2x4096": (SMALL, 2, 4096, []),
    "0.8b-2x4096-selective": (SMALL, 2, 4096, SELECTIVE),
    "0.8b-2x4096-mlp": (SMALL, 2, 4096, ["recompute.mode=selective", 'recompute.modules=["mlp_act"]']),
    "0.8b-2x4096-full": (SMALL, 2, 4096, FULL),
    "0.8b-8x4096": (SMALL, 8, 4096, []),
    "0.8b-8x4096-selective": (SMALL, 8, 4096, SELECTIVE),
    "0.8b-8x4096-full": (SMALL, 8, 4096, FULL),
    "0.8b-1x32768": (SMALL, 1, 32768, []),
    "0.8b-1x32768-full": (SMALL, 1, 32768, FULL),
    "0.8b-16x1024": (SMALL, 16, 1024, []),
    "0.8b-2x4096-mtp0": (SMALL, 2, 4096, ["model.mtp_num_hidden_layers=0"]),
    "0.8b-2x4096-mtp2": (SMALL, 2, 4096, ["model.mtp_num_hidden_layers=2"]),
    "0.8b-4x4096-accumulated": (SMALL, 1, 4096, ["train.global_batch_size=4"]),
    "2b-2x4096": (LARGE, 2, 4096, []),
    "2b-4x4096-full": (LARGE, 4, 4096, FULL),
    "2b-1x8192-selective": (LARGE, 1, 8192, SELECTIVE),
    "demo-8x256": (DEMO, 8, 256, []),
}

parser = argparse.ArgumentParser()
parser.add_argument("trestle")
parser.add_argument("out", type=Path)
parser.add_argument("--only", nargs="*", default=list(SHAPES))
parser.add_argument("--repeat", type=int, default=5)
parser.add_argument("--seconds", type=float, default=200)
options = parser.parse_args()
options.out.mkdir(parents=True, exist_ok=True)
begin, results = time.monotonic(), {}
for name in options.only:
    recipe, rows, tokens, more = SHAPES[name]
    sets = [f"train.global_batch_size={rows}", f"train.micro_batch_size={rows}", f"train.seq_length={tokens}", *more]
    line = [options.trestle, "bench", "--step", recipe, "--warm-up", "2", "--repeat", str(options.repeat), "--json"]
    line += [part for value in sets for part in ("--set", value)]
    left = options.seconds - (time.monotonic() - begin)
    if left < 5:
        print(f"{name}: no time left", flush=True)
        continue
    try:
        done = subprocess.run(line, capture_output=True, text=True, timeout=left)
    except subprocess.TimeoutExpired:
        print(f"{name}: no time left", flush=True)
        continue
    result = {"command": " ".join(["trestle", *line[1:]])}
    if done.returncode != 0:
        result["error"] = done.stderr[-1500:]
        print(f"{name}: {done.stderr.strip()[:300]}", flush=True)
    else:
        step = json.loads(done.stdout)
        step.pop("kernels", None)
        plan, giga = step["plan"], 1 << 30
        step["errors"] = {
            "process": plan["total"] / step["driver"] - 1,
            "tensors": plan["allocated"] / step["used_peak"] - 1,
        }
        result |= step
        print(
            f"{name:26} {step['tokens_per_second']:9.0f} tokens/s  {step['tflops_per_second']:6.1f} TFLOP/s  process {step['driver'] / giga:6.2f} GiB"
            f" planned {plan['total'] / giga:6.2f} ({100 * step['errors']['process']:+5.1f} %)  tensors {step['used_peak'] / giga:6.2f}"
            f" planned {plan['allocated'] / giga:6.2f} ({100 * step['errors']['tensors']:+5.1f} %)",
            flush=True,
        )
    results[name] = result
    (options.out / "shapes.json").write_text(json.dumps(results, indent=1) + "\n")
sys.exit(any("errors" not in result for result in results.values()))
