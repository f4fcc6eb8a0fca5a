"""Options that the measurements of this folder have in common."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

import models


def names(text: str) -> list[str]:
    """A list by commas."""
    return [name for name in text.split(",") if name]


def counts(text: str) -> list[int]:
    """Numbers by commas."""
    return [int(name) for name in names(text)]


def parser(description: str, of_models: list[str]) -> argparse.ArgumentParser:
    """A command line for these models by default."""
    made = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    cores = len(os.sched_getaffinity(0))
    known = ", ".join([*models.SHAPES, "t5-nano"])
    made.add_argument("--models", type=names, default=of_models, help=f"{known} (default: {','.join(of_models)})")
    made.add_argument("--threads", type=int, default=cores, help=f"default: {cores}, one for each core")
    made.add_argument("--profile", default="release", help="of the build: release, or dev to try things out")
    made.add_argument("--cache", type=Path, default=models.ROOT / ".cache" / "bench-cpu")
    made.add_argument("--out", type=Path, default=None, help="default: results.jsonl in the cache")
    return made


def read(made: argparse.ArgumentParser, known: dict[str, list[str]]) -> argparse.Namespace:
    """The arguments. `known` has what an option that is a list of names may have, by the option."""
    args = made.parse_args()
    args.out = args.out or args.cache / "results.jsonl"
    for option, choices in ({"models": [*models.SHAPES, "t5-nano"]} | known).items():
        if unknown := [name for name in getattr(args, option) if name not in choices]:
            made.error(f"--{option}: unknown {', '.join(unknown)}; choose from {', '.join(choices)}")
    return args
