#!/usr/bin/env python3
"""Fuzzes what strangers send: prompt files, manifests, templates, requests, adapters of PEFT. Run by `make fuzz`.

    python3 scripts/fuzz.py --seconds 600                 all targets, one after the other
    python3 scripts/fuzz.py --seconds 60 request template

Coverage-guided, with libFuzzer on the stable compiler: the targets (fuzz/targets) are built so that they count which
code an input reaches, with overflow checks and debug assertions. What was learned stays in target/fuzz/corpus and is
where the next run begins. Prints one JSON line a target; an input that fails is kept, named, and the exit status is 1.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / "target/fuzz"
# longest input in bytes
TARGETS = {"prompt_file": 32768, "manifest": 8192, "template": 1024, "request": 4096, "adapter": 16384}
COVERAGE = [
    "--cfg fuzzing",
    "-Cpasses=sancov-module",
    "-Cllvm-args=-sanitizer-coverage-level=4",
    "-Cllvm-args=-sanitizer-coverage-inline-8bit-counters",
    "-Cllvm-args=-sanitizer-coverage-pc-table",
    "-Cllvm-args=-sanitizer-coverage-trace-compares",
    "-Ccodegen-units=1",
]
LIMITS = ["-timeout=30", "-rss_limit_mb=4096", "-detect_leaks=0", "-print_final_stats=1"]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("targets", nargs="*", metavar="TARGET", help=", ".join(TARGETS) + " (default: all)")
    parser.add_argument("--seconds", type=int, default=600, help="for each target (default: 600)")
    parser.add_argument("--seed", type=int, default=0, help="of the mutations; 0 takes a new one each time")
    args = parser.parse_args()
    if unknown := [name for name in args.targets if name not in TARGETS]:
        parser.error(f"unknown {', '.join(unknown)}; choose from {', '.join(TARGETS)}")
    programs = build()
    held = [fuzz(name, programs / name, args) for name in args.targets or TARGETS]
    return 0 if all(held) else 1


def build() -> Path:
    """The targets; flags go to what runs, not to build scripts, because the compiler's target is named."""
    version = subprocess.run(["rustc", "-vV"], capture_output=True, text=True, check=True).stdout
    host = re.search(r"host: (\S+)", version)[1]
    command = ["cargo", "build", "--locked", "--bins", "--target", host, "--target-dir", FOLDER]
    subprocess.run(command, cwd=ROOT / "fuzz", env=os.environ | {"RUSTFLAGS": " ".join(COVERAGE)}, check=True)
    return FOLDER / host / "debug"


def fuzz(name: str, program: Path, args: argparse.Namespace) -> bool:
    corpus, crashes = FOLDER / "corpus" / name, FOLDER / "crashes" / name
    for folder in (corpus, crashes):
        folder.mkdir(parents=True, exist_ok=True)
    seeds(name, corpus)
    command = [program, corpus, f"-max_total_time={args.seconds}", f"-max_len={TARGETS[name]}", *LIMITS]
    command += [f"-artifact_prefix={crashes}/", f"-seed={args.seed}"]
    words = ROOT / "fuzz/seeds" / f"{name}.dict"
    command += [f"-dict={words}"] if words.is_file() else []
    before, start = set(crashes.iterdir()), time.monotonic()
    log = FOLDER / f"{name}.log"
    with open(log, "w", encoding="utf-8") as file:
        status = subprocess.run([str(part) for part in command], cwd=ROOT, stdout=file, stderr=file).returncode
    said = log.read_text(encoding="utf-8", errors="replace")
    found = lambda pattern: (re.findall(pattern, said) or ["0"])[-1]  # noqa: E731
    line = {
        "fuzz": name,
        "held": status == 0,
        "seconds": round(time.monotonic() - start),
        "inputs_tried": int(found(r"number_of_executed_units: (\d+)")),
        "edges_reached": int(found(r"cov: (\d+)")),
        "corpus": len(list(corpus.iterdir())),
        "failing_inputs": sorted(str(path.relative_to(ROOT)) for path in set(crashes.iterdir()) - before),
    }
    print(json.dumps(line), flush=True)
    if status:
        print(f"fuzz: {name} failed; its log is {log.relative_to(ROOT)}", file=sys.stderr)
    return status == 0


def seeds(name: str, corpus: Path) -> None:
    """Where a run begins: the inputs in fuzz/seeds, the bundled prompts, and the adapters of the tests."""
    for path in sorted((ROOT / "fuzz/seeds" / name).glob("*")):
        shutil.copy(path, corpus / f"seed-{path.name}")
    if name == "adapter":
        settings = (ROOT / "fuzz/seeds/adapter.toml").read_bytes()
        for path in sorted((ROOT / "tests/fixtures/peft").glob("*/adapter_model.safetensors")):
            # the target puts the length of the header there itself
            parts = [(path.parent / "adapter_config.json").read_bytes(), settings, path.read_bytes()[8:]]
            (corpus / f"seed-{path.parent.name}").write_bytes(b"\n---\n".join(parts))
        return
    for path in sorted((ROOT / "prompts").glob("*.safetensors")):
        data = path.read_bytes()
        length = int.from_bytes(data[:8], "little")
        manifest = json.loads(data[8 : 8 + length])["__metadata__"]["xprompt"]
        if name == "prompt_file":
            shutil.copy(path, corpus / f"seed-{path.stem}")
        elif name == "manifest":
            (corpus / f"seed-{path.stem}").write_text(manifest, encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
