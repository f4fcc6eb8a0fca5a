"""Texts that people wrote, for what runs through HTTP: those that the demo trains on (`scripts/setup.py data`)."""

from __future__ import annotations

import itertools
import json
import re

import models

DATA = models.ROOT / ".cache" / "data"
KINDS = ("tweets", "sentences", "passages")
PASSAGE_WORDS = 240  # about 320 tokens


def of_kind(kind: str, count: int) -> list[str]:
    """So many texts: each kind in turn if it is `mixed`; the same again when there are no more."""
    if kind == "mixed":
        each = [of_kind(one, -(-count // len(KINDS))) for one in KINDS]
        return [text for together in zip(*each) for text in together][:count]
    if kind == "tweets":
        texts = rows("tweets")
    elif kind == "passages":
        texts = [" ".join(text.split()[:PASSAGE_WORDS]) for text in rows("bbc")]
    else:
        sentences = (sentence for text in rows("bbc") for sentence in re.split(r"(?<=[.!?]) ", text))
        texts = [text for text in sentences if 8 <= len(text.split()) <= 60]
    return list(itertools.islice(itertools.cycle(texts), count))


def rows(name: str) -> list[str]:
    file = DATA / name / "test.jsonl"
    if not file.exists():
        raise SystemExit(f"{file} is not there; fetch it with: python3 scripts/setup.py data")
    return [json.loads(line)["text"] for line in file.read_text().splitlines()]
