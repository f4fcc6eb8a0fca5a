#!/usr/bin/env python3
"""Every command of the guide, run as a reader would. `make guide` runs it, with programs of the dev profile.

Blocks of a page that are marked `console` hold commands behind `$ `, and what they print below them; `…` there is
anything. The commands of a page are one session of bash, in a folder of its own that looks like the project's. Each has
to end well and to print what the page shows (standard error included). The last command of a block marked
`console,fails` does not end well; a block marked `console,slow` is not run here, and SLOW says what runs it.

    python3 tests/guide/commands.py [PAGE ...]
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PROGRAMS = ROOT / "target/debug"
PAGES = ["docs/guide/first.md", "docs/guide/own-task.md", "docs/guide/ratios.md", "docs/guide/serving.md"]
PAGES += ["docs/guide/peft.md", "docs/operation.md"]
SLOW = {
    "make setup": "every target that needs ONNX Runtime",
    "cargo install --locked --path .": "make packaging",
    "cargo install --locked --path trainer": "make packaging",
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
        if marks[1] == "slow":
            for command in block:
                known = SLOW.get(command.text.split("  #")[0].strip())
                if known is None:
                    sys.exit(f"guide: {command.place}: nothing runs {command.text!r}; tell SLOW what does")
                print(f"  left out (run by {known}): {command.text}")
        else:
            found += block
    return found


def matches(printed: str, shown: str) -> bool:
    """Whether a command printed what the page shows. Nothing shown means nothing printed."""
    pattern = ".*".join(re.escape(part) for part in shown.strip().split("…"))
    return re.fullmatch(pattern, printed.strip(), re.DOTALL) is not None


def prepare(folder: Path) -> None:
    """A folder that looks like the project's, with what the pages take for granted."""
    for name in ("models", "scripts", ".cache"):
        (folder / name).symlink_to(ROOT / name)
    shutil.copytree(ROOT / "prompts", folder / "prompts", ignore=shutil.ignore_patterns(".xprompt"))
    shutil.copy(ROOT / "prompts/tweet-sentiment.safetensors", folder / "prompt.safetensors")


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def run(page: Path) -> int:
    """Runs a page's commands; returns how many."""
    of_page = commands(page)
    address = f"127.0.0.1:{free_port()}"
    with tempfile.TemporaryDirectory() as name:
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
    return len(of_page)


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


def main() -> None:
    for name in sys.argv[1:] or PAGES:
        count = run(ROOT / name)
        if count == 0:
            sys.exit(f"guide: {name} has no commands")
        print(f"{name}: {count} commands: ok", flush=True)


if __name__ == "__main__":
    main()
