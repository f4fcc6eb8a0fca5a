"""soak: everything that clients do, mixed, at a modest rate for a long time. Memory and descriptors stay flat."""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections import Counter
from pathlib import Path

from client import Answer, Broken, Client, Connection, Tally, quantile_ms, request
from load import at_rate
from prompts import TEXTS, put, sentiment, topics, version_of
from server import Server

SAMPLE_EVERY = 10.0
# histories and pools are full by then; buffers are filled on purpose before
WARM_UP = 600.0

SHARES = {
    "predict": 52,
    "many": 8,
    "generate": 8,
    "stream": 8,
    "completion": 5,
    "infer": 5,
    "tasks": 5,
    "versions": 2,
    "metrics": 2,
    "leave": 2,
    "refused": 2,
    "swap": 1,
}


async def run(args) -> tuple[dict, list[str]]:
    folder: Path = args.folder / "prompts"
    put(folder, "sentiment", sentiment().to_bytes())
    put(folder, "topics", topics().to_bytes())
    put(folder, "story", sentiment().writing_text(12).to_bytes())
    server = Server(args.server, args.folder, folder)
    try:
        client = await server.start()
        return await soak(server, client, args)
    finally:
        server.end()


async def soak(server: Server, client: Client, args) -> tuple[dict, list[str]]:
    random.seed(args.seed)
    mix = Mix(client)
    await mix.fill()
    await asyncio.sleep(1)
    client.close()
    kinds = random.Random(args.seed).choices(list(SHARES), SHARES.values(), k=1 << 16)
    samples: list[tuple[float, dict, int]] = []
    sampling = asyncio.ensure_future(sample(server, samples, args.folder / "samples.csv"))
    sent, left_out = await at_rate(lambda i: mix.call(kinds[i % len(kinds)]), args.rate, args.seconds, 200)
    sampling.cancel()
    flat = [entry for entry in samples if entry[0] >= min(WARM_UP, args.seconds / 4)]
    slopes = {name: slope_per_hour([(t, memory[name]) for t, memory, _ in flat]) for name in ("rss", "anonymous")}
    fds = [count for _, _, count in flat]
    figures = {
        "seconds": args.seconds,
        "rate": args.rate,
        "calls": sent,
        "left_out": left_out,
        "kinds": dict(mix.kinds),
        "late_or_refused": dict(mix.late),
        "wrong": dict(mix.wrong),
        "first_wrong": mix.first_wrong,
        "p50_ms": quantile_ms(mix.tally.seconds, 0.5),
        "p99_ms": quantile_ms(mix.tally.seconds, 0.99),
        "samples": len(samples),
        "rss_mib": {"first": samples[0][1]["rss"], "after_warm_up": flat[0][1]["rss"], "last": flat[-1][1]["rss"]},
        "anonymous_mib": {
            "first": samples[0][1]["anonymous"],
            "after_warm_up": flat[0][1]["anonymous"],
            "last": flat[-1][1]["anonymous"],
        },
        "slope_mib_per_hour": slopes,
        "descriptors": {"least": min(fds), "most": max(fds), "last": fds[-1]},
        "warnings_in_log": len(server.warnings()),
        "exit_status": await server.stop(),
    }
    broken = [f"{count} calls of kind {kind} were not answered as promised" for kind, count in mix.wrong.items()]
    if mix.late or left_out:
        late = sum(mix.late.values())
        broken.append(f"too much for this machine: {late} calls got 504 or 429, {left_out} were not sent; lower --rate")
    if slopes["anonymous"] > args.slope:
        broken.append(f"memory grows by {slopes['anonymous']} MiB an hour, more than {args.slope}")
    if figures["exit_status"]:
        broken.append("the server did not end with status 0")
    return figures, broken


