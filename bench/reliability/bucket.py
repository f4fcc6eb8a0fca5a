"""bucket: an S3 server (moto, fetched by `make s3`) that hangs, refuses, breaks off, answers nonsense, and is stopped
and started again, while calls run. What is in memory goes on answering, changes are refused or made, nothing is lost."""

from __future__ import annotations

import asyncio
import subprocess
from collections import Counter

from client import HOST, Broken, Client, Tally
from load import Workers
from prompts import TEXTS, sentiment, version_of
from server import ROOT, Server, free_port, metrics, until

BUCKET = "prompts"
TASKS = 4
AWAY_SECONDS = 2.0
AGAIN_WITHIN = 60
ENVIRONMENT = {
    "AWS_REGION": "us-east-1",
    "AWS_ACCESS_KEY_ID": "test",
    "AWS_SECRET_ACCESS_KEY": "test",
    "AWS_ALLOW_HTTP": "true",
}
# moto asks who calls, and believes it
CREDENTIAL = "AWS4-HMAC-SHA256 Credential=test/20260101/us-east-1/s3/aws4_request, SignedHeaders=host, Signature=0"
FAULTS = ("refuse", "hang", "break off", "nonsense", "error 500", "stopped")


async def run(args) -> tuple[dict, list[str]]:
    moto = Moto()
    proxy = Proxy(moto)
    base = sentiment()
    files = [base.scaled(1 - 0.01 * i).to_bytes() for i in range(TASKS + 1)]
    tally, changes, back, broken = Tally(), Counter(), {}, []
    place = f"s3://{BUCKET}/team"
    server = Server(args.server, args.folder, place, "--store-timeout", "1s")
    names = [f"task-{i}" for i in range(TASKS)]
    try:
        await moto.start()
        await proxy.start()
        await moto.call("PUT", f"/{BUCKET}")
        client = await server.start(ENVIRONMENT | {"AWS_ENDPOINT_URL": f"http://{HOST}:{proxy.port}"})
        active = {}
        for name, data in zip(names, files):
            assert (await client.call("PUT", f"/tasks/{name}", data)).status == 201
            active[name] = version_of(data)
        call = lambda i: tally.of(client.predict(names[i % TASKS], {"input": TEXTS[i % 4]}))  # noqa: E731
        async with Workers(call, 2):
            for i in range(args.rounds):
                fault, name, data = FAULTS[i % len(FAULTS)], names[i % TASKS], files[(i + 1) % len(files)]
                await proxy.fail(fault)
                await asyncio.sleep(AWAY_SECONDS)
                answer = await client.call("PUT", f"/tasks/{name}", data)
                changes[answer.status] += 1
                await proxy.mend()
                back[fault] = max(back.get(fault, 0), await until(lambda: reachable(client), AGAIN_WITHIN) or 999)
                # refused for the store: it may have been made or not, and by now it is known which
                may_be = {active[name]} if answer.status not in (200, 503) else {active[name], version_of(data)}
                served = await served_by(client)
                if served.keys() != active.keys() or served[name] not in may_be:
                    broken.append(f"after {fault}: {served}")
                active = served
        await server.stop()
        # a new server finds everything in the bucket
        client = await server.start(ENVIRONMENT | {"AWS_ENDPOINT_URL": f"http://{HOST}:{proxy.port}"})
        found = await served_by(client)
        figures = {
            "rounds": args.rounds,
            "faults": FAULTS,
            "calls": tally.figures(),
            "changes_meanwhile": {str(status): count for status, count in changes.items()},
            "seen_again_after_s": back,
            "found_by_a_new_server": found == active,
            "exit_status": await server.stop(),
        }
    finally:
        server.end()
        moto.end()
    if not tally.only(200):
        broken.append("a task in memory did not answer while the bucket was away")
    if found != active:
        broken.append(f"a new server finds {found}, not {active}")
    if max(back.values()) > AGAIN_WITHIN:
        broken.append(f"the bucket was not seen again within {AGAIN_WITHIN} s")
    return figures, broken


async def reachable(client: Client) -> bool:
    return (await metrics(client))["xprompt_store_reachable"] == 1


