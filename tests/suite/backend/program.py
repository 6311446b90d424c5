"""Stands in for Megatron-Bridge's run_recipe.py in tests: the same options, no model.

Joins a gloo group where torchrun or Slurm says how large it is, counts steps, sums over ranks, writes a checkpoint folder and its tracker
at the end and when it gets a TERM, as Bridge does with train.exit_signal_handler.
"""

import os
import signal
import sys
import time

options, overrides = {}, {}
words = sys.argv[1:]
while words:
    word = words.pop(0)
    if word.startswith("-"):
        options[word] = words.pop(0)
    else:
        key, value = word.split("=", 1)
        overrides[key] = value

rank = int(os.environ.get("RANK", os.environ.get("SLURM_PROCID", "0")))
world = int(os.environ.get("WORLD_SIZE", os.environ.get("SLURM_NTASKS", "1")))
asked = False


def ask(number, frame):
    global asked
    asked = True


assert overrides["train.exit_signal_handler"] == "true"
signal.signal(signal.SIGTERM, ask)

total = lambda value: value
if "TRESTLE_NO_TORCH" not in os.environ:
    import torch
    import torch.distributed as dist

    os.environ.setdefault("MASTER_PORT", "29500")
    dist.init_process_group("gloo", rank=rank, world_size=world)

    def total(value):
        tensor = torch.tensor([float(value)])
        dist.all_reduce(tensor)
        return int(tensor.item())


save, load = options["--save_dir"], options["--load_dir"]
tracker = "latest_checkpointed_iteration.txt"
step = 0
if os.path.exists(os.path.join(load, tracker)):
    with open(os.path.join(load, tracker)) as file:
        step = int(file.read())
    print(f"rank {rank} from step {step}", flush=True)
last = int(options["-ms"])
fail_at = int(os.environ.get("TRESTLE_FAIL_AT", "-1"))
ranks = total(1)
print(f"rank {rank} world {ranks}", flush=True)
stop = 0
while step < last and not stop:
    step += 1
    time.sleep(0.05)
    if step == fail_at and rank == 0:
        sys.exit(3)
    # All ranks stop at the same step, as soon as one was asked to.
    stop = total(1 if asked else 0)
    if rank == 0 and step <= 3:
        print(f"step {step}", flush=True)
if rank == 0:
    os.makedirs(os.path.join(save, f"iter_{step:07d}"), exist_ok=True)
    with open(os.path.join(save, tracker), "w") as file:
        file.write(f"{step}\n")
    print(f"saved step {step}", flush=True)
if "TRESTLE_NO_TORCH" not in os.environ:
    dist.destroy_process_group()
