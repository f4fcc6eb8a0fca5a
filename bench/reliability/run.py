#!/usr/bin/env python3
"""Reliability trials on the real server: what is promised is tried, and every lost call is counted.

    python3 bench/reliability/run.py overload --seconds 60
    python3 bench/reliability/run.py all

Each trial starts its own server on prompts made for it, in a temporary folder, and prints one JSON line with what was
measured and a line that says whether everything promised held. The exit status is 1 if something did not.
"""

from __future__ import annotations

import argparse
import asyncio
import importlib
import json
import shutil
import sys
import tempfile
import time
from pathlib import Path

from server import ROOT

# name: seconds where it is about time, rounds where it is about repetitions
TRIALS = {
    "overload": {"seconds": 60},
    "slow": {"rounds": 60},
    "leaving": {"rounds": 400},
    "hostile": {"rounds": 1000},
    "outage": {"rounds": 20},
    "bucket": {"rounds": 30},
    "corrupt": {"rounds": 300},
    "swaps": {"rounds": 2000},
    "restart": {"rounds": 20},
    "killed": {"rounds": 100},
    "soak": {"seconds": 3600},
}


def main() -> int:
    args = parse()
    names = [name for name in TRIALS if name != "soak"] if args.trial == "all" else [args.trial]
    held = [one(name, args) for name in names]
    return 0 if all(held) else 1


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("trial", choices=[*TRIALS, "all"], help="all is all but soak")
    parser.add_argument("--server", type=Path, default=ROOT / "target/debug/xprompt-server", help="the binary")
    parser.add_argument("--seconds", type=float, help="how long, where a trial takes a time")
    parser.add_argument("--rounds", type=int, help="how often, where a trial repeats something")
    parser.add_argument("--rate", type=float, default=10, help="soak: calls a second (default: 10)")
    parser.add_argument("--slope", type=float, default=4, help="soak: MiB an hour that count as flat (default: 4)")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--keep", action="store_true", help="keep the temporary folder")
    args = parser.parse_args()
    args.server = args.server.resolve()
    if not args.server.is_file():
        parser.error(f"--server {args.server}: no such file; `cargo build` makes it")
    return args


def one(name: str, args: argparse.Namespace) -> bool:
    defaults = {key: getattr(args, key) or value for key, value in TRIALS[name].items()}
    of_trial = argparse.Namespace(**vars(args) | defaults)
    of_trial.folder = Path(tempfile.mkdtemp(prefix=f"xprompt-{name}-"))
    start = time.monotonic()
    try:
        figures, broken = asyncio.run(importlib.import_module(name).run(of_trial))
    finally:
        if args.keep:
            print(f"{name}: kept {of_trial.folder}", file=sys.stderr)
        else:
            shutil.rmtree(of_trial.folder, ignore_errors=True)
    line = {"trial": name, "held": not broken, "took_s": round(time.monotonic() - start, 1)} | figures
    print(json.dumps(line), flush=True)
    verdict = "; ".join(broken) if broken else "everything promised held"
    print(f"{name}: {verdict}", flush=True)
    return not broken


if __name__ == "__main__":
    sys.exit(main())