async def served_by(client: Client) -> dict[str, str]:
    """The active version of each task, or why there is none."""
    listed = (await client.call("GET", "/tasks")).json()["tasks"]
    return {entry["task"]: entry.get("version") or str(entry.get("load_error")) for entry in listed}


class Moto:
    """A process that speaks S3 and keeps its objects in memory: when it is started again it has none."""

    def __init__(self):
        self.port = free_port()
        self.process: subprocess.Popen | None = None

    async def start(self) -> None:
        program = ROOT / ".cache/s3/bin/moto_server"
        if not program.exists():
            raise SystemExit("bucket: moto is missing; `make s3` fetches it")
        command = [program, "-H", HOST, "-p", str(self.port)]
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        if await until(self.answers, 60) is None:
            raise RuntimeError("moto does not start")

    async def answers(self) -> bool:
        try:
            return (await Client(self.port).call("GET", "/")).status == 200
        except Broken:
            return False

    async def call(self, method: str, path: str, body: bytes = b"") -> bytes:
        answer = await Client(self.port).call(method, path, body, {"authorization": CREDENTIAL})
        assert answer.status == 200, f"moto: {method} {path}: {answer.status}"
        return answer.body

    async def stop(self) -> dict[str, bytes]:
        """Ends the process; returns its objects."""
        listed = (await self.call("GET", f"/{BUCKET}?list-type=2")).decode()
        keys = [part.split("</Key>")[0] for part in listed.split("<Key>")[1:]]
        objects = {key: await self.call("GET", f"/{BUCKET}/{key}") for key in keys}
        self.end()
        return objects

    async def start_with(self, objects: dict[str, bytes]) -> None:
        await self.start()
        await self.call("PUT", f"/{BUCKET}")
        for key, data in objects.items():
            await self.call("PUT", f"/{BUCKET}/{key}", data)

    def end(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()


class Proxy:
    """Stands before the S3 server and fails as it is told."""

    def __init__(self, moto: Moto):
        self.moto = moto
        self.port = free_port()
        self.fault = ""
        self.objects: dict[str, bytes] = {}
        self.listener: asyncio.Server | None = None
        self.open: set[asyncio.StreamWriter] = set()

    async def start(self) -> None:
        self.listener = await asyncio.start_server(self.serve, HOST, self.port)

    async def fail(self, fault: str) -> None:
        self.fault = fault
        if fault == "stopped":
            self.objects = await self.moto.stop()
        if fault in ("refuse", "stopped"):
            self.listener.close()
        self.cut_all()

    async def mend(self) -> None:
        if self.fault == "stopped":
            await self.moto.start_with(self.objects)
        if self.fault in ("refuse", "stopped"):
            await self.start()
        self.fault = ""
        self.cut_all()

    def cut_all(self) -> None:
        for writer in list(self.open):
            writer.transport.abort()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.open.add(writer)
        try:
            if self.fault == "hang":
                while self.fault == "hang":
                    await asyncio.sleep(0.05)
            elif self.fault == "nonsense":
                await reader.read(1)
                writer.write(b"\x00\xff garbage \r\n\r\n" * 100)
                await writer.drain()
            elif self.fault == "error 500":
                await reader.readuntil(b"\r\n\r\n")
                writer.write(b"HTTP/1.1 500 Internal Server Error\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
                await writer.drain()
            else:
                await self.pass_on(reader, writer)
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            self.open.discard(writer)
            writer.close()

    async def pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far_reader, far_writer = await asyncio.open_connection(HOST, self.moto.port)
        try:
            await asyncio.wait(
                [
                    asyncio.ensure_future(self.copy(reader, far_writer)),
                    asyncio.ensure_future(self.copy(far_reader, writer)),
                ],
                return_when=asyncio.FIRST_COMPLETED,
            )
        finally:
            far_writer.close()

    async def copy(self, source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
        try:
            while data := await source.read(1 << 16):
                if self.fault == "break off" and len(data) > 64:
                    # the beginning of what is passed on, and no more
                    target.write(data[: len(data) // 2])
                    await target.drain()
                    target.transport.abort()
                    return
                target.write(data)
                await target.drain()
        except OSError:
            pass
