"""swaps: thousands of uploads and rollbacks of one task under load. No call fails, every answer is that of the version
that it names, and a change is seen by the next call."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from dataclasses import dataclass

from client import Client, Tally, quantile_ms
from load import Workers
from prompts import TEXTS, put, sentiment, topics, version_of
from server import Server

TASK = "swapped"
VERSIONS = 6
CALLERS = 3
# batches differ in rounding; versions differ far more
TOLERANCE = 1e-4
GROWTH_MIB = 24


@dataclass
class Version:
    data: bytes
    # by text, by label: labels have the version's number in their names
    scores: dict[str, dict[str, float]]


async def run(args) -> tuple[dict, list[str]]:
    folder = args.folder / "prompts"
    put(folder, "beside", topics().to_bytes())
    server = Server(args.server, args.folder, folder, "--keep-versions", str(VERSIONS))
    chance = random.Random(args.seed)
    try:
        client = await server.start()
        versions = await make_versions(client)
        storm = Storm(client, versions)
        memory = []
        async with Workers(storm.predict, CALLERS):
            for i in range(args.rounds):
                if i % max(args.rounds // 20, 1) == 0:
                    memory.append(server.memory()["anonymous"])
                await storm.change(chance)
        await asyncio.sleep(1)
        memory.append(server.memory()["anonymous"])
        kept = len(list((folder / ".xprompt/versions" / TASK).glob("*.safetensors")))
        figures = {
            "changes": dict(storm.changes),
            "change_p50_ms": quantile_ms(storm.change_seconds, 0.5),
            "change_p99_ms": quantile_ms(storm.change_seconds, 0.99),
            "calls": storm.tally.figures(),
            "answers_by_version": len(storm.seen),
            "mixed_up": storm.mixed_up,
            "stale_after_change": storm.stale,
            "anonymous_mib": {"first": memory[0], "middle": memory[len(memory) // 2], "last": memory[-1]},
            "files_kept": kept,
            "warnings_in_log": len(server.warnings()),
            "exit_status": await server.stop(),
        }
    finally:
        server.end()
    broken = []
    if not storm.tally.only(200):
        broken.append("a call failed")
    if set(storm.changes) - {"PUT 200", "rollback 200"}:
        broken.append("a change failed")
    if storm.mixed_up or storm.stale:
        broken.append(f"{storm.mixed_up} answers were not of the version they name, {storm.stale} of one before")
    if memory[-1] - memory[len(memory) // 4] > GROWTH_MIB:
        broken.append("memory grows")
    if kept > VERSIONS + 2:
        broken.append(f"{kept} versions are kept")
    return figures, broken


async def make_versions(client: Client) -> dict[str, Version]:
    """Versions that differ in rows and in the names of labels, with golden examples that are replayed at each swap."""
    made = {}
    for i in range(VERSIONS):
        draft = sentiment().scaled(1 - 0.12 * i).with_labels_marked(f" v{i}")
        labels = [label["name"] for label in draft.manifest["task"]["output"]["labels"]]
        assert (await client.call("PUT", f"/tasks/{TASK}", draft.to_bytes())).status in (200, 201)
        scores = {text: await scores_of(client, text) for text in TEXTS}
        golden = {text: [scores[text][label] for label in labels] for text in TEXTS}
        data = draft.with_golden(golden).to_bytes()
        assert (await client.call("PUT", f"/tasks/{TASK}", data)).status == 200
        made[version_of(data)] = Version(data, scores)
    return made


async def scores_of(client: Client, text: str) -> dict[str, float]:
    return (await client.predict(TASK, {"input": text})).json()["predictions"][0]["scores"]


class Storm:
    def __init__(self, client: Client, versions: dict[str, Version]):
        self.client, self.versions = client, versions
        self.tally = Tally()
        self.changes: Counter = Counter()
        self.change_seconds: list[float] = []
        self.seen: Counter = Counter()
        self.mixed_up = self.stale = 0

    async def predict(self, number: int) -> str | None:
        """Asks, and checks that the scores are those of the version that is named."""
        text = TEXTS[number % len(TEXTS)]
        answer = await self.tally.of(self.client.predict(TASK, {"input": text}))
        if answer is None or answer.status != 200:
            return None
        said = answer.json()
        wanted, got = self.versions[said["version"]].scores[text], said["predictions"][0]["scores"]
        self.seen[said["version"]] += 1
        self.mixed_up += wanted.keys() != got.keys() or any(abs(wanted[k] - got[k]) > TOLERANCE for k in wanted)
        return said["version"]

    async def change(self, chance: random.Random) -> None:
        """Uploads a version or rolls back to one; whoever calls then gets it."""
        version = chance.choice(list(self.versions))
        if chance.random() < 0.6:
            kind = "PUT"
            answer = await self.client.call("PUT", f"/tasks/{TASK}", self.versions[version].data)
        else:
            kind = "rollback"
            answer = await self.client.call("POST", f"/tasks/{TASK}/rollback", {"version": version})
        self.changes[f"{kind} {answer.status}"] += 1
        self.change_seconds.append(answer.seconds)
        if answer.status == 200:
            self.stale += await self.predict(chance.randrange(100)) not in (version, None)
