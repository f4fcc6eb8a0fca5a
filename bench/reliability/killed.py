"""killed: kill -9 while prompts are written, uploaded by one client and asked for by others. After each new start the
last change that was answered holds, or the one that was asked for, and every file is whole."""

from __future__ import annotations

import asyncio
import json
import random
import signal
from collections import Counter
from pathlib import Path

from client import Broken, Client
from load import Workers
from prompts import TEXTS, put, sentiment, version_of
from server import Server

TASK = "written"


class Changes:
    """What a client was told, and what it asked for and was not told about."""

    def __init__(self, files: list[bytes]):
        self.files = {version_of(data): data for data in files}
        self.told: str | None = None
        self.asked: str | None = None
        self.counts: Counter = Counter()

    async def make(self, client: Client, chance: random.Random) -> None:
        """Changes the task until the server is gone."""
        while True:
            version = chance.choice(list(self.files))
            kind = "rollback" if chance.random() < 0.3 else "put"
            self.asked = version
            try:
                if kind == "put":
                    answer = await client.call("PUT", f"/tasks/{TASK}", self.files[version])
                else:
                    answer = await client.call("POST", f"/tasks/{TASK}/rollback", {"version": version})
            except Broken:
                return
            self.counts[f"{kind} {answer.status}"] += 1
            if answer.status in (200, 201):
                self.told = version
            self.asked = None


async def run(args) -> tuple[dict, list[str]]:
    folder: Path = args.folder / "prompts"
    base = sentiment()
    put(folder, "beside", base.to_bytes())
    changes = Changes([base.scaled(1 - 0.01 * i).to_bytes() for i in range(6)])
    chance, seen, broken = random.Random(args.seed), Counter(), []
    server = Server(args.server, args.folder, folder)
    try:
        for i in range(args.rounds):
            client = await server.start()
            if i:
                active = (await client.call("GET", f"/tasks/{TASK}/versions")).json().get("active")
                now = "told" if active == changes.told else "asked" if active and active == changes.asked else "neither"
                seen[now] += 1
                if now == "neither":
                    broken.append(f"round {i}: {active} is active; told {changes.told}, asked {changes.asked}")
                changes.told, changes.asked = active, None
                answer = await client.predict(TASK, {"input": TEXTS[0]})
                if answer.status != 200 or answer.json()["version"] != active:
                    broken.append(f"round {i}: the active version does not answer: {answer.status}")
            changing = asyncio.ensure_future(changes.make(client, chance))
            async with Workers(lambda _: ask(client), 1) as workers:
                while changes.told is None:
                    await asyncio.sleep(0.001)
                await asyncio.sleep(chance.uniform(0.0, 0.25))
                workers.going = False
                server.process.send_signal(signal.SIGKILL)
                server.process.wait()
            await changing
            client.close()
            broken += [f"round {i}: {what}" for what in torn_files(folder, changes)]
    finally:
        server.end()
    left = len([path for path in folder.rglob(".writing-*")])
    figures = {"kills": args.rounds, "changes": dict(changes.counts), "after_the_kill": dict(seen)}
    return figures | {"unfinished_files_left": left}, broken


async def ask(client: Client) -> None:
    try:
        await client.predict("beside", {"input": TEXTS[1]})
    except Broken:
        await asyncio.sleep(0.01)


def torn_files(folder: Path, changes: Changes) -> list[str]:
    """Every version is what its name says, the state can be read and names only versions that are there."""
    wrong = []
    kept = {path.stem: path for path in (folder / ".xprompt/versions" / TASK).glob("[!.]*.safetensors")}
    for version, path in kept.items():
        if version_of(path.read_bytes()) != version:
            wrong.append(f"{path.name} is not what its name says")
    state = folder / f".xprompt/state/{TASK}.json"
    if state.exists():
        named = {entry["version"] for entry in json.loads(state.read_bytes())["versions"]}
        wrong += [f"the state names {version}, which is not there" for version in named - kept.keys()]
    active = folder / f"{TASK}.safetensors"
    if version_of(active.read_bytes()) not in changes.files:
        wrong.append("the active file is torn")
    return wrong
