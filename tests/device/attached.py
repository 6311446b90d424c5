"""What a workbench that watches costs a training run on a GPU, and what a checkpoint does.

    tests/device/attached.py TRESTLE OUT [--recipe recipes/qwen3_5-0_8b-h100.toml] [--window 45] [--rounds 2] [--set KEY=VALUE]

One run trains; windows of steps without and with a workbench on its Train screen, in a terminal of 160x48, take turns. They come as without,
with, with, without, so that a GPU that gets slower as it gets warmer slows both. A figure is the median of the step times of all windows of a
kind. Then one checkpoint is written while it trains. OUT gets the run's events, attached.json, and what the terminal got: screen.raw, and dialog.raw of
the recipe's launch dialog (`cat` them in a terminal of that size).
"""

import argparse
import fcntl
import json
import os
import pty
import signal
import statistics
import struct
import subprocess
import termios
import threading
import time
from pathlib import Path

COLUMNS, LINES = 160, 48
# Steps after a change that count for neither kind.
BETWEEN = 8
# Keys that lead from the first screen to the newest run's, and to the recipe's launch dialog.
TO_RUN, TO_DIALOG = (b"5", b"\r"), (b"/", b"{recipe}", b"\r", b"\r")

parser = argparse.ArgumentParser()
parser.add_argument("trestle")
parser.add_argument("out", type=Path)
parser.add_argument("--recipe", default="recipes/qwen3_5-0_8b-h100.toml")
parser.add_argument("--window", type=int, default=45)
parser.add_argument("--rounds", type=int, default=2)
parser.add_argument("--set", action="append", default=[])
parser.add_argument("--seconds", type=float, default=150)
options = parser.parse_args()
base = [options.trestle, "--runs", str(options.out)]


class Workbench:
    """The program in a terminal of its own, whose output is kept."""

    def __init__(self, way):
        self.bytes = bytearray()
        self.pid, self.terminal = pty.fork()
        if self.pid == 0:
            os.environ |= {"TERM": "xterm-256color", "LANG": "C.UTF-8", "COLUMNS": "", "LINES": ""}
            os.execvp(base[0], base)
        self.resize(COLUMNS)
        threading.Thread(target=self.read, daemon=True).start()
        for keys in way:
            time.sleep(0.7)
            os.write(self.terminal, keys)

    def resize(self, columns):
        fcntl.ioctl(self.terminal, termios.TIOCSWINSZ, struct.pack("HHHH", LINES, columns, 0, 0))
        os.kill(self.pid, signal.SIGWINCH)

    def read(self):
        try:
            while got := os.read(self.terminal, 1 << 16):
                self.bytes += got
        except OSError:  # the program has ended
            pass

    def leave(self):
        """A resize, which redraws everything, then the end; returns what the terminal got since."""
        self.resize(COLUMNS - 1)
        time.sleep(0.5)
        self.bytes.clear()
        self.resize(COLUMNS)
        time.sleep(0.7)
        seen = bytes(self.bytes)
        os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)
        os.close(self.terminal)
        return seen


def events(run):
    path = run / "events.jsonl"
    lines = path.read_text().splitlines() if path.exists() else []
    return [json.loads(line) for line in lines if line.endswith("}")]


def steps(run):
    return [event for event in events(run) if event["type"] == "step"]


def reach(run, step):
    """Waits for a step's event; whether it came in time."""
    while time.monotonic() < end:
        done = steps(run)
        if done and done[-1]["step"] >= step:
            return True
        if any(event["type"] in ("failed", "finished") for event in events(run)):
            return False
        time.sleep(0.1)
    return False


end = time.monotonic() + options.seconds
options.out.mkdir(parents=True, exist_ok=True)
name = Path(options.recipe).name.encode()
dialog = Workbench([keys.replace(b"{recipe}", name) for keys in TO_DIALOG])
time.sleep(1)
(options.out / "dialog.raw").write_bytes(dialog.leave())
last = 4 * options.rounds * (options.window + BETWEEN) + 20
sets = ["train.steps=100000", "train.global_batch_size=2", "logging.interval=1", "train.eval_interval=0", "schedule.warmup_steps=5"]
sets += [f"checkpoint.interval={last}", "logging.tensorboard=false", *options.set]
line = [*base, "train", options.recipe, "--name", "attached", "--detach", "--json"]
started = subprocess.run(line + [part for value in sets for part in ("--set", value)], capture_output=True, text=True)
if started.returncode != 0:
    raise SystemExit(started.stderr)
run = Path(json.loads(started.stdout)["path"])
windows, screen, workbench = {"detached": [], "attached": []}, b"", None
first = 12
for _ in range(options.rounds):
    for kind in ("detached", "attached", "attached", "detached"):
        times = windows[kind]
        workbench = Workbench(TO_RUN) if kind == "attached" else None
        if not reach(run, first + BETWEEN + options.window):
            break
        of_window = range(first + BETWEEN, first + BETWEEN + options.window)
        times.extend(step["step_seconds"] for step in steps(run) if step["step"] in of_window)
        screen = workbench.leave() if workbench else screen
        first += BETWEEN + options.window
saved = reach(run, last + 40)
while saved and time.monotonic() < end and not any(event["type"] == "checkpoint" for event in events(run)):
    time.sleep(0.2)
subprocess.run([*base, "stop", run.name, "--how", "now"], capture_output=True)
done = {step["step"]: step for step in steps(run)}
around = {step: done[step]["step_seconds"] for step in range(last - 2, last + 40) if step in done}
checkpoints = [event for event in events(run) if event["type"] == "checkpoint"]
medians = {kind: statistics.median(times) if times else None for kind, times in windows.items()}
usual = medians["detached"]
result = {
    "window": options.window,
    "steps": {kind: len(times) for kind, times in windows.items()},
    "step_seconds": medians,
    "attached_over_detached": usual / medians["attached"] if usual and medians["attached"] else None,
    "tokens_per_second": done[last - 2]["tokens_per_second"] if last - 2 in done else None,
    "mfu": done[last - 2]["mfu"] if last - 2 in done else None,
    "parts": done[last - 2]["parts"] if last - 2 in done else None,
    "checkpoint": {
        "written": [{key: event[key] for key in ("step", "bytes", "seconds")} for event in checkpoints],
        "seconds_lost": sum(seconds - usual for seconds in around.values()) if usual else None,
        "steps_around": {step: round(seconds, 4) for step, seconds in around.items()},
    },
    "memory": [step["memory"] for step in done.values() if step.get("memory")][-1:],
    "reached": saved,
}
(options.out / "screen.raw").write_bytes(screen)
(options.out / "attached.json").write_text(json.dumps(result, indent=1) + "\n")
print(json.dumps({key: result[key] for key in ("step_seconds", "attached_over_detached", "tokens_per_second")}))
