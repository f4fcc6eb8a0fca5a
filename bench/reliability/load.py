"""Calls at a rate that does not wait for answers, or by workers that do."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

from client import Answer, Client, Tally


async def at_rate(make: Callable[[int], Awaitable], rate: float, seconds: float, most: int) -> tuple[int, int]:
    """Starts `rate` calls a second, whatever became of those before, as long as fewer than `most` are open. Returns
    how many were started, and how many were not because so many were open."""
    open_calls: set[asyncio.Task] = set()
    start, number, left_out = time.monotonic(), 0, 0
    while (passed := time.monotonic() - start) < seconds:
        while number + left_out < passed * rate:
            if len(open_calls) >= most:
                left_out += 1
                continue
            task = asyncio.ensure_future(make(number))
            open_calls.add(task)
            task.add_done_callback(open_calls.discard)
            number += 1
        await asyncio.sleep(0.002)
    await asyncio.gather(*open_calls)
    return number, left_out


class Workers:
    """So many callers, each with one call at a time, until told to stop."""

    def __init__(self, make: Callable[[int], Awaitable], count: int):
        self.make, self.count = make, count
        self.going = True
        self.number = 0
        self.tasks: list[asyncio.Task] = []

    async def __aenter__(self) -> Workers:
        self.tasks = [asyncio.ensure_future(self.work()) for _ in range(self.count)]
        return self

    async def __aexit__(self, *_) -> None:
        self.going = False
        await asyncio.gather(*self.tasks)

    async def work(self) -> None:
        while self.going:
            self.number += 1
            await self.make(self.number)


async def usual_ms(call: Callable[[], Awaitable[Answer]], times: int = 50) -> float:
    """The median time of a call when nothing else is done."""
    seconds = []
    for _ in range(times):
        seconds.append((await call()).seconds)
        await asyncio.sleep(0.01)
    return 1000 * sorted(seconds)[times // 2]


async def recovery(client: Client, task: str, usual: float, limit: float = 60) -> float | None:
    """Seconds until twenty calls in a row take at most twice as long as usual (and 10 ms: the clock of a busy
    machine)."""
    start, good, first_good = time.monotonic(), 0, 0.0
    tally = Tally()
    while time.monotonic() - start < limit:
        begun = time.monotonic() - start
        answer = await tally.of(client.predict(task, {"input": "is it over?"}))
        is_good = answer is not None and answer.status == 200 and 1000 * answer.seconds <= 2 * usual + 10
        first_good = first_good if is_good and good else begun
        good = good + 1 if is_good else 0
        if good == 20:
            return round(first_good, 3)
        await asyncio.sleep(0.02)
    return None
