#!/usr/bin/env python3
"""What the server costs beside the model: processor time of its own threads, and of each stage, at saturation.

    make bench-cpu-overhead
    .cache/bench-cpu/venv/bin/python bench/cpu/overhead.py --models t5-nano --seconds 5

Processor time is taken from /proc for each thread. Those that compute are the engine's thread and the pool of ONNX Runtime;
all others are the server's own. The bare session does the same texts in batches of the server's mean size in a process of
its own; what a text takes there is what the server's time is compared with. Adds JSON lines to --out as run.py does.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import sys
import time
import urllib.request
from pathlib import Path

import models
import options
import run
import servers

TICK = os.sysconf("SC_CLK_TCK")
# threads that answer clients, and the one that keeps the prompts
OWN = ("tokio-", "prompts")


def main() -> int:
    args = parse()
    args.cache.mkdir(parents=True, exist_ok=True)
    client, server = run.build(args.profile), servers.build(args.profile)
    for name in args.models:
        model = run.prepare(name, args.cache, [])
        prompts, requests = servers.mixed_tasks(args, client, model)
        workload = args.cache / f"workload-{name}.json"
        workload.write_text(json.dumps(models.workload(model, 96)))
        for precision in args.precisions:
            for connections in args.connections:
                line = {"bench": "cpu-overhead", "model": name, "precision": precision, "connections": connections}
                found = saturate(args, client, server, model, prompts, requests, precision, connections)
                found["bare_ms"] = bare(args, client, model, workload, precision, max(1, round(found["batch"])))
                run.add(args.out, line | {"threads": args.threads} | found)
    return 0


def parse() -> argparse.Namespace:
    parser = options.parser(__doc__, ["base", "t5-nano"])
    parser.add_argument("--precisions", type=options.names, default=["int8", "f32"])
    parser.add_argument("--connections", type=options.counts, default=[8, 32])
    parser.add_argument("--tasks", type=int, default=10)
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--warm", type=float, default=25, help="seconds before, in which the server sees most words once (default: 25)")
    return options.read(parser, {"precisions": ["int8", "bf16", "f32"]})


def saturate(args, client, server, model, prompts, requests, precision: str, connections: int) -> dict:
    with servers.running(args, f"xprompt-{precision}", server, model, prompts) as (pid, _):
        load = [*servers.loading(client, requests), "--connections", str(connections), "--seconds"]
        servers.answer([*load, str(args.warm)])
        before, metrics_before = thread_seconds(pid), metrics()
        answer = servers.answer([*load, str(args.seconds)])
        after, metrics_after = thread_seconds(pid), metrics()
    spent = {thread: seconds - before.get(thread, 0.0) for thread, seconds in after.items()}
    own = sum(seconds for (name, _), seconds in spent.items() if name.startswith(OWN))
    grown = {name: value - metrics_before.get(name, 0.0) for name, value in metrics_after.items()}
    stages = {}
    for stage in ("tokenize", "queue", "run"):
        total, count = (
            grown.get(f'xprompt_stage_duration_seconds_{what}{{stage="{stage}"}}', 0.0) for what in ("sum", "count")
        )
        stages[f"{stage}_us"] = round(1e6 * total / max(count, 1))
    size = {what: sum(v for k, v in grown.items() if k.startswith(f"xprompt_batch_requests_{what}")) for what in ("sum", "count")}
    per_request = lambda seconds: round(1e6 * seconds / answer["answered"], 1)  # noqa: E731
    return {
        "per_s": answer["per_s"],
        "p50_ms": answer["p50_ms"],
        "p99_ms": answer["p99_ms"],
        "batch": size["sum"] / max(size["count"], 1),
        "own_cpu_us": per_request(own),
        "computing_cpu_us": per_request(sum(spent.values()) - own),
        "threads_us": {
            name: per_request(sum(s for (n, _), s in spent.items() if n == name)) for name in sorted({n for n, _ in spent})
        },
        **stages,
    }


def thread_seconds(pid: int) -> dict[tuple[str, str], float]:
    """Processor seconds of each thread, by its name and number."""
    found = {}
    for task in Path(f"/proc/{pid}/task").iterdir():
        name, _, rest = (task / "stat").read_text().partition("(")[2].rpartition(")")
        fields = rest.split()
        found[(name, task.name)] = (int(fields[11]) + int(fields[12])) / TICK
    return found


def metrics() -> dict[str, float]:
    with urllib.request.urlopen(f"http://{servers.ADDRESS}/metrics", timeout=10) as answer:
        lines = answer.read().decode().splitlines()
    pairs = (re.match(r"(\S+) (\S+)$", line) for line in lines if not line.startswith("#"))
    return {pair[1]: float(pair[2]) for pair in pairs if pair}


def bare(args, client: Path, model: Path, workload: Path, precision: str, batch: int) -> float:
    """Milliseconds of a text in a session without a server, in batches of texts in any order."""
    command = [client, "worker", "--model", model, "--threads", args.threads, "--workload", workload]
    engine = run.Engine(precision, [*map(str, command), "--precision", precision], args.cache / "bare.log", args.threads)
    try:
        times = []
        for _ in range(4):
            time.sleep(0.2)
            times.append(engine.order(work="score1", texts="mixed", batch=batch)["seconds"])
        return 1000 * min(times[1:]) / 96
    finally:
        engine.stop()


if __name__ == "__main__":
    sys.exit(main())
