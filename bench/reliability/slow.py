"""slow: clients that send a byte now and then, that send nothing, that read nothing. Others are answered meanwhile, and
the slow ones are let go when their time is over."""

from __future__ import annotations

import asyncio
import json
import socket
import time
from collections import Counter

from client import HOST, Client, Tally, request
from load import Workers, usual_ms
from prompts import TEXTS, put, sentiment
from server import Server, until

READ_TIMEOUT = 5
DRIP_EVERY = 0.5
# a connection may take its time for the head, for the body and for the answer, and some more
LET_GO_AFTER = 4 * READ_TIMEOUT + 5
BODY = json.dumps({"input": TEXTS[0]}).encode()


async def run(args) -> tuple[dict, list[str]]:
    prompts = args.folder / "prompts"
    put(prompts, "sentiment", sentiment().to_bytes())
    put(prompts, "story", sentiment().writing_text(200).to_bytes())
    figures, broken = await beside_others(args, prompts)
    figures["all_places_taken"], more = await all_places_taken(args, prompts)
    return figures, broken + more


async def beside_others(args, prompts) -> tuple[dict, list[str]]:
    server = Server(args.server, args.folder, prompts, "--read-timeout", f"{READ_TIMEOUT}s")
    try:
        client = await server.start()
        usual = await usual_ms(lambda: client.predict("sentiment", {"input": TEXTS[0]}))
        before, memory = server.descriptors(), server.memory()["rss"]
        server.forget_peak()
        tally, kinds = Tally(), {kind.__name__: [] for kind in (nothing, head, body, reads_nothing, reads_no_stream)}
        slow = []
        for kind in (nothing, head, body, reads_nothing, reads_no_stream):
            for _ in range(args.rounds):
                slow.append(asyncio.ensure_future(watched(kind, server.port, kinds[kind.__name__])))
        async with Workers(lambda _: tally.of(client.predict("sentiment", {"input": TEXTS[0]})), 2):
            await asyncio.gather(*slow)
        peak = server.memory()["peak"]
        client.close()
        settled = await until(lambda: back_to(server, before + 2), 10)
        figures = {
            "slow_clients": len(slow),
            "ended": {kind: dict(Counter(how for how, _ in ends)) for kind, ends in kinds.items()},
            "longest_s": {kind: round(max(seconds for _, seconds in ends), 1) for kind, ends in kinds.items()},
            "others": tally.figures(),
            "others_usual_ms": round(usual, 1),
            "rss_mib": {"before": memory, "peak": peak, "after": server.memory()["rss"]},
            "descriptors": {"before": before, "after": server.descriptors()},
            "exit_status": await server.stop(),
        }
    finally:
        server.end()
    broken = []
    if not tally.only(200):
        broken.append("a client that is not slow was not answered")
    if any(how == "held" for ends in kinds.values() for how, _ in ends):
        broken.append(f"a slow client was still there after {LET_GO_AFTER} s")
    if settled is None:
        broken.append("connections are left")
    return figures, broken


async def all_places_taken(args, prompts) -> tuple[dict, list[str]]:
    """As many clients that send nothing as there are places: who comes then waits until one of them is let go."""
    places = 50
    flags = ("--read-timeout", f"{READ_TIMEOUT}s", "--max-connections", str(places))
    server = Server(args.server, args.folder, prompts, *flags)
    try:
        client = await server.start()
        client.close()
        slow = [asyncio.ensure_future(watched(head, server.port, [])) for _ in range(places)]
        await asyncio.sleep(1)
        tally = Tally()
        await asyncio.gather(*(tally.of(Client(server.port).predict("sentiment", {"input": "x"})) for _ in range(20)))
        await asyncio.gather(*slow)
    finally:
        server.end()
    figures = tally.figures() | {"longest_s": round(max(tally.seconds, default=0), 1)}
    held = tally.only(200) and max(tally.seconds) <= 2 * READ_TIMEOUT
    return figures, [] if held else ["a client waited longer for a place than slow clients may take"]


async def back_to(server: Server, descriptors: int) -> bool:
    return server.descriptors() <= descriptors


# === kinds of slow clients: each returns how it ended ===


async def watched(kind, port: int, ends: list) -> None:
    start = time.monotonic()
    try:
        how = await asyncio.wait_for(kind(port), LET_GO_AFTER)
    except asyncio.TimeoutError:
        how = "held"
    ends.append((how, time.monotonic() - start))


async def nothing(port: int) -> str:
    """Connects and says nothing."""
    reader, writer = await asyncio.open_connection(HOST, port)
    return await end_of(reader, writer)


async def head(port: int) -> str:
    """Sends a head byte by byte."""
    reader, writer = await asyncio.open_connection(HOST, port)
    return await drip(reader, writer, request("POST", "/tasks/sentiment/predict", BODY))


async def body(port: int) -> str:
    """Sends a head, and a body byte by byte."""
    reader, writer = await asyncio.open_connection(HOST, port)
    whole = request("POST", "/tasks/sentiment/predict", BODY)
    writer.write(whole[: -len(BODY)])
    return await drip(reader, writer, BODY)


async def reads_nothing(port: int) -> str:
    """Asks for far more than the system buffers, and reads nothing."""
    return await asks_and_waits(port, request("GET", "/openapi.json") * 400)


async def reads_no_stream(port: int) -> str:
    """Asks for streams one after the other on a connection, and reads nothing."""
    stream = json.dumps({"input": TEXTS[0], "stream": True, "max_new_tokens": 8}).encode()
    asked = request("POST", "/tasks/story/predict", stream) + request("GET", "/openapi.json") * 400
    return await asks_and_waits(port, asked)


async def drip(reader, writer, data: bytes) -> str:
    ended = asyncio.ensure_future(end_of(reader, writer))
    for byte in data:
        if ended.done():
            break
        try:
            writer.write(bytes([byte]))
            await writer.drain()
        except OSError:
            break
        await asyncio.sleep(DRIP_EVERY)
    return await ended


async def end_of(reader, writer) -> str:
    """What the server said before it closed."""
    try:
        said = await reader.read()
    except OSError:
        said = b""
    writer.close()
    return said.split(b" ", 2)[1].decode() if said.startswith(b"HTTP/") else "closed"


async def asks_and_waits(port: int, data: bytes) -> str:
    """Writes as much as is taken, reads nothing, and notices by writing that the server has closed."""
    mine = socket.socket()
    mine.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    mine.setblocking(False)
    loop = asyncio.get_running_loop()
    try:
        await loop.sock_connect(mine, (HOST, port))
        await loop.sock_sendall(mine, data)
        while mine.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == 0 and not is_reset(mine):
            await asyncio.sleep(0.2)
    except OSError:
        pass
    finally:
        mine.close()
    return "closed"


def is_reset(mine: socket.socket) -> bool:
    """TCP's state of the connection, the first byte of what the system tells about it: 1 is established."""
    return mine.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0] != 1
