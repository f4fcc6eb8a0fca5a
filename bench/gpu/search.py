#!/usr/bin/env python3
"""The whole method (tuning, search of pruning ratios, rewinding) on a GPU against a CPU: wall time of the same runs.

    python3 bench/gpu/search.py tweets bbc --data .cache/data --devices cuda,cpu

Runs the task files of trainer/experiments without their controls, one seed, with few steps (--steps of tuning, three
fifths of them for each ratio, as `make search`), all tasks side by side in one process, once on each device. One JSON
object a line.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tasks", nargs="+", help="names of task files in trainer/experiments")
    parser.add_argument("--data", type=Path, default=ROOT / "trainer/experiments/data", help="the folder called data there")
    parser.add_argument("--devices", default="cuda,cpu")
    parser.add_argument("--precision", help="what the GPU computes in (default: tf32)")
    parser.add_argument("--steps", type=int, default=150)
    parser.add_argument("--trainer", default="target/release/xprompt-trainer")
    parser.add_argument("--model", default="models/t5-nano")
    args = parser.parse_args()
    failures = 0
    for device in args.devices.split(","):
        line = run(args, device)
        failures += line["status"] != "ok"
        print(json.dumps(line), flush=True)
    return 1 if failures else 0


def shortened(text: str, data: Path, steps: int) -> str:
    """A task file without controls, with fewer steps and its data elsewhere."""
    text = re.sub(r"^\[controls\].*?(?=^\[|\Z)", "", text, flags=re.MULTILINE | re.DOTALL)
    text = text.replace('"data/', f'"{data.resolve()}/')
    again = 3 * steps // 5
    counts = {
        ("tuning", "max_steps"): steps,
        ("tuning", "evaluate_every"): steps // 2,
        ("pruning", "importance_rows"): 256,
        ("rewinding", "max_steps"): again,
        ("rewinding", "evaluate_every"): again // 3,
    }
    for (section, key), count in counts.items():
        line = rf"(^\[{section}\][^\[]*?^{key} = )\d+"
        text, found = re.subn(line, rf"\g<1>{count}", text, flags=re.MULTILINE | re.DOTALL)
        if found != 1:
            raise SystemExit(f"[{section}] has {found} lines {key}, 1 is needed")
    return text


def run(args: argparse.Namespace, device: str) -> dict:
    line = {"bench": "search", "by": "xprompt", "tasks": args.tasks, "device": device, "steps": args.steps}
    with tempfile.TemporaryDirectory() as folder:
        files = []
        for task in args.tasks:
            text = (ROOT / f"trainer/experiments/{task}.toml").read_text()
            files.append(Path(folder) / f"{task}.toml")
            files[-1].write_text(shortened(text, args.data, args.steps))
        out = Path(folder) / "out"
        command = [args.trainer, "run", *map(str, files), "--out", str(out), "--seeds", "1"]
        command += ["--device", device, "--model", args.model]
        if args.precision and device != "cpu":
            command += ["--precision", args.precision]
        start = time.perf_counter()
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        seconds = time.perf_counter() - start
        if done.returncode:
            said = done.stderr.strip().splitlines() or ["it said nothing"]
            return line | {"status": "failed", "reason": said[-1][:500]}
        summaries = [
            json.loads((out / task / "summary.json" if len(files) > 1 else out / "summary.json").read_text())
            for task in args.tasks
        ]
    line |= {"status": "ok", "seconds": round(seconds, 1), "on": summaries[0]["device"]}
    line["parts"] = {timing["part"]: round(timing["seconds"], 1) for timing in summaries[0]["times"]}
    line["test"] = {summary["name"]: result(summary) for summary in summaries}
    return line


def result(summary: dict) -> dict:
    """The first metric of tuned prompt and XPrompt on test."""
    found = {}
    for arm in summary["seeds"][0]["arms"]:
        for split in arm["metrics"]:
            if arm["name"] in ("tuned", "xprompt") and split["split"] == "test":
                found[arm["name"]] = round(split["values"][0]["value"], 4)
    return found


if __name__ == "__main__":
    sys.exit(main())
