#!/usr/bin/env python3
"""Ours and the peer's training, one after the other, several times, in one job on one GPU; writes the result file.

    compare.py --out DIR --recipe RECIPE [--trestle CMD] [--modes fla fla-liger] [--rounds 3] [--steps 20] [--micro-batch 2]
    compare.py --out DIR --kernels                    the delta rule and attention against fla's and torch's

Each round runs `trestle bench --step RECIPE --json` and then every mode of the peer; the peer's memory is given back before ours runs
again. `--cache FILE` unpacks what `tune.py` packed beforehand; `--pack FILE` packs it again afterwards, with what was tuned here.
A ratio is the median of ours over the median of the peer's best mode; it is written beside both, never alone.
"""
import argparse
import json
import pathlib
import shlex
import statistics
import subprocess
import sys
import tarfile
import time

import tune

BEGIN = time.perf_counter()


def say(what):
    print(f"{time.perf_counter() - BEGIN:6.1f} s  {what}", file=sys.stderr, flush=True)


def trestle(a, *arguments):
    """One JSON value of ours, or what went wrong."""
    command = [*shlex.split(a.trestle), *arguments, "--json"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=a.timeout)
    if done.returncode != 0:
        return {"command": shlex.join(command), "error": done.stderr.strip()[-2000:]}
    return {"command": shlex.join(command), **json.loads(done.stdout)}


def gpu():
    query = ["nvidia-smi", "--query-gpu=name,driver_version,memory.total", "--format=csv,noheader"]
    try:
        return subprocess.run(query, capture_output=True, text=True, timeout=20).stdout.strip()
    except (OSError, subprocess.SubprocessError) as error:
        return f"unknown: {error}"


def middle(values):
    return statistics.median(values) if values else None


def training(a, result):
    import train

    lifted = False
    rounds = []
    for number in range(a.rounds):
        this = {"ours": trestle(a, "bench", "--step", a.recipe, "--repeat", str(a.steps), *shlex.split(a.ours))}
        say(f"round {number}: ours {this['ours'].get('tokens_per_second', this['ours'].get('error'))}")
        if not number and a.modes:
            lifted = train.prepare(a.modes[0])
        for mode in a.modes:
            this[mode] = train.measure(mode, a)
            say(f"round {number}: {mode} {this[mode].get('tokens_per_second', this[mode].get('error'))}")
        rounds.append(this)
    of = lambda name: middle([r[name]["tokens_per_second"] for r in rounds if "tokens_per_second" in r[name]])
    medians = {name: of(name) for name in ["ours", *a.modes]}
    best = max((medians[mode] for mode in a.modes if medians[mode]), default=None)
    result |= {
        "training": {**train.asked(a), "rounds": rounds},
        "tokens_per_second": medians,
        "ours_over_best_peer": round(medians["ours"] / best, 3) if best and medians["ours"] else None,
    }
    if lifted:
        result["note"] = train.LIFTED


def kernel_times(a, result):
    import kernels
    import train

    sizes = ["--size", a.size, "--micro-batch", str(a.micro_batch), "--sequence", str(a.sequence), "--repeat", "20"]
    ours = {op: trestle(a, "bench", "--op", op, *sizes) for op in ("gated_delta", "attention")}
    say("kernels: ours done")
    if train.prepare("fla"):
        result["note"] = train.LIFTED
    parser = argparse.ArgumentParser()
    kernels.shapes(parser)
    shape = parser.parse_args(["--rows", str(a.micro_batch), "--sequence", str(a.sequence)])
    peer = kernels.delta(shape)
    say("kernels: fla done")
    peer |= kernels.attention(shape)
    say("kernels: sdpa done")
    result["kernels"] = {"ours": ours, "peer": peer}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=pathlib.Path, required=True)
    parser.add_argument("--name", default="peer")
    parser.add_argument("--recipe")
    parser.add_argument("--trestle", default="trestle", help="how to run ours")
    parser.add_argument("--ours", default="", help="more arguments of `trestle bench --step`")
    parser.add_argument("--modes", nargs="*", default=["fla", "fla-liger"])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--kernels", action="store_true")
    parser.add_argument("--timeout", type=float, default=300)
    parser.add_argument("--cache")
    parser.add_argument("--pack")
    # The peer's own options, declared without importing torch: ours goes first and its errors come early.
    parser.add_argument("--size", default="0.8b")
    parser.add_argument("--micro-batch", type=int, default=2)
    parser.add_argument("--sequence", type=int, default=4096)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--warmup", type=int, default=3)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--device", default="cuda")
    a = parser.parse_args()
    tune.environment()
    if a.cache:
        with tarfile.open(a.cache) as pack:
            pack.extractall("/", filter="fully_trusted")
    result = {"device": gpu(), "command": shlex.join(["compare.py", *sys.argv[1:]])}
    a.out.mkdir(parents=True, exist_ok=True)
    file = a.out / f"{a.name}.json"

    def write():
        file.write_text(json.dumps(result, indent=1) + "\n")

    try:
        if a.recipe:
            training(a, result)
            write()
        if a.kernels:
            kernel_times(a, result)
    finally:
        if "train" in sys.modules:
            result["versions"] = sys.modules["train"].versions("fla-liger")
        write()
        if a.pack:
            tune.write(a.pack)
    print(json.dumps({key: result.get(key) for key in ("tokens_per_second", "ours_over_best_peer")}))


if __name__ == "__main__":
    main()
