#!/usr/bin/env python3
"""Every command of the documentation's pages, run as a reader would. `make guide` runs it, with programs of the dev profile.

Blocks of a page that are marked `console` hold commands behind `$ `, and what they print below them; `…` there is
anything. The commands of a page are one session of bash, in a folder of its own that looks like the project's. Each has
to end well and to print what the page shows (standard error included). The last command of a block marked
`console,fails` does not end well. Two kinds of blocks are not run here: of one marked `console,slow` SLOW says what
runs its commands, of one marked `console,elsewhere` ELSEWHERE says what they need that is not here; both are only parsed.
Models of the hub come from a hub on this machine (hub.py).

    python3 tests/guide/commands.py [PAGE ...]
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import hub

ROOT = Path(__file__).resolve().parents[2]
PROGRAMS = ROOT / "target/debug"
PAGES = ["docs/guide/first.md", "docs/guide/own-task.md", "docs/guide/ratios.md", "docs/guide/serving.md"]
PAGES += ["docs/guide/peft.md", "docs/operation.md", "docs/prompts.md", "docs/models.md", "docs/compatibility.md"]
PAGES += ["docker/README.md", "docs/reliability.md"]
# what a page takes for granted, beside `prepare`
GRANTED = {
    "docs/prompts.md": [
        "xprompt-server --model models/t5-nano --prompts prompts 2> server.log &",
        "curl -fs --retry 60 --retry-all-errors --retry-delay 1 localhost:8080/health/ready",
    ],
    "docs/compatibility.md": [
        "cp -rL models/t5-nano t5-large-lm-adapt",
        "xprompt-trainer export prompt.safetensors --peft ADAPTER --base-model google/t5-large-lm-adapt",
    ],
}
SLOW = {
    "make setup": "every target that needs ONNX Runtime",
    "cargo install --locked --path .": "make packaging",
    "cargo install --locked --path trainer": "make packaging",
    "make reliability": "hand, before a release",
    "make soak": "hand, before a release",
    "make fuzz SECONDS=720": "hand, before a release",
    "python3 bench/reliability/run.py swaps --rounds 2000": "make reliability, with fewer rounds",
    "python3 bench/reliability/run.py overload --server target/release/xprompt-server": "make reliability",
}
# beginnings of commands, and what they need
ELSEWHERE = {
    "docker ": "a container engine",
    "curl -s localhost:8080/tasks": "the container that was started above it",
    "kubectl ": "a cluster; make kubernetes checks the manifests",
    "python3 -m pip install torch ": "gigabytes from PyPI",
    "python3 <<'END'\nfrom transformers import ": "the packages that were installed above it",
}
TASK = """
[data]
train = "train.jsonl"
dev = "dev.jsonl"

[task]
template = "{text}"
max_input_tokens = 64
labels = [
  { name = "positive", words = "positive" },
  { name = "neutral", words = "neutral" },
  { name = "negative", words = "negative" },
]

[tuning]
max_steps = 2
evaluate_every = 1

[pruning]
token_ratios = [0.5]
piece_ratios = [0.5]
importance_rows = 4

[rewinding]
max_steps = 1
evaluate_every = 1
"""
TEXTS = {
    "positive": ["what a lovely morning", "so happy with it", "the best of days", "thanks, well done"],
    "neutral": ["the train leaves at nine", "it is on page two", "they meet on Friday", "the shop is open"],
    "negative": ["you lost my bag", "it broke again", "nobody answers", "what a waste of time"],
}
PATIENCE = 1200
SHOWN_ADDRESS = "localhost:8080"


@dataclass
class Command:
    """What a page shows at a prompt."""

    place: str
    text: str
    printed: str
    fails: bool


def commands(page: Path) -> list[Command]:
    found: list[Command] = []
    lines = iter(enumerate(page.read_text(encoding="utf-8").splitlines(), 1))
    for _, line in lines:
        marks = re.fullmatch(r"```console(?:,(\w+))?", line)
        if not marks:
            continue
        if marks[1] not in (None, "fails", "slow", "elsewhere"):
            sys.exit(f"guide: {page}: {line}: there is no such mark")
        block: list[Command] = []
        for number, line in lines:
            if line == "```":
                break
            if not line.startswith("$ "):
                if not block:
                    sys.exit(f"guide: {page}:{number}: this is printed by no command")
                block[-1].printed += line + "\n"
                continue
            text = line[2:]
            while text.endswith("\\"):
                text += "\n" + next(lines)[1]
            if here := re.search(r"<<'(\w+)'", text):
                while not text.endswith("\n" + here[1]):
                    text += "\n" + next(lines)[1]
            block.append(Command(f"{page.relative_to(ROOT)}:{number}", text, "", False))
        if marks[1] == "fails":
            block[-1].fails = True
        if marks[1] in ("slow", "elsewhere"):
            for command in block:
                left_out(command, marks[1])
        else:
            found += block
    return found


def left_out(command: Command, mark: str) -> None:
    """Says why a command is not run; whether it is one for a shell is seen here too."""
    text = command.text.split("  #")[0].strip()
    if mark == "slow":
        why = f"run by {SLOW[text]}" if text in SLOW else None
    else:
        why = next((f"needs {need}" for start, need in ELSEWHERE.items() if text.startswith(start)), None)
    if why is None:
        sys.exit(f"guide: {command.place}: nothing says why {text!r} is not run; tell {mark.upper()}")
    parsed = subprocess.run(["bash", "-n", "-c", command.text], capture_output=True, encoding="utf-8")
    if parsed.returncode != 0:
        sys.exit(f"guide: {command.place}: {parsed.stderr}")
    print(f"  left out ({why}): {text}")


def matches(printed: str, shown: str) -> bool:
    """Whether a command printed what the page shows. Nothing shown means nothing printed."""
    pattern = ".*".join(re.escape(part) for part in shown.strip().split("…"))
    return re.fullmatch(pattern, printed.strip(), re.DOTALL) is not None


def array(rows: int, width: int) -> bytes:
    """A NumPy array, f32."""
    header = str({"descr": "<f4", "fortran_order": False, "shape": (rows, width)}).encode()
    header += b" " * (-(10 + len(header) + 1) % 64) + b"\n"
    values = struct.pack(f"<{rows * width}f", *(i % 7 - 3 for i in range(rows * width)))
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + values


def prepare(folder: Path) -> None:
    """A folder that looks like the project's, with what the pages take for granted."""
    for name in ("models", "scripts", ".cache"):
        (folder / name).symlink_to(ROOT / name)
    shutil.copytree(ROOT / "prompts", folder / "prompts", ignore=shutil.ignore_patterns(".xprompt"))
    shutil.copy(ROOT / "prompts/tweet-sentiment.safetensors", folder / "prompt.safetensors")
    shutil.copy(ROOT / "prompts/bbc-topics.safetensors", folder / "new.safetensors")
    (folder / "prompt.npy").write_bytes(array(rows=5, width=256))
    (folder / "task.toml").write_text(TASK, encoding="utf-8")
    rows = [json.dumps({"text": text, "label": label}) for label, texts in TEXTS.items() for text in texts]
    (folder / "train.jsonl").write_text("\n".join(rows * 2) + "\n", encoding="utf-8")
    (folder / "dev.jsonl").write_text("\n".join(rows) + "\n", encoding="utf-8")


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def run(name: str) -> int:
    """Runs a page's commands; returns how many it has."""
    shown = commands(ROOT / name)
    granted = [Command(f"{name} takes for granted", text, "…", False) for text in GRANTED.get(name, [])]
    if shown:
        run_all(granted + shown)
    return len(shown)


