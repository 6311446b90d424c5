#!/usr/bin/env python3
"""Makes the committed result files of a GPU out of what `.ci/cuda-figures` packed.

    mkdir figures && tar -xzf results.tar.gz -C figures && tests/bench/collect.py figures tests/bench/results

engine-h100.json gets training beside the peer's, the step by kernel, every kernel beside fla's and torch's, and the trainer's own figures;
memory-plan.json every shape's memory beside its plan. What a run lacks stays as it is in the file.
"""
import json
import re
import statistics
import sys
from pathlib import Path

# Kernels by what the share of a step is asked for.
MATRIX = ("linear_", "cross_entropy_logits", "cross_entropy_dx", "cross_entropy_dw")
MIXERS = ("attention_", "gated_delta_")


def read(path):
    return json.loads(path.read_text()) if path.exists() else None


def plain(command):
    """A command without the folders of the machine that ran it."""
    return re.sub(r"/(?:[\w.+-]+/)+", "", command)


def of_record(record):
    return {key: plain(record[key]) for key in ("device", "driver", "commit", "command")}


def ms(seconds):
    return round(seconds * 1e3, 3)


def training(peer):
    rounds = peer["training"]["rounds"]
    modes = [key for key in rounds[0] if key != "ours"]
    best = {key: max(r[key]["peak_bytes"]["allocated"] for r in rounds) for key in modes}
    ours = rounds[0]["ours"]
    return {
        "device": peer["device"],
        "command": plain(peer["command"]),
        "ours": plain(ours["command"]),
        "versions": peer.get("versions"),
        "note": peer.get("note"),
        **{key: value for key, value in peer["training"].items() if key != "rounds"},
        "tokens_per_second": peer["tokens_per_second"],
        "tokens_per_second_by_round": [{key: round(r[key]["tokens_per_second"], 1) for key in r} for r in rounds],
        "ours_over_best_peer": peer["ours_over_best_peer"],
        "peak_allocated_bytes": {"ours": ours["used_peak"], **best},
        "peak_driver_bytes": {"ours": ours["driver"], **{k: max(r[k]["peak_bytes"]["driver"] for r in rounds) for k in modes}},
    }


def step(ours):
    kernels = ours["kernels"]
    total = sum(kernel["seconds"] for kernel in kernels)
    share = lambda names: sum(k["seconds"] for k in kernels if k["name"].startswith(names)) / total
    matrix, mixers = share(MATRIX), share(MIXERS)
    return {
        "what": f"{ours['model']}, {ours['micro_batch']} x {ours['sequence']} tokens, {ours['precision']}, recompute {ours['recompute']}",
        "tokens_per_second": round(ours["tokens_per_second"], 1),
        "tflops_per_second_of_the_model": round(ours["tflops_per_second"], 1),
        "ms": ms(ours["step"]["median"]),
        "phases_ms": {phase["name"]: ms(phase["seconds"]["median"]) for phase in ours["phases"]},
        "kernels_ms": ms(total),
        "share": {"matrix products": round(matrix, 4), "attention and delta rule": round(mixers, 4), "all else": round(1 - matrix - mixers, 4)},
        "kernels": [{"name": k["name"], "calls": k["calls"], "ms": ms(k["seconds"])} for k in kernels],
    }


def against(kernels):
    both = lambda op: sum(one["seconds"]["median"] for one in kernels["ours"][op]["ops"]) * 1e3
    found = {}
    for op, peers in (("gated_delta", "fla"), ("attention", "sdpa")):
        peer = {name: times for name, times in kernels["peer"].items() if name.startswith(peers) and "both" in times}
        best = min(peer, key=lambda name: peer[name]["both"]["median_ms"])
        found[op] = {
            "ours_ms": {one["pass"]: ms(one["seconds"]["median"]) for one in kernels["ours"][op]["ops"]},
            "ours_both_ms": round(both(op), 4),
            "peer_ms": {name: {part: times[part]["median_ms"] for part in times} for name, times in peer.items()},
            "best_peer": best,
            "ours_over_best_peer": round(peer[best]["both"]["median_ms"] / both(op), 3),
        }
    return found


def main():
    source, target = Path(sys.argv[1]), Path(sys.argv[2])
    engine = read(target / "engine-h100.json") or {}
    peer, kernels = read(source / "peer.json"), read(source / "peer-kernels.json")
    if peer:
        engine["training"] = training(peer)
        engine["step"] = step(peer["training"]["rounds"][-1]["ours"])
    if kernels:
        engine["kernels_against_peers"] = {"device": kernels["device"], "command": plain(kernels["command"]), **against(kernels["kernels"])}
    alone = read(source / "kernels.json")
    if alone:
        ops = alone["result"]["ops"]
        engine["kernels"] = {
            **of_record(alone),
            "peaks": alone["result"]["peaks"],
            "ops": [
                {"op": o["op"], "pass": o["pass"], "shape": o["shape"], "ms": ms(o["seconds"]["median"]), "share_of_peak": round(o["share_of_peak"], 3)}
                for o in ops
            ],
        }
    for name in ("attached", "train", "memcheck", "racecheck", "device"):
        folder = source / name
        found = read(folder / f"{name}.json") if folder.is_dir() else None
        if found:
            found.pop("memory", None)  # memory-plan.json has it
            engine[name] = found
        text = source / f"{name}.out"
        if name in ("train", "memcheck", "racecheck", "device") and text.exists():
            lines = text.read_text(errors="replace").splitlines()
            wanted = [x for x in lines if x.startswith(("ok ", "BAD", "test result", "========= ", "golden")) or x.endswith("FAILED")]
            engine["device_tests" if name == "device" else name] = [x[:200] for x in wanted]
    (target / "engine-h100.json").write_text(json.dumps(engine, indent=1) + "\n")
    shapes = read(source / "shapes.json") or read(source / "shapes" / "shapes.json")
    if shapes:
        good = {name: shape for name, shape in shapes.items() if "errors" in shape}
        errors = [abs(shape["errors"]["process"]) for shape in good.values()]
        table = {
            name: {
                "tokens_per_second": round(shape["tokens_per_second"], 1),
                "process_bytes": {"planned": shape["plan"]["total"], "measured": shape["driver"]},
                "tensor_bytes": {"planned": shape["plan"]["allocated"], "measured": shape["used_peak"]},
                "planned_over_measured": {key: round(1 + value, 4) for key, value in shape["errors"].items()},
                "command": plain(shape["command"].replace("recipes/", "recipes\0")).replace("\0", "/"),
            }
            for name, shape in good.items()
        }
        device = next(iter(good.values()))["device"]
        memory = {"device": device, "worst": round(max(errors), 4), "median": round(statistics.median(errors), 4), "shapes": table}
        (target / "memory-plan.json").write_text(json.dumps(memory, indent=1) + "\n")


if __name__ == "__main__":
    main()
