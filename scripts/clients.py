#!/usr/bin/env python3
"""Make a virtual environment below .cache with the public clients that tests talk to the server with, and print its
Python. What is in place already is left alone and needs no network. The folder is named by what is in it, so that tests
of another version of the project, which may be running, keep theirs.

    python3 scripts/clients.py
"""

from __future__ import annotations

import fcntl
import hashlib
import shutil
import subprocess
import sys
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
REQUIREMENTS = ROOT / "tests/clients/requirements.txt"


def main() -> int:
    cache = ROOT / ".cache"
    folder = cache / f"clients-{hashlib.sha256(REQUIREMENTS.read_bytes()).hexdigest()[:8]}"
    cache.mkdir(exist_ok=True)
    python = folder / "bin/python"
    stamp = folder / "installed"
    with (cache / ".clients.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not stamp.is_file():
            shutil.rmtree(folder, ignore_errors=True)
            venv.create(folder, with_pip=True)
            pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
            installed = subprocess.run([*pip, "--requirement", str(REQUIREMENTS)], stdout=sys.stderr)
            if installed.returncode != 0:
                print(f"clients: pip could not install {REQUIREMENTS}: is the package index reachable?", file=sys.stderr)
                return 1
            stamp.touch()
    print(python)
    return 0


if __name__ == "__main__":
    sys.exit(main())
