#!/usr/bin/env python3
"""The main job, end to end: train an XPrompt, serve it beside another task, swap it under load, scrape metrics.

Run by `make demo`, which sets everything up first. Standard library only. Everything it makes lies in .cache/demo;
a prompt that was trained by the same task file and program is not trained again, and a training that was stopped goes
on where it stood.
"""
import hashlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import textwrap
import threading
import time
import urllib.error
import urllib.request
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NoReturn

ROOT = Path(__file__).resolve().parent.parent
CACHE = ROOT / ".cache"
DEMO = CACHE / "demo"
MODEL = ROOT / "models/t5-nano"
TRAINER = ROOT / "target/release/xprompt-trainer"
SERVER = ROOT / "target/release/xprompt-server"
TASKS = {"tweet-sentiment": "tweets", "bbc-topics": "bbc"}
BURST, CLIENTS = 200, 16


def say(text: str = "") -> None:
    print(text, flush=True)


def heading(text: str) -> None:
    say(f"\n\033[1m{text}\033[0m" if sys.stdout.isatty() else f"\n== {text}")


def fail(text: str) -> NoReturn:
    sys.exit(f"demo: {text}")


def rows(data: str, count: int) -> list[dict[str, str]]:
    with open(CACHE / "data" / data / "test.jsonl", encoding="utf-8") as lines:
        return [json.loads(line) for _, line in zip(range(count), lines)]


def train() -> Path:
    """Trains the demo's prompt; what was trained by the same recipe before is not trained again. Returns the folder."""
    task = ROOT / "scripts/demo.toml"
    out, stamp = DEMO / "tweet-sentiment", DEMO / "tweet-sentiment.made-by"
    recipe = hashlib.sha256(task.read_bytes() + TRAINER.read_bytes()).hexdigest()
    if not stamp.exists() or stamp.read_text() != recipe:
        shutil.rmtree(out, ignore_errors=True)
        stamp.write_text(recipe)
    if (out / "summary.json").exists():
        say(f"trained before: {out.relative_to(ROOT)} (remove it to train again)")
        return out
    # a run that was stopped goes on where it stood; the table that it prints is shown below in a shorter form
    command = [TRAINER, "run", task, "--model", MODEL, "--out", out]
    if subprocess.run(command, stdout=subprocess.DEVNULL, check=False).returncode != 0:
        fail("training failed; its message stands above")
    return out


ROWS = {
    "initial": "untrained prompt",
    "tuned": "prompt tuning",
    "token_pruned": "tokens pruned, not retrained",
    "piece_pruned": "pieces pruned, not retrained",
    "token_only": "tokens pruned, retrained",
    "xprompt": "XPrompt",
    "continued": "tuned on without a mask",
    "random_mask": "random mask, retrained",
}


def show_table(run: Path) -> None:
    """Every stage and control on the rows that nothing was chosen by, and the report's verdict."""
    summary = json.loads((run / "summary.json").read_text(encoding="utf-8"))
    majority, name = summary["majority"], summary["metrics"][0]
    say(f"\n{name.replace('_', ' '):<30}{'held-back dev':>14}{'test':>8}{'':>16}{'tokens':>8}{'pieces':>8}{'values':>8}"
        f"{'steps':>8}")
    say(f"{'always the most frequent label':<30}{majority['report']:>14.1%}{majority['test']:>8.1%}")
    for arm in summary["table"]:
        split = {split["split"]: split["values"][0] for split in arm["splits"]}
        test = split["test"]
        interval = f"[{100 * test['low']:.1f}, {100 * test['high']:.1f}]"
        say(f"{ROWS.get(arm['name'], arm['name']):<30}{split['report']['mean']:>14.1%}{test['mean']:>8.1%}{interval:>16}"
            f"{arm['tokens']:>8.0f}{arm['pieces']:>8.0f}{arm['parameters']:>8.0f}{arm['steps']:>8.0f}")
    say(f"in brackets: 95 % intervals on test; {summary['seconds']:.0f} s of training and measuring\n")
    report = subprocess.run([TRAINER, "report", run], capture_output=True, encoding="utf-8", check=False)
    if report.returncode != 0:
        fail(f"there is no report: {report.stderr}")
    *verdict, _ = report.stdout.splitlines()
    for sentence in verdict:
        say(textwrap.fill(sentence, 110, initial_indent="- ", subsequent_indent="  "))
    say(f"\nthe whole report, for a browser: {(run / 'report.html').relative_to(ROOT)}")


