"""outage: the folder of the prompts goes away and comes back, again and again, while calls run. What is in memory goes
on answering, what is not says so, changes are refused, and afterwards all is as before."""

from __future__ import annotations

import asyncio
from collections import Counter

from client import Client, Tally
from load import Workers
from prompts import TEXTS, put, sentiment, version_of
from server import Server, metrics, until

TASKS = 8
AWAY_SECONDS = 1.0
AGAIN_WITHIN = 40  # looks come every 30 s at most while the store is away


async def run(args) -> tuple[dict, list[str]]:
    folder = args.folder / "prompts"
    base = sentiment()
    files = {f"task-{i}": base.scaled(1 - 0.01 * i).to_bytes() for i in range(TASKS)}
    for task, data in files.items():
        put(folder, task, data)
    in_memory, lost = await rounds(args, folder, files, [])
    # room for the rows of two tasks, so that most are read when they are asked for
    bytes_of_one = 4 * base.manifest["d_model"] * base.manifest["tokens"]
    tight, more = await rounds(args, folder, files, ["--max-resident-bytes", str(2 * bytes_of_one)])
    broken = lost + more
    if set(in_memory["calls"]["statuses"]) != {"200"} or in_memory["calls"]["broken"]:
        broken.append("a task in memory did not answer while the folder was away")
    if not set(tight["calls"]["statuses"]) <= {"200", "503"} or tight["calls"]["broken"]:
        broken.append("a task that is not in memory got something else than 200 or 503")
    return {"rounds": args.rounds, "all_in_memory": in_memory, "two_in_memory": tight}, broken


async def rounds(args, folder, files: dict[str, bytes], flags: list[str]) -> tuple[dict, list[str]]:
    away = folder.with_name("away")
    server = Server(args.server, args.folder, folder, *flags)
    tally, changes, back, lost = Tally(), Counter(), [], []
    try:
        client = await server.start()
        names = list(files)
        call = lambda i: tally.of(client.predict(names[i % len(names)], {"input": TEXTS[i % 4]}))  # noqa: E731
        async with Workers(call, 2):
            for i in range(args.rounds):
                task = names[i % len(names)]
                folder.rename(away)
                await asyncio.sleep(AWAY_SECONDS)
                changes[(await client.call("PUT", f"/tasks/{task}", files[task])).status] += 1
                away.rename(folder)
                back.append(await until(lambda: reachable(client), AGAIN_WITHIN))
                lost += await differences(client, files)
            # and a change goes through again
            changed = (await client.call("PUT", f"/tasks/{names[0]}", files[names[1]])).status
            restored = (await client.call("POST", f"/tasks/{names[0]}/rollback")).status
        figures = {
            "calls": tally.figures(),
            "changes_while_away": {str(status): count for status, count in changes.items()},
            "seen_again_after_s": max((seconds for seconds in back if seconds is not None), default=None),
            "exit_status": await server.stop(),
        }
    finally:
        server.end()
    if None in back:
        lost.append(f"the folder was not seen again within {AGAIN_WITHIN} s")
    if set(changes) != {503}:
        lost.append("a change while the folder was away was not refused with 503")
    if (changed, restored) != (200, 200):
        lost.append("afterwards a change was refused")
    if tally.without_retry_after:
        lost.append("a 503 came without Retry-After")
    return figures, lost


async def reachable(client: Client) -> bool:
    return (await metrics(client))["xprompt_store_reachable"] == 1


async def differences(client: Client, files: dict[str, bytes]) -> list[str]:
    listed = (await client.call("GET", "/tasks")).json()["tasks"]
    served = {task["task"]: task["version"] for task in listed}
    wanted = {task: version_of(data) for task, data in files.items()}
    return [] if served == wanted else [f"other tasks or versions than before: {served}"]
