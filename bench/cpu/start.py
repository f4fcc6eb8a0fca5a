#!/usr/bin/env python3
"""From exec to ready, and what the server holds in memory a little later, with files in the page cache and without.

    make bench-cpu-start
    .cache/bench-cpu/venv/bin/python bench/cpu/start.py --models t5-nano --rounds 3

Each start is a server of its own with one prompt, and ends when /health/ready says 200. `cold` starts have the model's
files dropped from the page cache first, `first` also has no weights in int8 or bf16 yet. Adds JSON lines to --out as run.py does.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import time
from pathlib import Path

import options
import run
import servers

STARTS = {"f32": ("warm", "cold"), "int8": ("first", "warm", "cold"), "bf16": ("first", "warm", "cold")}


def main() -> int:
    args = parse()
    args.cache.mkdir(parents=True, exist_ok=True)
    client, server = run.build(args.profile), servers.build(args.profile)
    for name in args.models:
        model = run.prepare(name, args.cache, [])
        prompts = args.cache / f"prompts-{name}-1"
        subprocess.run([client, "prompts", "--model", model, "--out", prompts, "--tasks", "1"], check=True)
        for precision, kinds in STARTS.items():
            for kind in kinds:
                rounds = 1 if kind == "first" else args.rounds
                found = [start(args, server, model, prompts, precision, kind) for _ in range(rounds)]
                weights = sum(file.stat().st_size for file in model.glob("*.safetensors"))
                line = {"bench": "cpu-start", "model": name, "precision": precision, "start": kind}
                line |= {"weights_mib": weights >> 20, "seconds": [round(each.pop("seconds"), 3) for each in found]}
                line |= {key: round(statistics.median(each[key] for each in found)) for key in found[0]}
                run.add(args.out, line)
    return 0


def parse() -> argparse.Namespace:
    parser = options.parser(__doc__, ["t5-nano", "base", "large"])
    parser.add_argument("--rounds", type=int, default=5)
    return options.read(parser, {})


def start(args, server: Path, model: Path, prompts: Path, precision: str, kind: str) -> dict:
    integers = model / ".xprompt"
    if kind == "first":
        shutil.rmtree(integers, ignore_errors=True)
    if kind != "warm":
        for file in (file for file in [server, *model.iterdir(), *integers.glob("*")] if file.is_file()):
            forget(file)
    with servers.running(args, f"xprompt-{precision}", server, model, prompts, pause=0.002) as (pid, seconds):
        return {"seconds": seconds, **settled(pid)}


def forget(file: Path) -> None:
    """Drops a file's pages from the page cache; those that somebody has mapped stay."""
    with open(file, "rb") as opened:
        os.fsync(opened.fileno())
        os.posix_fadvise(opened.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def settled(pid: int) -> dict[str, float]:
    """Memory once it has stopped to grow: weights move into huge pages behind the start."""
    found, before = memory(pid), None
    while found != before:
        time.sleep(1)
        found, before = memory(pid), found
    return found


def memory(pid: int) -> dict[str, float]:
    """MiB: all that is resident, and of that what is the process's own and not pages of files."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    sizes = {line.split(":")[0]: int(line.split()[1]) / 1024 for line in lines if line.endswith("kB")}
    return {"resident_mib": sizes["Rss"], "private_mib": sizes["Anonymous"]}


if __name__ == "__main__":
    sys.exit(main())
