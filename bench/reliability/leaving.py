"""leaving: clients that ask and go away. Their work is dropped from the queue or broken off, and nothing is left."""

from __future__ import annotations

import asyncio
import json
import random

from client import Connection, Tally, request
from load import recovery, usual_ms
from prompts import TEXTS, put, sentiment
from server import Server, metrics, until

TOKENS = 200
AT_ONCE = 20


async def run(args) -> tuple[dict, list[str]]:
    prompts = args.folder / "prompts"
    put(prompts, "sentiment", sentiment().to_bytes())
    put(prompts, "story", sentiment().writing_text(TOKENS).to_bytes())
    server = Server(args.server, args.folder, prompts, "--request-timeout", "120s")
    try:
        client = await server.start()
        usual = await usual_ms(lambda: client.predict("sentiment", {"input": TEXTS[0]}))
        ask = await long_text(client, args.seed)
        cpu = server.cpu_seconds()
        whole = await client.predict("story", ask)
        of_one = server.cpu_seconds() - cpu
        before = await metrics(client)
        cpu, descriptors = server.cpu_seconds(), server.descriptors()
        gate = asyncio.Semaphore(AT_ONCE)
        random.seed(args.seed)
        await asyncio.gather(*(leave(server.port, ask, gate) for _ in range(args.rounds)))
        idle = await until(lambda: quiet(client, server, descriptors), 30)
        spent = server.cpu_seconds() - cpu
        after = await metrics(client)
        tally = Tally()
        for _ in range(20):
            await tally.of(client.predict("sentiment", {"input": TEXTS[0]}))
        grown = lambda name: after.get(name, 0) - before.get(name, 0)  # noqa: E731
        left = sum(grown(name) for name in after if 'status="499"' in name and "requests_total" in name)
        figures = {
            "clients": args.rounds,
            "tokens_of_a_whole_text": whole.json()["usage"]["output_tokens"],
            "counted_499": left,
            "dropped_from_queue": grown('xprompt_dropped_total{reason="client_left"}'),
            "texts_finished": grown('xprompt_predictions_total{label="text",task="story"}'),
            "cpu_s_of_a_whole_text": round(of_one, 2),
            "cpu_s_of_all_that_left": round(spent, 1),
            "cpu_s_if_all_were_written": round(of_one * args.rounds, 1),
            "nothing_left_after_s": idle,
            "recovered_after_s": await recovery(client, "sentiment", usual),
            "then": tally.figures(),
            "exit_status": await server.stop(),
        }
    finally:
        server.end()
    broken = []
    if idle is None:
        broken.append("calls, inputs or connections of clients that left are still there after 30 s")
    if figures["texts_finished"] > args.rounds / 10:
        broken.append("texts were written to the end that nobody waits for")
    if not tally.only(200):
        broken.append("a call afterwards was not answered")
    return figures, broken


async def long_text(client, seed: int) -> dict:
    """A call that writes a long text: texts are drawn until one is long."""
    for seed in range(seed, seed + 100):
        ask = {"input": TEXTS[0], "max_new_tokens": TOKENS, "temperature": 2.0, "seed": seed}
        if (await client.predict("story", ask)).json()["usage"]["output_tokens"] > TOKENS / 2:
            return ask
    raise RuntimeError("a hundred texts were drawn, and none was long")


async def quiet(client, server: Server, descriptors: int) -> bool:
    now = await metrics(client)
    # the scrape itself is in flight
    is_idle = now["xprompt_queue_depth"] == 0 and now["xprompt_http_requests_in_flight"] <= 1
    return is_idle and server.descriptors() <= descriptors + 1


async def leave(port: int, ask: dict, gate: asyncio.Semaphore) -> None:
    async with gate:
        connection = Connection(port)
        await connection.open()
        body = json.dumps(ask | ({"stream": True} if random.random() < 0.5 else {})).encode()
        connection.writer.write(request("POST", "/tasks/story/predict", body))
        await connection.writer.drain()
        await asyncio.sleep(random.uniform(0.001, 1.0))
        connection.close()
