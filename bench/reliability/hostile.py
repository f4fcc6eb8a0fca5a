"""hostile: requests that no honest client sends, as raw bytes: noise, heads and bodies that are too large, lengths
that lie, JSON that nests or never ends. Each is refused by a 4xx or a closed connection, and others are answered meanwhile."""

from __future__ import annotations

import asyncio
import json
import random
from collections import Counter, defaultdict

from client import HOST, Tally
from load import Workers
from prompts import TEXTS, put, sentiment
from server import Server, metrics, until

PREDICT = b"POST /tasks/sentiment/predict HTTP/1.1\r\nhost: x\r\n"
PATIENCE = 15
AT_ONCE = 20
# bodies of a mebibyte, taken apart: JSON in memory is many times its text
GROWTH_MIB = 256


async def run(args) -> tuple[dict, list[str]]:
    put(args.folder / "prompts", "sentiment", sentiment().to_bytes())
    server = Server(args.server, args.folder, args.folder / "prompts", "--read-timeout", "5s")
    chance = random.Random(args.seed)
    ends: dict[str, Counter] = defaultdict(Counter)
    tally = Tally()
    try:
        client = await server.start()
        before = server.memory()["rss"]
        server.forget_peak()
        gate = asyncio.Semaphore(AT_ONCE)

        async def attack(kind) -> None:
            async with gate:
                ends[kind.__name__][await said(server.port, kind(chance))] += 1

        async with Workers(lambda i: tally.of(client.predict("sentiment", {"input": TEXTS[i % 4]})), 1):
            await asyncio.gather(*(attack(KINDS[i % len(KINDS)]) for i in range(args.rounds)))
        peak = server.memory()["peak"]

        async def quiet() -> bool:
            return (await metrics(client))["xprompt_http_requests_in_flight"] <= 1

        figures = {
            "requests": args.rounds,
            "ended": {kind: dict(counts) for kind, counts in ends.items()},
            "others": tally.figures(),
            "rss_mib": {"before": before, "peak": peak, "after": server.memory()["rss"]},
            "nothing_left_after_s": await until(quiet, 30),
            "panics": server.last_words().count("panicked"),
            "exit_status": await server.stop(),
        }
    finally:
        server.end()
    broken = []
    for kind, counts in ends.items():
        if odd := [end for end in counts if not (end == "closed" or end.startswith("4"))]:
            broken.append(f"{kind} got {', '.join(odd)}")
    if not tally.only(200):
        broken.append("an honest client was not answered")
    if peak - before > GROWTH_MIB:
        broken.append(f"memory rose by {peak - before:.0f} MiB, more than {GROWTH_MIB}")
    if figures["nothing_left_after_s"] is None or figures["panics"] or figures["exit_status"]:
        broken.append("requests are left, a handler panicked, or the exit status is not 0")
    return figures, broken


async def said(port: int, data: bytes) -> str:
    """The status of the first answer, or that the server closed without one."""
    reader, writer = await asyncio.open_connection(HOST, port)
    try:
        writer.write(data)
        try:
            head = await asyncio.wait_for(reader.readline(), PATIENCE)
        except asyncio.TimeoutError:
            return f"nothing in {PATIENCE} s"
        return head.split(b" ")[1].decode() if head.startswith(b"HTTP/1.1 ") else "closed"
    except (OSError, ValueError):
        return "closed"
    finally:
        writer.close()


def with_body(body: bytes, head: bytes = PREDICT) -> bytes:
    return head + b"content-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(body) + body


# === kinds ===


def noise(chance: random.Random) -> bytes:
    return chance.randbytes(chance.randrange(1, 4096)) + b"\r\n\r\n"


def noise_as_body(chance: random.Random) -> bytes:
    return with_body(chance.randbytes(chance.randrange(1, 4096)))


def endless_head(chance: random.Random) -> bytes:
    return PREDICT + b"x: " + b"a" * (1 << 20)


def many_headers(chance: random.Random) -> bytes:
    return PREDICT + b"".join(b"x%d: 1\r\n" % i for i in range(1000)) + b"\r\n"


def zero_in_header(chance: random.Random) -> bytes:
    return PREDICT + b"x: a\x00b\r\n\r\n"


def two_lengths(chance: random.Random) -> bytes:
    return PREDICT + b"content-length: 5\r\ncontent-length: 50\r\n\r\n{}"


def length_that_is_none(chance: random.Random) -> bytes:
    length = chance.choice([b"-1", b"1e3", b"99999999999999999999", b"0x10"])
    return PREDICT + b"content-length: " + length + b"\r\n\r\n"


def length_and_chunks(chance: random.Random) -> bytes:
    hidden = b"GET /metrics HTTP/1.1\r\nhost: x\r\n\r\n"
    return PREDICT + b"content-length: %d\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n" % len(hidden) + hidden


def chunks_that_are_none(chance: random.Random) -> bytes:
    size = chance.choice([b"zz", b"-1", b"ffffffffffffffffff", b""])
    return PREDICT + b"transfer-encoding: chunked\r\n\r\n" + size + b"\r\n{}\r\n0\r\n\r\n"


def shorter_than_it_says(chance: random.Random) -> bytes:
    return PREDICT + b'content-length: 500\r\n\r\n{"input": "x"}'


def too_large(chance: random.Random) -> bytes:
    return with_body(json.dumps({"input": "a" * (3 << 20)}).encode())


def deep(chance: random.Random) -> bytes:
    return with_body(b'{"input": ' + chance.choice([b"[", b'{"a":']) * 100_000)


def many_inputs(chance: random.Random) -> bytes:
    return with_body(b'{"inputs": [' + b"0," * 250_000 + b"0]}")


def same_field_again(chance: random.Random) -> bytes:
    return with_body(b"{" + b'"input": "x", ' * 30_000 + b'"input": 1}')


def half_a_character(chance: random.Random) -> bytes:
    return with_body(b'{"input": "' + chance.choice([b"\xc3", b"\xed\xa0\x80", b"\\ud800", b"\xff"]) + b'"}')


def numbers_out_of_range(chance: random.Random) -> bytes:
    number = chance.choice([b"1e999", b"-1", b"1" * 5000, b"0.5", b"NaN"])
    return with_body(b'{"input": "x", "top_k": ' + number + b"}")


def long_path(chance: random.Random) -> bytes:
    return b"POST /tasks/" + b"a%2f" * 10_000 + b"/predict HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\n\r\n{}"


def path_that_climbs(chance: random.Random) -> bytes:
    path = chance.choice([b"..%2f..%2fetc%2fpasswd", b"%00", b".", b"%2e%2e", b"a%5cb", b"%ff%fe"])
    return b"PUT /tasks/" + path + b" HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\n\r\n{}"


KINDS = [
    noise,
    noise_as_body,
    endless_head,
    many_headers,
    zero_in_header,
    two_lengths,
    length_that_is_none,
    length_and_chunks,
    chunks_that_are_none,
    shorter_than_it_says,
    too_large,
    deep,
    many_inputs,
    same_field_again,
    half_a_character,
    numbers_out_of_range,
    long_path,
    path_that_climbs,
]
