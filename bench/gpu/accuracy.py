#!/usr/bin/env python3
"""How far TF32, bf16 and f16 are from f32 on real rows: each prompt on its test set, by the trainer's own `eval --against`.

    python3 bench/gpu/accuracy.py prompts/tweet-sentiment.safetensors=DATA/tweets/test.jsonl \\
        prompts/bbc-topics.safetensors=DATA/bbc/test.jsonl

One JSON object a line, which tables.py makes a table of.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path

PRECISIONS = ["f32", "tf32", "bf16", "f16"]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pairs", nargs="+", metavar="PROMPT=ROWS", help="a prompt file and labelled rows for it")
    parser.add_argument("--precisions", default=",".join(PRECISIONS), help="what to compare with f32")
    parser.add_argument("--trainer", default="target/release/xprompt-trainer")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--model", default="models/t5-nano")
    parser.add_argument("--rows", type=int, help="only the first rows")
    args = parser.parse_args()
    failures = 0
    for pair in args.pairs:
        prompt, _, rows = pair.partition("=")
        for precision in args.precisions.split(","):
            line = compared(args, prompt, rows, precision)
            failures += line["status"] != "ok"
            print(json.dumps(line), flush=True)
    return 1 if failures else 0


def compared(args: argparse.Namespace, prompt: str, rows: str, precision: str) -> dict:
    command = [args.trainer, "eval", prompt, "--data", rows, "--json", "--model", args.model]
    command += ["--device", args.device, "--precision", precision, "--against", "f32"]
    command += ["--rows", str(args.rows)] if args.rows else []
    line = {"bench": "accuracy", "by": "xprompt", "prompt": Path(prompt).stem, "precision": precision}
    start = time.perf_counter()
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError) as error:
        said = getattr(error, "stderr", None) or str(error)
        return line | {"status": "failed", "reason": said.strip().splitlines()[-1][:500]}
    report = json.loads(done.stdout)
    line |= {"status": "ok", "rows": report["rows"], "metrics": report["metrics"]}
    return line | report["against"]["agreement"] | {"seconds": round(time.perf_counter() - start, 1)}


if __name__ == "__main__":
    sys.exit(main())
