#!/usr/bin/env python3
"""Ours against its peers on a CPU: label scoring and generation, in turn, on the same texts in the same batches.

    make bench-cpu                                        everything (an hour on two cores)
    .cache/bench-cpu/venv/bin/python bench/cpu/run.py --only score1 --batches 1,8 --rounds 3

Prints JSON lines and adds them to --out: one for each engine and measurement, with the times of all rounds. `table.py`
makes the tables of docs/performance.md from that file. README.md says what is measured, and what is not equal.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

import models
import options

HERE = Path(__file__).resolve().parent
OURS = ("xprompt-int8", "xprompt-bf16", "xprompt-f32")
PEERS = (
    "ctranslate2-int8",
    "ctranslate2-f32",
    "transformers-bf16",
    "transformers-f32",
    "peft-f32",
    "onnxruntime-f32",
)
WORKS = ("score1", "score8", "labels4x8", f"generate{models.GENERATE}")
TEXTS = (*models.LENGTHS, "mixed")


def main() -> int:
    args = parse()
    args.cache.mkdir(parents=True, exist_ok=True)
    binary = build(args.profile)
    for name in args.models:
        model = prepare(name, args.cache, args.engines)
        workload = args.cache / f"workload-{name}.json"
        workload.write_text(json.dumps(models.workload(model, args.count)))
        engines = start(args, binary, model, workload)
        try:
            measure(args, name, engines)
        finally:
            for engine in engines:
                engine.stop()
    return 0


def parse() -> argparse.Namespace:
    parser = options.parser(__doc__, ["base", "t5-nano"])
    parser.add_argument("--engines", type=options.names, default=[*OURS, *PEERS], help=", ".join([*OURS, *PEERS]))
    parser.add_argument("--only", type=options.names, default=[*WORKS], help=", ".join(WORKS))
    parser.add_argument("--texts", type=options.names, default=["mixed"], help=", ".join(TEXTS))
    parser.add_argument("--batches", type=options.counts, default=[1, 8, 32])
    parser.add_argument("--rounds", type=int, default=7, help="measurements of each (default: 7)")
    parser.add_argument("--count", type=int, default=32, help="texts in a round (default: 32)")
    parser.add_argument("--pause", type=float, default=0.3, help="seconds between measurements, for idle threads to sleep")
    return options.read(parser, {"engines": [*OURS, *PEERS], "only": [*WORKS], "texts": [*TEXTS]})


def prepare(name: str, cache: Path, engines: list[str]) -> Path:
    """The model in the forms that engines read, made in a process of its own: it would count as an engine's memory."""
    command = [sys.executable, str(HERE / "models.py"), name, str(cache / "models"), *engines]
    subprocess.run(command, check=True, stdout=sys.stderr)
    return cache / "models" / name


def build(profile: str) -> Path:
    """This project's side of the comparison; returns the program."""
    command = ["cargo", "build", "--locked", "--bench", "cpu", "--profile", profile, "--message-format", "json"]
    done = subprocess.run(command, cwd=models.ROOT, stdout=subprocess.PIPE, text=True, check=True)
    messages = (json.loads(line) for line in done.stdout.splitlines())
    programs = (message["executable"] for message in messages if message.get("executable"))
    return Path(next(program for program in programs if Path(program).name.startswith("cpu-")))


class Engine:
    """A process that has the model loaded and waits."""

    def __init__(self, name: str, command: list[str], log: Path, threads: int):
        self.name = name
        self.log = log
        environment = os.environ | {"OMP_NUM_THREADS": str(threads), "TOKENIZERS_PARALLELISM": "false"}
        with open(log, "w") as errors:
            self.process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, text=True, env=environment
            )
        self.ready = self.read()

    def read(self) -> dict:
        line = self.process.stdout.readline()
        if not line:
            said = self.log.read_text().strip().splitlines() or ["it said nothing"]
            raise RuntimeError(f"{self.name} ended: {said[-1]} (see {self.log})")
        return json.loads(line)

    def order(self, **order) -> dict:
        self.process.stdin.write(json.dumps(order) + "\n")
        self.process.stdin.flush()
        return self.read()

    def stop(self) -> None:
        self.process.stdin.close()
        try:
            self.process.wait(timeout=30)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def start(args: argparse.Namespace, binary: Path, model: Path, workload: Path) -> list[Engine]:
    """Ours between its peers; an engine that does not start is told and left out."""
    ours = [name for name in args.engines if name in OURS]
    peers = [name for name in args.engines if name in PEERS]
    order = []
    while ours or peers:
        order += peers[:1] + ours[:1]
        peers, ours = peers[1:], ours[1:]
    engines = []
    for name in order:
        common = ["--model", str(model), "--threads", str(args.threads), "--workload", str(workload)]
        if name in OURS:
            command = [str(binary), "worker", *common, "--precision", name.removeprefix("xprompt-")]
        else:
            command = [sys.executable, str(HERE / "engines.py"), name, *common]
        try:
            engines.append(Engine(name, command, args.cache / f"{name}.log", args.threads))
            say(f"{model.name}: {name} is ready after {engines[-1].ready['ready_s']:.1f} s")
        except RuntimeError as error:
            say(str(error))
    return engines


def measure(args: argparse.Namespace, model: str, engines: list[Engine]) -> None:
    for work in args.only:
        for texts in args.texts:
            for batch in args.batches:
                lines = {engine.name: in_turn(args, engine, work, texts, batch, 0) for engine in engines}
                seconds = {name: [] for name in lines}
                for round in range(args.rounds):
                    for engine in engines if round % 2 else engines[::-1]:
                        if "skipped" in lines[engine.name]:
                            continue
                        line = in_turn(args, engine, work, texts, batch, args.pause)
                        lines[engine.name] = line
                        seconds[engine.name].append(line["seconds"])
                for engine in engines:
                    about = {"bench": "cpu", "model": model, "work": work, "texts": texts, "batch": batch}
                    about |= {"by": engine.name, "threads": args.threads, "count": args.count}
                    report(args, about, lines[engine.name], seconds[engine.name], engine)


def in_turn(args: argparse.Namespace, engine: Engine, work: str, texts: str, batch: int, pause: float) -> dict:
    time.sleep(pause)
    line = engine.order(work=work, texts=texts, batch=batch)
    if work in WORKS and work.startswith("generate") and "skipped" not in line:
        wanted = args.count * models.GENERATE
        if line["tokens"] != wanted:
            raise RuntimeError(f"{engine.name} made {line['tokens']} tokens, not {wanted}")
    return line


def report(args: argparse.Namespace, about: dict, last: dict, seconds: list[float], engine: Engine) -> None:
    if "skipped" in last:
        line = about | {"status": "skipped", "reason": last["skipped"]}
    else:
        line = about | {
            "status": "ok",
            "median_s": statistics.median(seconds),
            "min_s": min(seconds),
            "max_s": max(seconds),
            "rounds_s": seconds,
            "ready_s": engine.ready["ready_s"],
            "loaded_mib": engine.ready["peak_mib"],
            "peak_mib": last["peak_mib"],
        }
    add(args.out, line)


def add(out: Path, line: dict) -> None:
    """Prints a line of JSON and adds it to a file."""
    rounded = {
        key: [round(x, 5) for x in value] if isinstance(value, list) else round(value, 5) if isinstance(value, float) else value
        for key, value in line.items()
    }
    text = json.dumps(rounded)
    print(text, flush=True)
    with open(out, "a", encoding="utf-8") as file:
        file.write(text + "\n")


def say(text: str) -> None:
    print(f"bench-cpu: {text}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
