#!/usr/bin/env python3
"""Measures the server under load with wrk, and the bare session beside it. Run by `make load`.

Two tasks are mixed: texts of tweets and the beginnings of BBC articles, cut to the load test's size. For each number
of connections: requests a second, median and 99th percentile latency, the mean batch, and the share of the wall time
in which the model ran (what is left is the server's own overhead plus waiting for clients).
"""
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
CACHE = ROOT / ".cache"
ADDRESS = "127.0.0.1:8089"
SECONDS = 15
TASKS = {"tweet-sentiment": "tweets", "bbc-topics": "bbc"}
CHARACTERS = 500


def texts() -> dict[str, Path]:
    """Test texts, shortened so that none is refused for its length."""
    files = {}
    for task, data in TASKS.items():
        path = CACHE / "load" / f"{task}.jsonl"
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(CACHE / "data" / data / "test.jsonl", encoding="utf-8") as rows:
            lines = [json.dumps({"text": json.loads(row)["text"][:CHARACTERS]}) for _, row in zip(range(400), rows)]
        path.write_text("\n".join(lines) + "\n", encoding="utf-8")
        files[task] = path
    return files


def metric(name: str) -> float:
    with urllib.request.urlopen(f"http://{ADDRESS}/metrics", timeout=10) as answer:
        lines = answer.read().decode().splitlines()
    return sum(float(line.rsplit(" ", 1)[1]) for line in lines if re.match(name + r"(\{|\s)", line))


def main() -> None:
    if shutil.which("wrk") is None:
        sys.exit("load: wrk is missing; install it (Debian: apt-get install wrk)")
    files = texts()
    bare = ["cargo", "bench", "--quiet", "--locked", "--bench", "session", "--", "prompts"]
    print("the bare session, without a server:", flush=True)
    subprocess.run(bare + [f"{task}={path}" for task, path in files.items()], cwd=ROOT, check=True)

    server = subprocess.Popen(
        [ROOT / "target/release/xprompt-server", "--listen", ADDRESS, "--log-level", "warn"], cwd=ROOT
    )
    try:
        for _ in range(100):
            try:
                urllib.request.urlopen(f"http://{ADDRESS}/health/ready", timeout=5).close()
                break
            except (urllib.error.URLError, ConnectionError):
                time.sleep(0.1)
        environment = os.environ | {"XPROMPT_LOAD_TEXTS": ",".join(str(files[task]) for task in TASKS)}
        print(f"\nthe server, {SECONDS} s for each number of connections:")
        for connections in (1, 8, 32):
            names = ("xprompt_batch_requests_sum", "xprompt_batch_requests_count", "xprompt_batch_duration_seconds_sum")
            before = [metric(name) for name in names]
            command = ["wrk", "-t1", f"-c{connections}", f"-d{SECONDS}s", "--latency", "-s", "scripts/load.lua"]
            result = subprocess.run(
                command + [f"http://{ADDRESS}"], cwd=ROOT, env=environment, capture_output=True, text=True, check=True
            )
            requests, batches, run = (metric(name) - old for name, old in zip(names, before))
            line = next(line for line in result.stdout.splitlines() if line.startswith("load:"))
            print(
                f"{connections:>3} connections: {line.removeprefix('load: ')}; {requests / max(batches, 1):.1f} texts "
                f"a batch, the model ran {run / SECONDS:.0%} of the time",
                flush=True,
            )
    finally:
        server.send_signal(signal.SIGTERM)
        server.wait(timeout=40)


main()
