#!/usr/bin/env python3
"""Where the processor's time goes in a server at saturation, as a flame graph: docs/flame-cpu.svg.

    make bench-cpu-flame
    .cache/bench-cpu/venv/bin/python bench/cpu/flame.py --models t5-nano --precision f32 --svg /tmp/flame.svg

perf (Debian's linux-perf) samples the stacks, inferno folds and draws them. ONNX Runtime's library has no symbols.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from pathlib import Path

import models
import options
import run
import servers

INFERNO = models.ROOT / ".cache" / "inferno" / "bin"
DRAWN = ["--minwidth", "0.15", "--width", "1000", "--hash", "--subtitle", "width: share of samples; click to zoom"]


def main() -> int:
    args = parse()
    args.cache.mkdir(parents=True, exist_ok=True)
    client, server = run.build(args.profile), servers.build(args.profile)
    model = run.prepare(args.models[0], args.cache, [])
    prompts, requests = servers.mixed_tasks(args, client, model)
    samples, stacks = args.cache / "perf.data", args.cache / "stacks.txt"
    with servers.running(args, f"xprompt-{args.precision}", server, model, prompts) as (pid, _):
        load = [*servers.loading(client, requests), "--connections", str(args.connections), "--seconds"]
        with subprocess.Popen([*load, str(args.seconds + 6)], stdout=subprocess.DEVNULL):
            time.sleep(3)
            record = ["perf", "record", "--quiet", "--freq", "297", "--call-graph", "dwarf,16384", "--output", samples]
            subprocess.run([*record, "--pid", str(pid), "--", "sleep", str(args.seconds)], check=True)
    with open(stacks, "w") as out:
        script = subprocess.Popen(["perf", "script", "--input", samples], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        subprocess.run([INFERNO / "inferno-collapse-perf", "--quiet"], stdin=script.stdout, stdout=out, check=True)
    title = f"xprompt-server, {model.name} in {args.precision}, {args.connections} connections"
    with open(args.svg, "w") as out:
        subprocess.run([INFERNO / "inferno-flamegraph", *DRAWN, "--title", title, stacks], stdout=out, check=True)
    return 0


def parse() -> argparse.Namespace:
    parser = options.parser(__doc__, ["base"])
    parser.add_argument("--precision", default="int8", choices=["int8", "bf16", "f32"])
    parser.add_argument("--connections", type=int, default=8)
    parser.add_argument("--tasks", type=int, default=10)
    parser.add_argument("--seconds", type=int, default=10)
    parser.add_argument("--svg", type=Path, default=models.ROOT / "docs" / "flame-cpu.svg")
    return options.read(parser, {})


if __name__ == "__main__":
    sys.exit(main())
