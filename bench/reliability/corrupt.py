"""corrupt: broken files are copied over good ones and uploaded while calls run. The last good version goes on
answering, and every broken file is refused with a reason."""

from __future__ import annotations

import os
import random
import struct
from collections import Counter
from pathlib import Path

from client import Tally
from load import Workers
from prompts import PromptFile, put, sentiment, version_of
from server import Server, until

TASK = "sentiment"
# as near as golden examples have to come
TOLERANCE = 1.1e-3


async def run(args) -> tuple[dict, list[str]]:
    folder = args.folder / "prompts"
    base = sentiment()
    good = base.to_bytes()
    version = version_of(good)
    golden = {example["input"]["text"]: example["scores"] for example in base.manifest["golden"]}
    put(folder, TASK, good)
    server = Server(args.server, args.folder, folder)
    chance = random.Random(args.seed)
    tally, answers = Tally(), Counter()
    by_folder, by_call, broken = Counter(), Counter(), []
    try:
        client = await server.start()
        path = folder / f"{TASK}.safetensors"

        async def call(i: int) -> None:
            text = list(golden)[i % len(golden)]
            answer = await tally.of(client.predict(TASK, {"input": text}))
            if answer is None or answer.status != 200:
                return
            scores = answer.json()["predictions"][0]["scores"]
            near = all(abs(scores[label] - want) < TOLERANCE for label, want in zip(base_labels(base), golden[text]))
            answers["right" if near else "wrong"] += 1

        async with Workers(call, 2):
            for i in range(args.rounds):
                kind = list(KINDS)[i % len(KINDS)]
                data = KINDS[kind](base, good, chance)
                put(folder, TASK, data)
                seen = await until(lambda: outcome(client, version), 10)
                by_folder[await outcome(client, version) if seen is not None else "not seen"] += 1
                by_call[(await client.call("PUT", "/tasks/other", data)).status] += 1
                await client.call("DELETE", "/tasks/other")
                put(folder, TASK, good)
                if await until(lambda: is_good(client, version), 10) is None:
                    broken.append(f"after a file that was {kind} the good one was not taken")
        # special files, and one that is far too large
        specials = await special_files(client, path, version, good, folder)
        figures = {
            "files": args.rounds,
            "kinds": list(KINDS),
            "copied": dict(by_folder),
            "uploaded": {str(status): count for status, count in by_call.items()},
            "special_files": specials,
            "calls": tally.figures(),
            "answers": dict(answers),
            "exit_status": await server.stop(),
        }
    finally:
        server.end()
    if not tally.only(200) or answers["wrong"]:
        broken.append("a call was not answered, or not by a version that passes its golden examples")
    if not set(by_call) <= {422, 413, 201} or by_folder["not seen"]:
        broken.append("a broken file was not refused by a reason")
    broken += [f"{kind}: {what}" for kind, what in specials.items() if what != "refused"]
    return figures, broken


def base_labels(base: PromptFile) -> list[str]:
    return [label["name"] for label in base.manifest["task"]["output"]["labels"]]


async def outcome(client, version: str) -> str:
    """`refused` with a reason while the version goes on, or `taken` where the checks and golden examples pass."""
    shown = (await client.call("GET", f"/tasks/{TASK}")).json()
    if shown.get("load_error"):
        return "refused" if shown["version"] == version else ""
    return "taken" if shown["version"] != version else ""


async def is_good(client, version: str) -> bool:
    shown = (await client.call("GET", f"/tasks/{TASK}")).json()
    return shown["version"] == version and not shown.get("load_error")


# === kinds of broken files ===


def cut(base: PromptFile, good: bytes, chance: random.Random) -> bytes:
    return good[: chance.randrange(len(good))]


def flipped_in_header(base: PromptFile, good: bytes, chance: random.Random) -> bytes:
    return flip(good, chance, 8, len(good) - len(base.tensors))


def flipped_in_values(base: PromptFile, good: bytes, chance: random.Random) -> bytes:
    return flip(good, chance, len(good) - len(base.tensors), len(good))


def overwritten(base: PromptFile, good: bytes, chance: random.Random) -> bytes:
    at = chance.randrange(len(good) - 512)
    return good[:at] + chance.randbytes(512) + good[at + 512 :]


def noise(base: PromptFile, good: bytes, chance: random.Random) -> bytes:
    return chance.randbytes(chance.randrange(1, 4096))


def long_header(base: PromptFile, good: bytes, chance: random.Random) -> bytes:
    return struct.pack("<Q", chance.choice([1 << 20, 1 << 40, (1 << 64) - 1])) + good[8:]


def not_a_number(base: PromptFile, good: bytes, chance: random.Random) -> bytes:
    begin, end = base.header["values"]["data_offsets"]
    at = len(good) - len(base.tensors) + begin + 4 * chance.randrange((end - begin) // 4)
    return good[:at] + struct.pack("<f", float("nan")) + good[at + 4 :]


def other_model(base: PromptFile, good: bytes, chance: random.Random) -> bytes:
    other = base.scaled(1.0)
    other.manifest["base_model"]["fingerprint"] = f"{chance.getrandbits(64):016x}"
    return other.to_bytes()


def other_scores(base: PromptFile, good: bytes, chance: random.Random) -> bytes:
    scores = {example["input"]["text"]: example["scores"] for example in base.manifest["golden"]}
    return base.scaled(0.5).with_golden(scores).to_bytes()


def long_labels(base: PromptFile, good: bytes, chance: random.Random) -> bytes:
    other = base.scaled(1.0)
    for label in other.manifest["task"]["output"]["labels"]:
        label["words"] = "of the " * 20_000 + label["words"]
    return other.to_bytes()


def flip(data: bytes, chance: random.Random, begin: int, end: int) -> bytes:
    flipped = bytearray(data)
    for _ in range(chance.randint(1, 8)):
        flipped[chance.randrange(begin, end)] ^= 1 << chance.randrange(8)
    return bytes(flipped)


KINDS = {
    kind.__name__: kind
    for kind in (
        cut,
        flipped_in_header,
        flipped_in_values,
        overwritten,
        noise,
        long_header,
        not_a_number,
        other_model,
        other_scores,
        long_labels,
    )
}


# === what is no file ===


async def special_files(client, path: Path, version: str, good: bytes, folder: Path) -> dict[str, str]:
    """What became of each: `refused`, with the last good version answering, is what is promised."""

    def sparse(path: Path) -> None:
        with open(path, "wb") as file:
            file.truncate(1 << 34)

    makers = {
        "empty": lambda path: path.write_bytes(b""),
        "16 GiB": sparse,
        "pipe": os.mkfifo,
        "link to itself": lambda new: new.symlink_to(path),
        "link to a device": lambda path: path.symlink_to("/dev/zero"),
    }
    results = {}
    for kind, make in makers.items():
        new = folder / ".new-special"
        make(new)
        new.rename(path)
        seen = await until(lambda: outcome(client, version), 10)
        answer = await client.predict(TASK, {"input": "does the last good version answer?"})
        answers = answer.status == 200 and answer.json()["version"] == version
        results[kind] = "not seen within 10 s" if seen is None else "refused" if answers else str(answer.status)
        # an upload replaces what is no prompt, and at least does not wait for it
        if (changed := (await client.call("PUT", f"/tasks/{TASK}", good)).status) not in (200, 503):
            results[kind] += f", and an upload over it got {changed}"
        put(folder, TASK, good)
        if await until(lambda: is_good(client, version), 10) is None:
            results[kind] += ", and the good file was not taken after it"
    return results
