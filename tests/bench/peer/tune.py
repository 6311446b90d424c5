#!/usr/bin/env python3
"""Compiles and tunes the peer's Triton kernels in parallel and packs the result, so that a measuring job need not wait for it.

    tune.py --pack triton.tar.gz [--workers 14] [--size 0.8b]       then, in any later job:
    tar -xzf triton.tar.gz -C / ; train.py ...                      same machine type, same packages

Triton compiles the variants of a kernel one after another, which takes minutes on a fresh machine. Here every worker compiles its share
of them into one cache; then one process measures and keeps the fastest, as it would without this script. What is measured later is the
same. The cache holds absolute paths, so it always lies in the folder CACHE.
"""
import argparse
import functools
import os
import subprocess
import sys
import tarfile
import time

CACHE = "/tmp/trestle-peer-triton"


def environment():
    os.environ["TRITON_CACHE_DIR"] = CACHE
    os.environ["TRITON_CACHE_AUTOTUNING"] = "1"


def compile_share(worker, workers):
    """Makes every tuned kernel compile this worker's share of its variants and launch none of them."""
    from triton.runtime.autotuner import Autotuner

    seen, count = set(), 0

    def run(self, *args, **kwargs):
        nonlocal count
        self.nargs = dict(zip(self.arg_names, args))
        values = {**self.nargs, **kwargs}
        key = (id(self), *(str(values.get(k)) for k in self.keys), *(str(v.dtype) for v in values.values() if hasattr(v, "dtype")))
        if key in seen:
            return None
        seen.add(key)
        for config in self.prune_configs(kwargs):
            count += 1
            if count % workers != worker:
                continue
            try:
                self.fn.run(*args, **{**kwargs, "warmup": True, **config.all_kwargs()})
            except Exception as error:  # a variant that does not compile is not chosen either
                print(f"worker {worker}: {type(error).__name__}: {str(error)[:200]}", file=sys.stderr)
        return None

    Autotuner.run = run


def step(size, rows, sequence, fused, vocabulary=None):
    """One forward and backward of a shallow model of that size: every kernel that a step of the whole model uses."""
    import torch

    import train

    train.allow_fla()
    config = train.geometry(size, layers=4)
    config.vocab_size = vocabulary or config.vocab_size
    with torch.device("cuda"):
        peer = train.Peer(config, fused)
        ids = torch.randint(config.vocab_size, (rows, sequence))
    with torch.autocast("cuda", torch.bfloat16):
        loss = peer(ids)
    loss.backward()
    torch.cuda.synchronize()


def tune(size, rows, sequence):
    """Measures the variants of every kernel."""
    import triton.testing
    from liger_kernel.transformers.fused_linear_cross_entropy import LigerFusedLinearCrossEntropyLoss

    # Shorter runs than Triton's own choose well enough.
    triton.testing.do_bench = functools.partial(triton.testing.do_bench, warmup=3, rep=15)
    step(size, rows, sequence, LigerFusedLinearCrossEntropyLoss(ignore_index=-100))


def write(path):
    """The cache without the intermediate forms, which are large and read by nobody."""
    with tarfile.open(path, "w:gz") as pack:
        for folder, _, files in os.walk(CACHE):
            for file in files:
                if file.endswith((".cubin", ".json", ".so")):
                    pack.add(os.path.join(folder, file))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pack", required=True)
    parser.add_argument("--workers", type=int, default=14)
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    parser.add_argument("--size", default="0.8b")
    parser.add_argument("--micro-batch", type=int, default=2)
    parser.add_argument("--sequence", type=int, default=4096)
    parser.add_argument("--compile-seconds", type=float, default=300)
    parser.add_argument("--tune-seconds", type=float, default=300)
    a = parser.parse_args()
    environment()
    if a.worker == "tune":
        return tune(a.size, a.micro_batch, a.sequence)
    if a.worker is not None:
        compile_share(int(a.worker), a.workers)
        # A small vocabulary, so that all workers fit beside each other; no tuned kernel depends on it.
        return step(a.size, 1, a.sequence, None, vocabulary=1024)

    start = time.perf_counter()

    def say(what):
        print(f"{time.perf_counter() - start:6.1f} s  {what}", flush=True)

    def begin(worker):
        return subprocess.Popen([sys.executable, os.path.abspath(__file__), *sys.argv[1:], "--worker", str(worker)])

    def end(processes, seconds):
        until = time.perf_counter() + seconds
        codes = []
        for process in processes:
            try:
                codes.append(process.wait(max(0.0, until - time.perf_counter())))
            except subprocess.TimeoutExpired:
                process.kill()
                codes.append("timeout")
        return codes

    say(f"compiled: {end([begin(index) for index in range(a.workers)], a.compile_seconds)}")
    say(f"tuned: {end([begin('tune')], a.tune_seconds)}")
    write(a.pack)
    say(f"packed {os.path.getsize(a.pack) / 2**20:.1f} MiB")


if __name__ == "__main__":
    main()