class Mix:
    """A call of each kind, and whether it was answered as promised."""

    def __init__(self, client: Client):
        self.client = client
        self.tally = Tally()
        self.kinds: Counter = Counter()
        self.wrong: Counter = Counter()
        # what a server says that has more to do than it can
        self.late: Counter = Counter()
        self.first_wrong = ""
        base = sentiment()
        self.files = [base.scaled(1 - 0.02 * i).to_bytes() for i in range(8)]

    async def fill(self) -> None:
        """The largest batches of each kind: buffers have the size of the largest that was seen, and stay so."""
        longest = "coffee in the sun and the train is late again " * 12
        labels = [self.client.predict("topics", {"input": longest, "truncate": True}) for _ in range(160)]
        texts = [self.client.predict("story", {"input": longest, "truncate": True}) for _ in range(96)]
        beams = {"input": longest, "truncate": True, "num_beams": 16, "max_new_tokens": 12}
        searches = [self.client.predict("story", beams) for _ in range(12)]
        for calls in (labels, texts, searches):
            answers = await asyncio.gather(*calls)
            assert all(answer.status == 200 for answer in answers), "the largest batches are answered"

    async def call(self, kind: str) -> None:
        self.kinds[kind] += 1
        try:
            answer = await getattr(self, kind)()
        except Broken as broken:
            return self.count_wrong(kind, str(broken))
        if answer is None:
            return
        self.tally.count(answer)
        promised = (422, 400) if kind == "refused" else (200,)
        if answer.status in (429, 504):
            self.late[kind] += 1
        elif answer.status not in promised:
            self.count_wrong(kind, f"{answer.status} {answer.body[:200]!r}")

    def count_wrong(self, kind: str, what: str) -> None:
        self.wrong[kind] += 1
        self.first_wrong = self.first_wrong or f"{kind}: {what}"

    def text(self) -> str:
        return " ".join(random.choices(" ".join(TEXTS).split(), k=random.randint(3, 40)))

    async def predict(self) -> Answer:
        return await self.client.predict(random.choice(["sentiment", "topics"]), {"input": self.text()})

    async def many(self) -> Answer:
        inputs = [self.text() for _ in range(random.randint(2, 16))]
        return await self.client.predict("sentiment", {"inputs": inputs, "top_k": 1})

    async def generate(self) -> Answer:
        options = random.choice([{}, {"temperature": 0.9, "seed": 5}, {"num_beams": 3, "max_new_tokens": 6}])
        return await self.client.predict("story", {"input": self.text()} | options)

    async def stream(self) -> Answer:
        answer = await self.client.predict("story", {"input": self.text(), "stream": True})
        if answer.status == 200 and b'"code":"deadline"' in answer.body:
            self.late["stream"] += 1
        elif answer.status == 200 and b"event: answer" not in answer.body:
            self.count_wrong("stream", f"no answer event: {answer.body[-200:]!r}")
        return answer

    async def completion(self) -> Answer:
        body = {"model": "story", "prompt": [self.text(), self.text()], "max_tokens": 10}
        return await self.client.call("POST", "/v1/completions", body)

    async def infer(self) -> Answer:
        tensor = {"name": "text", "shape": [2], "datatype": "BYTES", "data": [self.text(), self.text()]}
        return await self.client.call("POST", "/v2/models/topics/infer", {"inputs": [tensor]})

    async def tasks(self) -> Answer:
        return await self.client.call("GET", "/tasks?limit=2")

    async def versions(self) -> Answer:
        return await self.client.call("GET", "/tasks/sentiment/versions")

    async def metrics(self) -> Answer:
        return await self.client.call("GET", "/metrics")

    async def leave(self) -> None:
        """A client that asks for a text and goes away."""
        body = json.dumps({"input": self.text(), "stream": True}).encode()
        connection = Connection(self.client.port)
        await connection.open()
        connection.writer.write(request("POST", "/tasks/story/predict", body))
        await connection.writer.drain()
        await asyncio.sleep(random.uniform(0, 0.1))
        connection.close()

    async def refused(self) -> Answer:
        return await self.client.predict("sentiment", random.choice([{"input": 7}, {"inputz": "x"}, {"input": [None]}]))

    async def swap(self) -> Answer:
        if random.random() < 0.3:
            answer = await self.client.call("POST", "/tasks/sentiment/rollback")
            # nothing before the first version
            return answer if answer.status != 404 else None
        data = random.choice(self.files)
        answer = await self.client.call("PUT", "/tasks/sentiment", data)
        if answer.status == 200 and answer.json()["version"] != version_of(data):
            self.count_wrong("swap", "another version than was uploaded")
        return answer


async def sample(server: Server, samples: list, path: Path) -> None:
    start = time.monotonic()
    with open(path, "w", encoding="utf-8") as file:
        print("seconds,rss_mib,anonymous_mib,descriptors,cpu_seconds", file=file)
        while True:
            passed, memory, fds = time.monotonic() - start, server.memory(), server.descriptors()
            samples.append((passed, memory, fds))
            line = f"{passed:.1f},{memory['rss']},{memory['anonymous']},{fds},{server.cpu_seconds():.1f}"
            print(line, file=file, flush=True)
            await asyncio.sleep(SAMPLE_EVERY)


def slope_per_hour(points: list[tuple[float, float]]) -> float:
    """The slope of the least-squares line, for x in seconds."""
    if len(points) < 2:
        return 0.0
    mean_x, mean_y = (sum(values) / len(points) for values in zip(*points))
    above = sum((x - mean_x) * (y - mean_y) for x, y in points)
    return round(3600 * above / sum((x - mean_x) ** 2 for x, _ in points), 3)
