"""A small HTTP/1.1 client that tells apart how a call ended: answered, refused, closed before or within its answer."""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter
from dataclasses import dataclass, field

HOST = "127.0.0.1"


@dataclass
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes
    seconds: float

    def json(self):
        return json.loads(self.body)


class Broken(Exception):
    """A call without a whole answer: `refused` (no connection), `stale` (a kept connection was closed before the
    answer began), `closed` (a fresh one was), `torn` (within the answer) or `late`."""

    def __init__(self, kind: str):
        super().__init__(kind)
        self.kind = kind


class Connection:
    """One connection, for one call at a time."""

    def __init__(self, port: int):
        self.port = port
        self.used = False
        self.reader: asyncio.StreamReader | None = None
        self.writer: asyncio.StreamWriter | None = None

    async def open(self) -> None:
        try:
            self.reader, self.writer = await asyncio.open_connection(HOST, self.port, limit=1 << 20)
        except OSError as error:
            raise Broken("refused") from error

    async def call(self, method: str, path: str, body: bytes = b"", headers: dict[str, str] | None = None) -> Answer:
        start = time.perf_counter()
        if self.writer is None:
            await self.open()
        kept, self.used = self.used, True
        began = False
        try:
            self.writer.write(request(method, path, body, headers))
            await self.writer.drain()
            head = await self.reader.readuntil(b"\r\n\r\n")
            began = True
            status, names = parse_head(head)
            read = await self.read_body(names)
        except asyncio.IncompleteReadError as error:
            raise Broken("torn" if began or error.partial else "stale" if kept else "closed") from error
        except OSError as error:
            raise Broken("torn" if began else "stale" if kept else "closed") from error
        return Answer(status, names, read, time.perf_counter() - start)

    async def read_body(self, headers: dict[str, str]) -> bytes:
        if headers.get("transfer-encoding") != "chunked":
            return await self.reader.readexactly(int(headers.get("content-length", 0)))
        parts = []
        while size := int(await self.reader.readuntil(b"\r\n"), 16):
            parts.append(await self.reader.readexactly(size))
            await self.reader.readexactly(2)
        await self.reader.readuntil(b"\r\n")
        return b"".join(parts)

    def close(self) -> None:
        if self.writer is not None:
            self.writer.close()
            self.reader = self.writer = None


class Client:
    """Keeps connections, as clients do. A kept one that the server closed meanwhile is replaced once, and counted."""

    def __init__(self, port: int, timeout: float = 60):
        self.port = port
        self.timeout = timeout
        self.free: list[Connection] = []
        self.stale = 0

    async def call(self, method: str, path: str, body: bytes | dict = b"", headers: dict | None = None) -> Answer:
        if isinstance(body, dict):
            body = json.dumps(body).encode()
        while True:
            connection = self.free.pop() if self.free else Connection(self.port)
            try:
                answer = await asyncio.wait_for(connection.call(method, path, body, headers), self.timeout)
            except asyncio.TimeoutError as error:
                connection.close()
                raise Broken("late") from error
            except Broken as broken:
                connection.close()
                if broken.kind != "stale":
                    raise
                self.stale += 1
                continue
            except BaseException:
                connection.close()
                raise
            if answer.headers.get("connection") == "close":
                connection.close()
            else:
                self.free.append(connection)
            return answer

    async def predict(self, task: str, body: dict) -> Answer:
        return await self.call("POST", f"/tasks/{task}/predict", body)

    def close(self) -> None:
        while self.free:
            self.free.pop().close()


@dataclass
class Tally:
    """What became of calls."""

    statuses: Counter = field(default_factory=Counter)
    broken: Counter = field(default_factory=Counter)
    seconds: list[float] = field(default_factory=list)
    without_retry_after: int = 0
    first_unexpected: str = ""

    def count(self, answer: Answer) -> None:
        self.statuses[answer.status] += 1
        if answer.status == 200:
            self.seconds.append(answer.seconds)
        elif answer.status in (429, 503):
            self.without_retry_after += "retry-after" not in answer.headers
        if answer.status not in (200, 201, 429) and not self.first_unexpected:
            self.first_unexpected = f"{answer.status} {answer.body[:300].decode(errors='replace')}"

    async def of(self, call) -> Answer | None:
        """Waits for a call and counts it; None where there is no answer."""
        try:
            answer = await call
        except Broken as broken:
            self.broken[broken.kind] += 1
            return None
        self.count(answer)
        return answer

    def calls(self) -> int:
        return sum(self.statuses.values()) + sum(self.broken.values())

    def only(self, *statuses: int) -> bool:
        return not self.broken and not self.without_retry_after and set(self.statuses) <= set(statuses)

    def figures(self) -> dict:
        shown = {"calls": self.calls(), "statuses": {str(key): self.statuses[key] for key in sorted(self.statuses)}}
        shown["broken"] = dict(self.broken)
        shown |= {"p50_ms": quantile_ms(self.seconds, 0.5), "p99_ms": quantile_ms(self.seconds, 0.99)}
        return shown | ({"first_unexpected": self.first_unexpected} if self.first_unexpected else {})


def quantile_ms(seconds: list[float], share: float) -> float | None:
    ordered = sorted(seconds)
    return round(1000 * ordered[min(int(share * len(ordered)), len(ordered) - 1)], 1) if ordered else None


def request(method: str, path: str, body: bytes = b"", headers: dict[str, str] | None = None) -> bytes:
    lines = [f"{method} {path} HTTP/1.1", "host: localhost"]
    if body or method in ("POST", "PUT"):
        lines.append(f"content-length: {len(body)}")
    lines += [f"{name}: {value}" for name, value in ({"content-type": "application/json"} | (headers or {})).items()]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def parse_head(head: bytes) -> tuple[int, dict[str, str]]:
    first, *lines = head.decode("latin-1").rstrip("\r\n").split("\r\n")
    pairs = (line.split(":", 1) for line in lines)
    return int(first.split(" ", 2)[1]), {name.lower(): value.strip() for name, value in pairs}