class Server:
    """A running xprompt-server on a free port."""

    def __init__(self, prompts: Path) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.address = f"127.0.0.1:{probe.getsockname()[1]}"
        self.log = DEMO / "server.log"
        with open(self.log, "w", encoding="utf-8") as log:
            command = [SERVER, "--model", MODEL, "--prompts", prompts, "--listen", self.address]
            self.process = subprocess.Popen(command, stdout=log, stderr=log)
        for _ in range(300):
            if self.process.poll() is not None:
                fail(f"the server did not start:\n{self.log.read_text()}")
            try:
                self.get("/health/ready")
                return
            except (urllib.error.URLError, ConnectionError):
                time.sleep(0.1)
        self.process.kill()
        fail(f"the server was not ready after 30 s; see {self.log}")

    def get(self, path: str) -> str:
        with urllib.request.urlopen(f"http://{self.address}{path}", timeout=10) as answer:
            return answer.read().decode()

    def predict(self, task: str, text: str) -> dict[str, Any]:
        body = json.dumps({"input": text, "truncate": True}).encode()
        url = f"http://{self.address}/tasks/{task}/predict"
        request = urllib.request.Request(url, body, {"content-type": "application/json"})
        with urllib.request.urlopen(request, timeout=60) as answer:
            return json.load(answer)

    def stop(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(timeout=40)
        except subprocess.TimeoutExpired:
            self.process.kill()
            return self.process.wait()


def burst(server: Server) -> None:
    """Posts texts of two tasks at once, in turn, and shows a few answers."""
    texts = {task: rows(data, BURST // 2) for task, data in TASKS.items()}
    jobs = [(task, row) for pair in zip(*texts.values()) for task, row in zip(texts, pair)]
    start = time.monotonic()
    with ThreadPoolExecutor(CLIENTS) as pool:
        answers = list(pool.map(lambda job: server.predict(job[0], job[1]["text"]), jobs))
    seconds = time.monotonic() - start
    right: Counter[str] = Counter()
    for (task, row), answer in zip(jobs, answers):
        right[task] += answer["predictions"][0]["label"] == row["label"]
    for (task, row), answer in list(zip(jobs, answers))[:6]:
        best = answer["predictions"][0]
        text = row["text"] if len(row["text"]) <= 60 else row["text"][:57] + "..."
        say(f"  {task:<16} {best['label']:<14}{best['score']:>6.1%}  {text}")
    say(f"{len(jobs)} texts of two tasks, mixed, in {seconds:.1f} s: {len(jobs) / seconds:.0f} a second")
    for task, count in right.items():
        say(f"  {task:<16} {count} of {BURST // 2} right")


def swap(server: Server, new: Path, prompts: Path) -> tuple[Counter[str], int]:
    """Replaces a prompt while clients post without a pause. Returns answers by version, and failures."""
    texts = rows("tweets", 400)
    done = threading.Event()
    lock = threading.Lock()
    versions: Counter[str] = Counter()
    failures = 0

    def client(number: int) -> None:
        nonlocal failures
        at = number
        while not done.is_set():
            try:
                answer = server.predict("tweet-sentiment", texts[at % len(texts)]["text"])
                with lock:
                    versions[answer["version"]] += 1
            except (OSError, ValueError, KeyError) as error:
                with lock:
                    failures += 1
                say(f"  failed: {error}")
            at += CLIENTS

    clients = [threading.Thread(target=client, args=[number]) for number in range(CLIENTS)]
    for thread in clients:
        thread.start()
    time.sleep(1.5)
    arriving = prompts / ".arriving"
    shutil.copyfile(new, arriving)
    os.replace(arriving, prompts / "tweet-sentiment.safetensors")
    for _ in range(100):
        time.sleep(0.1)
        if len(versions) > 1:
            break
    time.sleep(1.5)
    done.set()
    for thread in clients:
        thread.join()
    return versions, failures


def show_metrics(server: Server) -> None:
    text = server.get("/metrics")
    (DEMO / "metrics.txt").write_text(text)
    wanted = ("xprompt_http_requests_total", "xprompt_batch_requests_sum", "xprompt_batch_requests_count",
              "xprompt_batch_tasks_sum", "xprompt_predictions_total", "xprompt_prompt_load_duration_seconds_count",
              "xprompt_prompts", "xprompt_prompt_bytes", "xprompt_queue_depth")
    for line in text.splitlines():
        if line.startswith(wanted):
            say(f"  {line}")
    say(f"  ({sum(not line.startswith('#') for line in text.splitlines())} lines in .cache/demo/metrics.txt)")


def main() -> None:
    for binary in (TRAINER, SERVER):
        if not binary.exists():
            fail(f"{binary.relative_to(ROOT)} is missing; run `make demo`, which builds it")
    DEMO.mkdir(parents=True, exist_ok=True)
    start = time.monotonic()

    heading("1. Train an XPrompt for the sentiment of tweets")
    run = train()
    show_table(run)

    heading("2. Serve it: one frozen T5, two tasks in one mixed burst")
    prompts = DEMO / "prompts"
    shutil.rmtree(prompts, ignore_errors=True)
    prompts.mkdir()
    for task in TASKS:
        shutil.copyfile(ROOT / "prompts" / f"{task}.safetensors", prompts / f"{task}.safetensors")
    server = Server(prompts)
    try:
        say(f"xprompt-server on http://{server.address}")
        burst(server)

        heading("3. Swap the sentiment prompt for the new one while requests run")
        versions, failures = swap(server, run / "prompt.safetensors", prompts)
        for version, count in versions.items():
            say(f"  {count:>5} answers by version {version}")
        say(f"  {failures} failed")
        if failures or len(versions) != 2:
            fail("the swap did not go as it should; see .cache/demo/server.log")

        heading("4. Scrape /metrics")
        show_metrics(server)
    finally:
        code = server.stop()

    heading("Done")
    say(f"trained, served, swapped and measured in {time.monotonic() - start:.0f} s; "
        f"the server drained and ended with code {code}")
    say("next: target/release/xprompt-server --model models/t5-nano --prompts prompts")
    if code != 0:
        fail("the server did not end cleanly; see .cache/demo/server.log")


main()
