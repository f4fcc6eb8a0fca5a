"""restart: the server is ended by SIGTERM under load and started again, on the same port and beside a second one. No
call that was let in is lost; clients that try again, or another server, see no failure at all."""

from __future__ import annotations

import asyncio
import time
from collections import Counter

from client import Broken, Client, quantile_ms
from load import Workers
from prompts import TEXTS, put, sentiment
from server import Server, free_port

CALLERS = 4
TRY_AGAIN_AFTER = 0.05
GIVE_UP_AFTER = 60.0


async def run(args) -> tuple[dict, list[str]]:
    prompts = args.folder / "prompts"
    put(prompts, "sentiment", sentiment().to_bytes())
    put(prompts, "story", sentiment().writing_text(12).to_bytes())
    same, broken = await on_the_same_port(args, prompts)
    turns, more = await taking_turns(args, prompts)
    return {"rounds": args.rounds, "same_port": same, "two_taking_turns": turns}, broken + more


class Caller:
    """Calls until there is an answer, at one server or the other, and keeps what happened on the way."""

    def __init__(self, ports: list[int]):
        self.clients = [Client(port) for port in ports]
        self.first = 0
        self.attempts: Counter = Counter()
        self.seconds: list[float] = []
        self.given_up = 0

    async def call(self, number: int) -> None:
        start = time.monotonic()
        while time.monotonic() - start < GIVE_UP_AFTER:
            for i in range(len(self.clients)):
                if await self.attempt(number, (self.first + i) % len(self.clients)):
                    self.seconds.append(time.monotonic() - start)
                    return
            await asyncio.sleep(TRY_AGAIN_AFTER)
        self.given_up += 1

    async def attempt(self, number: int, server: int) -> bool:
        task, body = ("sentiment", {}) if number % 4 else ("story", {"stream": number % 8 == 0})
        try:
            answer = await self.clients[server].predict(task, {"input": TEXTS[number % 4]} | body)
        except Broken as broken:
            self.attempts[broken.kind] += 1
            return False
        # a stream that is cut off says so in its last event, or ends without one
        streamed = answer.status == 200 and body.get("stream")
        whole = b"event: answer" in answer.body if streamed else True
        self.attempts[str(answer.status) if whole else "torn"] += 1
        if answer.status == 200 and whole:
            self.first = server
            return True
        return False

    def figures(self) -> dict:
        return {
            "calls_answered": len(self.seconds),
            "given_up": self.given_up,
            "attempts": dict(self.attempts),
            "kept_connections_closed": sum(client.stale for client in self.clients),
            "p50_ms": quantile_ms(self.seconds, 0.5),
            "longest_s": round(max(self.seconds), 2),
        }


async def on_the_same_port(args, prompts) -> tuple[dict, list[str]]:
    port = free_port()
    caller, exits, away = Caller([port]), Counter(), []
    server = Server(args.server, args.folder, prompts, port=port)
    try:
        await server.start()
        async with Workers(caller.call, CALLERS):
            for _ in range(args.rounds):
                await asyncio.sleep(1)
                start = time.monotonic()
                exits[await server.stop()] += 1
                (await server.start()).close()
                away.append(time.monotonic() - start)
        exits[await server.stop()] += 1
    finally:
        server.end()
    figures = caller.figures() | {"exit_statuses": dict(exits), "away_s": round(sorted(away)[len(away) // 2], 2)}
    return figures, judge(caller, exits, {"200", "503", "refused"})


async def taking_turns(args, prompts) -> tuple[dict, list[str]]:
    """The next server is ready before the one before is ended, as a rolling update does it."""
    ports = [free_port(), free_port()]
    caller, exits = Caller(ports), Counter()
    servers = [Server(args.server, args.folder, prompts, port=port) for port in ports]
    try:
        await servers[0].start()
        async with Workers(caller.call, CALLERS):
            for i in range(args.rounds):
                await asyncio.sleep(0.5)
                (await servers[(i + 1) % 2].start()).close()
                exits[await servers[i % 2].stop()] += 1
        exits[await servers[args.rounds % 2].stop()] += 1
    finally:
        for server in servers:
            server.end()
    broken = judge(caller, exits, {"200", "503", "refused"})
    if max(caller.seconds) > 10:
        broken.append("a call waited although one of two servers was ready")
    return caller.figures() | {"exit_statuses": dict(exits)}, broken


def judge(caller: Caller, exits: Counter, allowed: set[str]) -> list[str]:
    broken = []
    if caller.given_up:
        broken.append(f"{caller.given_up} calls had no answer within {GIVE_UP_AFTER} s")
    if lost := {kind: count for kind, count in caller.attempts.items() if kind not in allowed}:
        broken.append(f"calls were cut off: {lost}")
    if set(exits) != {0}:
        broken.append(f"exit statuses {dict(exits)}")
    return broken
