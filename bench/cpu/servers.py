#!/usr/bin/env python3
"""The server against a minimal FastAPI + PEFT server: mixed tasks, closed and open loops, on the same machine.

    make bench-cpu-http
    .cache/bench-cpu/venv/bin/python bench/cpu/servers.py --models t5-nano --seconds 5 --connections 1,8

The servers run one at a time, in turn for --rounds rounds. For each: requests a second and latencies with a number of
connections that post all the time, then latencies at 70 % of the most requests a second that it had, with random gaps
between them and with even ones.
Adds JSON lines to --out as run.py does.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import models
import options
import real_texts
import run

PORT = 8091
ADDRESS = f"127.0.0.1:{PORT}"
UTILISATION = 0.7
SERVERS = ("fastapi-peft-f32", "xprompt-int8", "fastapi-peft-bf16", "xprompt-bf16", "xprompt-f32")


def main() -> int:
    args = parse()
    args.cache.mkdir(parents=True, exist_ok=True)
    client, server = run.build(args.profile), build(args.profile)
    for name in args.models:
        model = run.prepare(name, args.cache, [])
        prompts, requests = mixed_tasks(args, client, model, args.texts)
        adapters = make_adapters(model, args.cache / f"adapters-{name}", args.tasks)
        for round in range(args.rounds):
            for by in args.servers:
                about = {"model": name, "by": by, "texts": args.texts, "round": round}
                measure(args, client, server, about, model, prompts, adapters, requests)
    return 0


def parse() -> argparse.Namespace:
    parser = options.parser(__doc__, ["base", "t5-nano"])
    parser.add_argument("--servers", type=options.names, default=[*SERVERS], help=", ".join(SERVERS))
    parser.add_argument("--texts", choices=["mixed", *real_texts.KINDS], default="mixed")
    parser.add_argument("--tasks", type=int, default=10, help="prompts in the mix (default: 10)")
    parser.add_argument("--connections", type=options.counts, default=[1, 8, 32])
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--rounds", type=int, default=3)
    return options.read(parser, {"servers": [*SERVERS]})


def build(profile: str) -> Path:
    """The server; returns the program."""
    command = ["cargo", "build", "--locked", "--bin", "xprompt-server", "--profile", profile]
    subprocess.run(command, cwd=models.ROOT, check=True)
    return models.ROOT / "target" / ("debug" if profile == "dev" else profile) / "xprompt-server"


def mixed_tasks(args, client: Path, model: Path, texts: str = "mixed") -> tuple[Path, Path]:
    """A folder of --tasks prompts, and requests to them in turn."""
    prompts, requests = args.cache / f"prompts-{model.name}", args.cache / f"requests-{model.name}.jsonl"
    subprocess.run([client, "prompts", "--model", model, "--out", prompts, "--tasks", str(args.tasks)], check=True)
    requests.write_text("".join(request_lines(args.tasks, texts)))
    return prompts, requests


def make_adapters(model: Path, folder: Path, tasks: int) -> Path:
    """Prompts as PEFT has them, under the names of ours."""
    if len(list(folder.glob("task-*/adapter_model.safetensors"))) == tasks:
        return folder
    from peft import PromptTuningConfig, TaskType, get_peft_model
    from transformers import T5ForConditionalGeneration

    t5 = T5ForConditionalGeneration.from_pretrained(model)
    config = PromptTuningConfig(task_type=TaskType.SEQ_2_SEQ_LM, num_virtual_tokens=models.PROMPT)
    peft = get_peft_model(t5, config, adapter_name="task-0")
    for task in range(1, tasks):
        peft.add_adapter(f"task-{task}", config)
    for task in range(tasks):
        name = f"task-{task}"
        peft.set_adapter(name)
        peft.save_pretrained(folder / "unsorted", selected_adapters=[name])
        (folder / "unsorted" / name).rename(folder / name)
    shutil.rmtree(folder / "unsorted")
    return folder


def request_lines(tasks: int, texts: str = "mixed", count: int = 960) -> list[str]:
    """Texts to the tasks in turn."""
    each = enumerate(real_texts.of_kind(texts, count))
    return [json.dumps({"task": f"task-{i % tasks}", "body": {"input": text}}) + "\n" for i, text in each]


def start_command(args, by: str, server: Path, model: Path, prompts: Path, adapters: Path) -> tuple[list, dict]:
    if by.startswith("xprompt"):
        command = [server, "--model", model, "--prompts", prompts, "--listen", ADDRESS, "--device", "cpu"]
        command += ["--threads", str(args.threads), "--precision", by.removeprefix("xprompt-"), "--log-level", "warn"]
        return command, {}
    dtype = {"f32": "float32", "bf16": "bfloat16"}[by.rsplit("-", 1)[1]]
    environment = {"MODEL": str(model), "PROMPTS": str(adapters), "THREADS": str(args.threads), "DTYPE": dtype}
    environment |= {"OMP_NUM_THREADS": str(args.threads), "TOKENIZERS_PARALLELISM": "false"}
    folder = str(Path(__file__).resolve().parent)
    return [
        sys.executable, "-m", "uvicorn", "peft_server:app", "--app-dir", folder, "--port", str(PORT),
        "--log-level", "warning", "--no-access-log",
    ], environment  # fmt: skip


@contextlib.contextmanager
def running(args, by: str, server: Path, model: Path, prompts: Path, adapters: Path | None = None, pause: float = 0.25):
    """A server, from when it is ready until it was stopped: its number, and after how many seconds it was ready."""
    command, environment = start_command(args, by, server, model, prompts, adapters or prompts)
    log = args.cache / f"server-{by}.log"
    with open(log, "w") as errors:
        begin = time.monotonic()
        process = subprocess.Popen(command, env=os.environ | environment, stdout=errors, stderr=errors)
    try:
        await_ready(process, by, log, pause)
        yield process.pid, time.monotonic() - begin
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(timeout=60)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def loading(client: Path, requests: Path) -> list:
    """The command that posts these requests to the server; it lacks how many at once, and how long."""
    return [client, "load", "--url", f"http://{ADDRESS}/tasks/{{task}}/predict", "--requests", requests]


def measure(args, client: Path, server: Path, about: dict, model: Path, prompts: Path, adapters: Path, requests: Path) -> None:
    with running(args, about["by"], server, model, prompts, adapters) as (pid, _):
        load, seconds = loading(client, requests), ["--seconds", str(args.seconds)]
        answer(load + ["--connections", "4", "--seconds", str(min(args.seconds, 5))])  # warm up
        most = 0.0
        for connections in args.connections:
            line = answer(load + seconds + ["--connections", str(connections)])
            most = max(most, line["per_s"])
            report(args, about | {"load": f"{connections} connections", "peak_mib": peak_mib(pid)} | line)
        for gaps, option in (("random", []), ("even", ["--even"])):
            line = answer(load + seconds + ["--rate", str(UTILISATION * most), *option])
            report(args, about | {"load": f"{UTILISATION:.0%} of the most, {gaps} gaps", "rate": UTILISATION * most} | line)


def await_ready(process: subprocess.Popen, by: str, log: Path, pause: float) -> None:
    path = "/health/ready" if by.startswith("xprompt") else "/health"
    end = time.monotonic() + 600
    while time.monotonic() < end:
        if process.poll() is not None:
            raise RuntimeError(f"{by} ended: {log.read_text().strip().splitlines()[-1:]} (see {log})")
        try:
            urllib.request.urlopen(f"http://{ADDRESS}{path}", timeout=5).close()
            return
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            time.sleep(pause)
    raise RuntimeError(f"{by} is not ready after minutes (see {log})")


def answer(command: list) -> dict:
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout)


def peak_mib(pid: int) -> int | None:
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return None
    return next((int(line.split()[1]) // 1024 for line in status.splitlines() if line.startswith("VmHWM:")), None)


def report(args, line: dict) -> None:
    line = {"bench": "cpu-http", "threads": args.threads, "tasks": args.tasks} | line
    run.add(args.out, line)


if __name__ == "__main__":
    sys.exit(main())
