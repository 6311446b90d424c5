"""Training on a GPU against training on the CPU: the loss curve, `kill -9`, CUDA graphs, a plan that cannot fit, memory that runs out.

    tests/device/train.py TRESTLE OUT [--reference EVENTS] [--device cuda] [--steps 300] [--only curve,kill,graphs,refuse,oom]

TRESTLE is a build with the feature `cuda`; run it in the repository, or where its `recipes` lie. OUT gets every run's events. EVENTS is the
`events.jsonl` of a CPU run of recipes/demo.toml with the same number of steps; without it that run is made too. One line says each verdict;
the exit status is 1 if one is bad.

The band of the curve: bf16 rounds every activation and weight by up to 2^-9, and training amplifies such a difference as it would another
order of sums. The mean of the loss over 20 steps may differ from the CPU's by 1 %, the last evaluation by 2 %.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

parser = argparse.ArgumentParser()
parser.add_argument("trestle")
parser.add_argument("out", type=Path)
parser.add_argument("--reference", type=Path)
parser.add_argument("--device", default="cuda")
parser.add_argument("--steps", type=int, default=300)
parser.add_argument("--only", default="curve,kill,graphs,refuse,oom")
options = parser.parse_args()
failed = False


def say(good, text):
    global failed
    failed |= not good
    print(f"{'ok ' if good else 'BAD'} [{time.monotonic() - start:6.1f} s] {text}", flush=True)


def command(recipe, name, *sets, device=None):
    values = [f"train.device={device or options.device}", "logging.tensorboard=false", *sets]
    line = [options.trestle, "--runs", str(options.out), "train", recipe, "--name", name]
    return line + [part for value in values for part in ("--set", value)]


def train(recipe, name, *sets, device=None):
    """Trains to the end; exit status, all output, the run's events."""
    before = set(options.out.glob(f"{name}-*"))
    done = subprocess.run(command(recipe, name, *sets, device=device), capture_output=True, text=True)
    new = sorted(set(options.out.glob(f"{name}-*")) - before)
    return done.returncode, done.stdout + done.stderr, events(new[0]) if new else []


def events(run):
    lines = (run / "events.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines if line.endswith("}")]


def of(kind, all_events):
    return [event for event in all_events if event["type"] == kind]


def steps(all_events):
    """Of a step that several trainers did, the last."""
    return {event["step"]: event for event in of("step", all_events)}


def exact(step):
    return [step[key] for key in ("tokens", "loss", "grad_norm", "lr", "skipped", "mtp")]


