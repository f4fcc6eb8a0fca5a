"""overload: ten times the calls that the server can answer. It answers what it can and says 429 to the rest."""

from __future__ import annotations

import asyncio
import random

from client import Tally, quantile_ms
from load import Workers, at_rate, recovery, usual_ms
from prompts import TEXTS, put, sentiment
from server import Server, metrics

INPUTS = 4
TIMES = 10
CAPACITY_SECONDS = 10
# what a queue of a thousand inputs, their bodies and buffers may take
GROWTH_MIB = 256


def body(number: int) -> dict:
    words = random.Random(number).choices(" ".join(TEXTS).split(), k=30)
    return {"inputs": [" ".join(words)] * INPUTS, "truncate": True}


async def run(args) -> tuple[dict, list[str]]:
    put(args.folder / "prompts", "sentiment", sentiment().to_bytes())
    alone = Tally()
    capacity = await measure_capacity(args, alone)
    server = Server(args.server, args.folder, args.folder / "prompts")
    try:
        client = await server.start()
        usual = await usual_ms(lambda: client.predict("sentiment", {"input": TEXTS[0]}))
        before = server.memory()["rss"]
        server.forget_peak()
        tally = Tally()
        call = lambda i: tally.of(client.predict("sentiment", body(i)))  # noqa: E731
        sent, left_out = await at_rate(call, TIMES * capacity, args.seconds, 1000)
        peak = server.memory()["peak"]
        recovered = await recovery(client, "sentiment", usual)
        await asyncio.sleep(5)
        figures = {
            "capacity_calls_per_s": round(capacity, 1),
            "inputs_a_call": INPUTS,
            "offered_calls_per_s": round(sent / args.seconds, 1),
            "not_sent": left_out,
            "seconds": args.seconds,
            **tally.figures(),
            "answered_calls_per_s": round(len(tally.seconds) / args.seconds, 1),
            "usual_ms": round(usual, 1),
            "capacity_p50_ms": quantile_ms(alone.seconds, 0.5),
            "rss_mib": {"before": before, "peak": peak, "after": server.memory()["rss"]},
            "recovered_after_s": recovered,
            "queue_at_end": (await metrics(client))["xprompt_queue_depth"],
            "exit_status": await server.stop(),
        }
    finally:
        server.end()
    broken = []
    if not tally.only(200, 429):
        broken.append("a call got something else than 200, or 429 with Retry-After")
    if not alone.only(200):
        broken.append("a call within capacity was not answered")
    if not tally.statuses[429]:
        broken.append("nothing was refused: this was no overload")
    if peak - before > GROWTH_MIB:
        broken.append(f"memory rose by {peak - before:.0f} MiB, more than {GROWTH_MIB}")
    if recovered is None:
        broken.append("the usual latency did not come back within a minute")
    if figures["queue_at_end"] or figures["exit_status"]:
        broken.append("something is left in the queue, or the exit status is not 0")
    return figures, broken


async def measure_capacity(args, tally: Tally) -> float:
    """Calls a second that are answered when eight callers wait for their answers."""
    server = Server(args.server, args.folder, args.folder / "prompts")
    try:
        client = await server.start()
        async with Workers(lambda i: tally.of(client.predict("sentiment", body(i))), 8):
            await asyncio.sleep(CAPACITY_SECONDS)
        return len(tally.seconds) / CAPACITY_SECONDS
    finally:
        server.end()
