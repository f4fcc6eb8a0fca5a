"""Prompt files for the trials, made from a bundled one: other values, other labels, free text."""

from __future__ import annotations

import copy
import hashlib
import json
import struct
from pathlib import Path

from server import ROOT

TEXTS = [
    "what a lovely morning, coffee in the sun",
    "my train is late again and nobody tells us why",
    "the shop opens at nine and closes at six",
    "worst customer service i have ever seen",
]


class PromptFile:
    """A safetensors file taken apart."""

    def __init__(self, path: Path):
        data = path.read_bytes()
        (length,) = struct.unpack("<Q", data[:8])
        self.header = json.loads(data[8 : 8 + length])
        self.manifest = json.loads(self.header["__metadata__"]["xprompt"])
        self.tensors = data[8 + length :]

    def to_bytes(self) -> bytes:
        header = self.header | {"__metadata__": {"xprompt": json.dumps(self.manifest)}}
        text = json.dumps(header).encode()
        text += b" " * (-len(text) % 8)
        return struct.pack("<Q", len(text)) + text + self.tensors

    def scaled(self, factor: float) -> PromptFile:
        """Other rows; without golden examples, which do not hold for them."""
        begin, end = self.header["values"]["data_offsets"]
        count = (end - begin) // 4
        values = struct.unpack(f"<{count}f", self.tensors[begin:end])
        other = copy.deepcopy(self)
        scaled = struct.pack(f"<{count}f", *(factor * value for value in values))
        other.tensors = self.tensors[:begin] + scaled + self.tensors[end:]
        other.manifest["golden"] = []
        return other

    def with_labels_marked(self, mark: str) -> PromptFile:
        """The same labels under names that tell this version from others."""
        other = copy.deepcopy(self)
        for label in other.manifest["task"]["output"]["labels"]:
            label["name"] += mark
        return other

    def with_golden(self, scores: dict[str, list[float]]) -> PromptFile:
        other = copy.deepcopy(self)
        other.manifest["golden"] = [{"input": text, "scores": scores[text]} for text in scores]
        return other

    def writing_text(self, tokens: int) -> PromptFile:
        """A task that answers with free text of so many tokens."""
        other = self.scaled(1.0)
        other.manifest["task"]["output"] = {"type": "text", "max_new_tokens": tokens}
        return other


def sentiment() -> PromptFile:
    return PromptFile(ROOT / "prompts/tweet-sentiment.safetensors")


def topics() -> PromptFile:
    return PromptFile(ROOT / "prompts/bbc-topics.safetensors")


def version_of(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:16]


def put(folder: Path, task: str, data: bytes) -> None:
    """As whoever copies a file in: whole, by a rename."""
    folder.mkdir(parents=True, exist_ok=True)
    new = folder / f".new-{task}"
    new.write_bytes(data)
    new.rename(folder / f"{task}.safetensors")
