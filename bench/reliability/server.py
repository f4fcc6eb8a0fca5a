"""The server as a process of its own, and what can be seen of it from outside."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import socket
import subprocess
import time
from pathlib import Path

from client import HOST, Broken, Client

ROOT = Path(__file__).resolve().parent.parent.parent


class Server:
    def __init__(self, program: Path, folder: Path, prompts: Path | str, *flags: str, port: int | None = None):
        self.port = port or free_port()
        self.log = folder / f"server-{self.port}.log"
        self.command = [program, "--prompts", prompts, "--listen", f"{HOST}:{self.port}", "--log-level", "warn"]
        self.command += ["--poll-interval", "100ms", *flags]
        self.process: subprocess.Popen | None = None
        self.read_log = 0

    async def start(self, environment: dict[str, str] | None = None) -> Client:
        """Starts the process and waits until it is ready."""
        self.begin(environment)
        client = Client(self.port)
        await self.ready(client)
        return client

    def begin(self, environment: dict[str, str] | None = None) -> None:
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(
                [str(part) for part in self.command], cwd=ROOT, stderr=log, env=os.environ | (environment or {})
            )

    async def ready(self, client: Client) -> None:
        limit = time.monotonic() + 120
        while time.monotonic() < limit:
            if self.process.poll() is not None:
                raise RuntimeError(f"the server ended with {self.process.returncode}: {self.last_words()}")
            try:
                if (await client.call("GET", "/health/ready")).status == 200:
                    self.read_log = self.log.stat().st_size
                    return
            except Broken:
                pass
            await asyncio.sleep(0.02)
        raise RuntimeError(f"the server is not ready after two minutes: {self.last_words()}")

    def last_words(self) -> str:
        return self.log.read_text(errors="replace")[-2000:]

    def warnings(self) -> list[str]:
        """Warnings and errors that were logged since the server was ready."""
        lines = self.log.read_bytes()[self.read_log :].decode(errors="replace").splitlines()
        return [line for line in lines if " WARN " in line or " ERROR " in line]

    async def stop(self, number: int = signal.SIGTERM) -> int:
        self.process.send_signal(number)
        return await asyncio.to_thread(self.process.wait, 60)

    def end(self) -> None:
        """Whatever state it is in."""
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait()

    # === what it takes ===

    def memory(self) -> dict[str, float]:
        """Resident memory in MiB: now, of that anonymous, and the most since `forget_peak`."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        of = lambda name: round(int(re.search(rf"{name}:\s+(\d+)", status)[1]) / 1024, 1)  # noqa: E731
        return {"rss": of("VmRSS"), "anonymous": of("RssAnon"), "peak": of("VmHWM")}

    def forget_peak(self) -> None:
        Path(f"/proc/{self.process.pid}/clear_refs").write_text("5")

    def descriptors(self) -> int:
        return len(os.listdir(f"/proc/{self.process.pid}/fd"))

    def cpu_seconds(self) -> float:
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


async def metrics(client: Client) -> dict[str, float]:
    lines = (await client.call("GET", "/metrics")).body.decode().splitlines()
    pairs = (line.rsplit(" ", 1) for line in lines if line and not line.startswith("#"))
    return {name: float(value) for name, value in pairs}


async def until(holds, seconds: float, pause: float = 0.05) -> float | None:
    """Seconds until something holds; None if it does not in time."""
    start = time.monotonic()
    while time.monotonic() - start < seconds:
        if await holds():
            return round(time.monotonic() - start, 3)
        await asyncio.sleep(pause)
    return None


def free_port() -> int:
    with socket.socket() as free:
        free.bind((HOST, 0))
        return free.getsockname()[1]
