"""What the programs of this folder share: shapes, what a line says, and the card's memory."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[1]))
from t5_shapes import D_KV, SHAPES, VOCABULARY  # noqa: E402, F401

WARM_UP = 3


def names(text: str) -> list[str]:
    return [name for name in text.split(",") if name]


def numbers(text: str) -> list[int]:
    return [int(number) for number in names(text)]


def used_mib() -> int | None:
    """Memory that is taken on the card, by all processes."""
    gpu = os.environ.get("CUDA_VISIBLE_DEVICES", "0").split(",")[0] or "0"
    command = ["nvidia-smi", "--query-gpu=memory.used", "--format=csv,noheader,nounits", "-i", gpu]
    try:
        return int(subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()[0])
    except (OSError, subprocess.CalledProcessError, ValueError, IndexError):
        return None


def measured(step, synchronize, reps: int) -> dict:
    """Milliseconds of a step: the first time, then `reps` times after a warm-up."""

    def timed() -> float:
        start = time.perf_counter()
        step()
        synchronize()
        return 1000 * (time.perf_counter() - start)

    synchronize()
    first = timed()
    for _ in range(WARM_UP if reps else 0):
        timed()
    times = sorted(timed() for _ in range(reps)) or [first]
    figures = {
        "reps": reps,
        "median_ms": times[len(times) // 2],
        "min_ms": times[0],
        "p90_ms": times[int(0.9 * (len(times) - 1))],
        "first_ms": first,
    }
    return {key: round(value, 3) if isinstance(value, float) else value for key, value in figures.items()}


def rates(median_ms: float, batch: int, positions: int) -> dict:
    return {
        "tokens_per_s": round(1000 * positions / median_ms),
        "examples_per_s": round(1000 * batch / median_ms, 1),
    }
