#!/usr/bin/env python3
"""How the cost of a text grows: with tasks in the mix, prompt, batch, text length, threads and other programs beside.

    make bench-cpu-growth
    .cache/bench-cpu/venv/bin/python bench/cpu/growth.py --models t5-nano --only length,prompt

Engine measurements are of label scoring with one-token labels, in turn round by round; those with numbers of tasks are of
the server, over HTTP. Adds JSON lines to --out as run.py does; plot.py draws them.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import random
import statistics
import subprocess
import sys
import time
from pathlib import Path

import models
import options
import run
import servers

COUNT = 32
SWEEPS = {
    "prompt": [20, 15, 10, 5],
    "batch": [1, 2, 4, 8, 16, 32, 64],
    "length": [8, 16, 32, 64, 128, 256, 512],
    "threads": None,  # 1, 2, 4 and so on up to the cores
    "beside": [0, 1, 2],  # programs that keep a core busy
    "tasks": [1, 10, 1000, 10000],
}


def main() -> int:
    args = parse()
    args.cache.mkdir(parents=True, exist_ok=True)
    client = run.build(args.profile)
    for name in args.models:
        model = run.prepare(name, args.cache, [])
        workload = args.cache / f"growth-{name}.json"
        workload.write_text(json.dumps(texts(model)))
        for precision in args.precisions:
            of_engine = [sweep for sweep in args.only if sweep not in ("threads", "tasks")]
            if of_engine:
                engine = start(args, client, model, workload, precision, args.threads)
                for sweep in of_engine:
                    measure(args, name, precision, sweep, [(value, engine) for value in SWEEPS[sweep]])
                engine.stop()
            if "threads" in args.only:
                counts = [1 << i for i in range(args.threads.bit_length()) if 1 << i <= args.threads]
                engines = [(n, start(args, client, model, workload, precision, n)) for n in counts]
                measure(args, name, precision, "threads", engines)
                for _, engine in engines:
                    engine.stop()
            if "tasks" in args.only:
                tasks(args, client, name, model, precision)
    return 0


def parse() -> argparse.Namespace:
    parser = options.parser(__doc__, ["base", "t5-nano"])
    parser.add_argument("--precisions", type=options.names, default=["int8", "f32"])
    parser.add_argument("--only", type=options.names, default=[*SWEEPS], help=", ".join(SWEEPS))
    parser.add_argument("--most-tasks", type=int, default=10000, help="each prompt of base is a file of 70 KiB")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=10)
    return options.read(parser, {"only": [*SWEEPS], "precisions": ["int8", "bf16", "f32"]})


def texts(model: Path) -> dict:
    """Texts of each length, and the mix of sentences that the other sweeps are of."""
    vocabulary = json.loads((model / "config.json").read_text())["vocab_size"]
    draw = random.Random(5)
    of = lambda length: [draw.randrange(100, min(vocabulary, 16000) - 100) for _ in range(length)]  # noqa: E731
    kinds = {str(length): [of(length) for _ in range(COUNT)] for length in SWEEPS["length"]}
    kinds["sentences"] = models.workload(model, 2 * COUNT)["texts"]["sentences"]
    return {
        "prompt": models.PROMPT,
        "texts": kinds,
        "labels": {"score1": [[300 + i] for i in range(4)]},
        "generate": {},
    }


def start(args, client: Path, model: Path, workload: Path, precision: str, threads: int) -> run.Engine:
    command = [client, "worker", "--model", model, "--threads", threads, "--workload", workload]
    command = [*map(str, command), "--precision", precision]
    return run.Engine(f"xprompt-{precision}", command, args.cache / "growth.log", threads)


def measure(args, model: str, precision: str, sweep: str, points: list[tuple[int, run.Engine]]) -> None:
    def once(value: int, engine: run.Engine) -> float:
        order: dict = {"work": "score1", "texts": "sentences", "batch": 8}
        if sweep == "length":
            order["texts"] = str(value)
        elif sweep in ("batch", "prompt"):
            order[sweep] = value
        with busy(value if sweep == "beside" else 0):
            time.sleep(0.1)
            return engine.order(**order)["seconds"]

    for point in points:
        once(*point)
    rounds = {value: [] for value, _ in points}
    for round in range(args.rounds):
        for value, engine in points if round % 2 else points[::-1]:
            rounds[value].append(once(value, engine))
    for value, seconds in rounds.items():
        count = COUNT if sweep == "length" else 2 * COUNT
        times = [1000 * each / count for each in seconds]
        line = {"bench": "cpu-growth", "model": model, "precision": precision, "sweep": sweep, "value": value}
        line |= {"ms": statistics.median(times), "min_ms": min(times), "max_ms": max(times), "threads": args.threads}
        run.add(args.out, line)


@contextlib.contextmanager
def busy(programs: int):
    """So many programs that compute all the time."""
    running = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(programs)]
    try:
        yield
    finally:
        for program in running:
            program.kill()
            program.wait()


def tasks(args, client: Path, name: str, model: Path, precision: str) -> None:
    """The server with a folder of so many prompts, each of which is asked in turn."""
    server = servers.build(args.profile)
    for count in (count for count in SWEEPS["tasks"] if count <= args.most_tasks):
        prompts = args.cache / f"prompts-{name}-{count}"
        if not (prompts / f"task-{count - 1}.safetensors").exists():
            command = [client, "prompts", "--model", model, "--out", prompts, "--tasks", str(count)]
            subprocess.run(command, check=True)
        requests = args.cache / f"requests-{name}-{count}.jsonl"
        requests.write_text("".join(servers.request_lines(count, count=max(960, count))))
        with servers.running(args, f"xprompt-{precision}", server, model, prompts) as (pid, ready):
            load = [*servers.loading(client, requests), "--connections", "8", "--seconds", str(args.seconds)]
            servers.answer(load)  # warm up
            found = servers.answer(load)
            line = {"bench": "cpu-growth", "model": name, "precision": precision, "sweep": "tasks", "value": count}
            line |= {"ms": 1000 / found["per_s"], "p50_ms": found["p50_ms"], "p99_ms": found["p99_ms"]}
            line |= {"ready_s": ready, "peak_mib": servers.peak_mib(pid), "threads": args.threads}
            run.add(args.out, line)


if __name__ == "__main__":
    sys.exit(main())