def curve():
    sets = [f"train.steps={options.steps}", "train.eval_interval=50", "checkpoint.interval=100"]
    status, output, gpu = train("recipes/demo.toml", "curve", *sets)
    say(status == 0, f"{options.steps} steps, exit status {status}" + ("" if status == 0 else f"\n{output[-2000:]}"))
    if status != 0:
        return
    if options.reference:
        cpu = [json.loads(line) for line in options.reference.read_text().splitlines()]
    else:
        cpu = train("recipes/demo.toml", "cpu", *sets, device="cpu")[2]
    a, b = steps(gpu), steps(cpu)
    worst = 0.0
    for first in range(1, options.steps + 1, 20):
        window = range(first, min(first + 20, options.steps + 1))
        mean = lambda run: sum(run[step]["loss"] for step in window) / len(window)
        worst = max(worst, abs(mean(a) / mean(b) - 1))
    say(worst < 0.01, f"loss over 20 steps: within {100 * worst:.3f} % of the CPU's")
    last = [of("eval", run)[-1]["loss"] for run in (gpu, cpu)]
    say(abs(last[0] / last[1] - 1) < 0.02, f"last evaluation: {last[0]:.4f}, on the CPU {last[1]:.4f}")
    saved = [event["step"] for event in of("checkpoint", gpu)]
    say(saved == list(range(100, options.steps + 1, 100)), f"checkpoints of steps {saved}")
    middle = sorted(event["tokens_per_second"] for event in a.values())[len(a) // 2]
    say(True, f"median {middle:.0f} tokens/s; phases of the last step {a[options.steps]['parts']}")


def kill(*more, against=()):
    """Of a run with `more`, against an unbroken one that also has `against`."""
    sets = ["schedule.warmup_steps=4", "train.steps=24", "checkpoint.interval=5", "train.eval_interval=10", *more]
    whole = train("recipes/demo.toml", "whole", *sets, *against)[2]
    line = command("recipes/demo.toml", "killed", *sets) + ["--detach", "--json"]
    started = json.loads(subprocess.run(line, capture_output=True, text=True, check=True).stdout)
    run = Path(started["path"])
    for _ in range(3000):
        if (run / "events.jsonl").exists() and '"type":"step","step":13,' in (run / "events.jsonl").read_text():
            break
        time.sleep(0.01)
    os.kill(started["pid"], signal.SIGKILL)
    time.sleep(0.3)
    left = len(steps(events(run)))
    status = subprocess.run([options.trestle, "trainer", str(run)], capture_output=True).returncode
    again = events(run)
    same = [exact(step) for step in steps(again).values()] == [exact(step) for step in steps(whole).values()]
    hashes = [of("finished", one)[-1]["weights_hash"] for one in (again, whole)]
    say(
        status == 0 and same and hashes[0] == hashes[1] and len(of("started", again)) == 2,
        f"killed after {left} of 24 steps and resumed: losses equal {same}, weights equal {hashes[0] == hashes[1]}",
    )


def graphs():
    """Rows of one shape are launched as graphs: the eager run's bits, also after `kill -9`; packed text stays eager."""
    sets = ["data.packing=concat", "train.global_batch_size=24", "schedule.warmup_steps=4", "train.steps=12", "train.eval_interval=5"]
    runs = [train("recipes/demo.toml", f"graph-{on}", *sets, f"train.cuda_graph={on}")[2] for on in ("true", "false")]
    same = [exact(step) for step in steps(runs[0]).values()] == [exact(step) for step in steps(runs[1]).values()]
    hashes = [of("finished", run)[-1]["weights_hash"] for run in runs]
    counts = [[step.get("graphs", 0) for step in steps(run).values()] for run in runs]
    say(same and hashes[0] == hashes[1], f"graphs and eager: losses equal {same}, weights equal {hashes[0] == hashes[1]}")
    say(counts[0] == [2] + [3] * 11 and sum(counts[1]) == 0, f"micro-batches as graphs: {counts[0]}, without them {counts[1]}")
    for run, name in zip(runs, ("graphs", "eager")):
        last = list(steps(run).values())[-1]
        warnings = [event["message"] for event in of("warning", run)]
        peak = max(step["peak"] for step in list(steps(run).values())[2:])
        reserved = max(step["memory"]["reserved"] for step in steps(run).values() if step.get("memory"))
        say(not warnings, f"{name}: peak {peak >> 20} MiB, reserved {reserved >> 20} MiB, {last['parts']}, warnings {warnings}")
    kill("data.packing=concat", against=["train.cuda_graph=false"])


def refuse():
    status, output, _ = train("recipes/qwen3_5-0_8b-h100.toml", "refused", "train.micro_batch_size=512", "train.global_batch_size=512")
    good = status == 1 and "would fit" in output and "train.check_memory" in output
    say(good, f"a plan that cannot fit: exit status {status}\n{output[-1500:]}")


def oom():
    sets = ["schedule.warmup_steps=1", "train.steps=3", "train.micro_batch_size=32768", "train.global_batch_size=32768"]
    status, output, all_events = train("recipes/demo.toml", "oom", *sets, "train.check_memory=false")
    good = status == 1 and "ran out of memory" in output and "would fit" in output and of("failed", all_events)
    say(bool(good), f"memory that runs out: exit status {status}\n{output[-1500:]}")


start = time.monotonic()
options.out.mkdir(parents=True, exist_ok=True)
for name in options.only.split(","):
    {"curve": curve, "kill": kill, "graphs": graphs, "refuse": refuse, "oom": oom}[name]()
sys.exit(failed)