def run_all(of_page: list[Command]) -> None:
    address = f"127.0.0.1:{free_port()}"
    with tempfile.TemporaryDirectory() as name, hub.serve("google/flan-t5-small", ROOT / "models/t5-nano") as endpoint:
        folder = Path(name)
        prepare(folder)
        script = ["set -m", f"exec 3> {folder}/status"]
        for i, command in enumerate(of_page):
            text = command.text.replace(SHOWN_ADDRESS, address)
            script += [f"exec > {folder}/printed-{i} 2>&1", text, "echo $? >&3"]
        environment = {name: value for name, value in os.environ.items() if not name.startswith(("XPROMPT_", "ORT_"))}
        environment |= {
            "PATH": f"{PROGRAMS}:{environment['PATH']}",
            "XPROMPT_LISTEN": address,
            "NO_PROXY": "*",
            "NO_COLOR": "1",
            "HF_ENDPOINT": endpoint,
            "HF_HUB_CACHE": str(folder / "hub"),
        }
        session = subprocess.Popen(
            ["bash"], stdin=subprocess.PIPE, cwd=folder, env=environment, start_new_session=True, encoding="utf-8"
        )
        try:
            session.communicate("\n".join(script) + "\n", timeout=PATIENCE)
        finally:
            end_of(session.pid)
        status = (folder / "status").read_text(encoding="utf-8").split()
        for i, command in enumerate(of_page):
            path = folder / f"printed-{i}"
            printed = path.read_text(encoding="utf-8") if path.exists() else ""
            # of a job in the background bash prints the number
            printed = re.sub(r"^\[\d+\] \d+\n", "", printed)
            if i >= len(status):
                sys.exit(f"guide: {command.place}: {command.text}\nwas not ended; it printed\n{printed}")
            if (status[i] != "0") != command.fails:
                sys.exit(f"guide: {command.place}: {command.text}\nended with status {status[i]}; it printed\n{printed}")
            if not matches(printed, command.printed):
                sys.exit(f"guide: {command.place}: {command.text}\nprinted\n{printed}\nthe page shows\n{command.printed}")


def end_of(session: int) -> None:
    """Ends what is left of a session: its jobs have process groups of their own."""
    for entry in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = entry.read_text(encoding="utf-8").rsplit(")", 1)[1].split()
        except OSError:
            continue
        if int(fields[3]) == session:
            try:
                os.kill(int(entry.parent.name), signal.SIGKILL)
            except ProcessLookupError:
                pass


def complete() -> None:
    """Every page of the project with commands is in PAGES."""
    pages = [path for folder in ("docs", "docker") for path in sorted((ROOT / folder).rglob("*.md"))]
    for page in [ROOT / "README.md", *pages]:
        name = str(page.relative_to(ROOT))
        if name not in PAGES and re.search(r"^```console", page.read_text(encoding="utf-8"), re.MULTILINE):
            sys.exit(f"guide: {name} has commands, and is not in PAGES")


def main() -> None:
    complete()
    for name in sys.argv[1:] or PAGES:
        count = run(name)
        print(f"{name}: {count} commands run: ok", flush=True)


if __name__ == "__main__":
    main()
