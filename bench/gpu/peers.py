#!/usr/bin/env python3
"""What a user would take instead: frozen T5 v1.1 shapes with a soft prompt, by transformers, PEFT and CTranslate2.

    python3 bench/gpu/peers.py tune     --shapes large,xl --modes eager,block,reduce-overhead
    python3 bench/gpu/peers.py score    --shapes base,large,xl --batches 1,8,32,128
    python3 bench/gpu/peers.py generate --shapes base,large,xl --batches 1,8,32,128

tune      one step: loss of all examples, gradient of the prompt rows only (no weight has a gradient)
score     encoder and one decoder step, no gradient
generate  16 tokens, greedy, with a key/value cache

Modes of PyTorch: eager; block (every transformer block compiled by itself); default, reduce-overhead, max-autotune and
max-autotune-no-cudagraphs (the whole forward pass by torch.compile's mode of that name; the second and third run as
CUDA graphs); cuda-graph (eager kernels captured by hand); peft (PEFT's PromptTuning, eager); static (generate only:
transformers' static cache, whose decoder it compiles by itself). ctranslate2 takes no soft prompt: it gets texts as
long as prompt and text together.

Weights are random, made on the device in bf16: speed does not depend on their values. There is no padding in the texts,
and dropout is off. A shape has a process, which makes its model once; it is started again where a line takes longer
than --budget seconds or ends it. Each line is one JSON object: medians of --reps repetitions after a warm-up,
`first_ms` with the compilation. Memory: `allocated_mib` is torch.cuda.max_memory_allocated over the line, `rise_mib`
what nvidia-smi shows more than before the process, once the memory of earlier lines was given back.

--warm N compiles what has to be compiled in N processes side by side first: what they leave in PyTorch's cache makes
the lines come sooner, not faster.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import queue
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

from common import SHAPES, names, numbers, used_mib

HERE = Path(__file__).resolve().parent
COMPILED = ("default", "reduce-overhead", "max-autotune", "max-autotune-no-cudagraphs")
STEP_MODES = ("eager", "cuda-graph", "peft", "block", *COMPILED)
MODES = {
    "tune": STEP_MODES,
    "score": (*STEP_MODES, "ctranslate2"),
    "generate": ("eager", "peft", "static", "ctranslate2"),
}
USUAL = {
    "tune": ["eager", "cuda-graph", "peft", "block", "reduce-overhead"],
    "score": ["eager", "cuda-graph", "peft", "reduce-overhead", "ctranslate2"],
    "generate": ["eager", "peft", "static", "ctranslate2"],
}


def main() -> int:
    args = parse()
    if args.jobs:
        return work(args)
    if args.warm:
        warm(args)
    failures = 0
    for shape in args.shapes:
        # each library has a process; what compiles comes last, because it may take too long
        libraries = [[], []]
        for mode in sorted(args.modes, key=compiles):
            libraries[mode == "ctranslate2"] += [(mode, batch) for batch in args.batches]
        for jobs in libraries:
            for line in lines_of(args, shape, jobs):
                failures += line["status"] == "failed"
                print(json.dumps(line), flush=True)
    return 1 if failures else 0


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=MODES)
    parser.add_argument("--shapes", type=names, default=["base", "large", "xl"], help=", ".join(SHAPES))
    parser.add_argument("--batches", type=numbers, default=[32])
    parser.add_argument("--modes", type=names, default=None)
    parser.add_argument("--text", type=int, default=128, help="text tokens of an example (default: 128)")
    parser.add_argument("--prompt", type=int, default=20, help="prompt rows in front of them (default: 20)")
    parser.add_argument("--target", type=int, default=4, help="decoder tokens of tune (default: 4)")
    parser.add_argument("--new-tokens", type=int, default=16, help="tokens of generate (default: 16)")
    parser.add_argument("--reps", type=int, default=15)
    parser.add_argument("--budget", type=float, default=180, help="seconds for one line, compilation included")
    parser.add_argument("--warm", type=int, default=0, help="processes that compile beforehand, side by side")
    parser.add_argument("--device", default="cuda", help="cuda or, to try the script out, cpu")
    parser.add_argument("--jobs", type=names, default=None, help=argparse.SUPPRESS)
    parser.add_argument("--smi-before", type=int, default=None, help=argparse.SUPPRESS)
    args = parser.parse_args()
    args.modes = args.modes or USUAL[args.what]
    for given, known, flag in ((args.shapes, SHAPES, "--shapes"), (args.modes, MODES[args.what], "--modes")):
        if unknown := [name for name in given if name not in known]:
            parser.error(f"{flag}: unknown {', '.join(unknown)}; choose from {', '.join(known)}")
    return args


def compiles(mode: str) -> bool:
    return mode in COMPILED or mode in ("block", "static")


# === Processes ===


class Child:
    """A process that makes a model and prints a line for each of its jobs."""

    def __init__(self, args: argparse.Namespace, shape: str, jobs: list[tuple[str, int]], reps: int) -> None:
        options = {"--shapes": shape, "--device": args.device, "--reps": reps, "--text": args.text}
        options |= {"--prompt": args.prompt, "--target": args.target, "--new-tokens": args.new_tokens}
        options["--jobs"] = ",".join(f"{mode}:{batch}" for mode, batch in jobs)
        if args.device == "cuda" and (before := used_mib()) is not None:
            options["--smi-before"] = before
        command = [sys.executable, str(HERE / "peers.py"), args.what]
        command += [str(part) for pair in options.items() for part in pair]
        self.errors = tempfile.TemporaryFile(mode="w+")
        # a session of its own: PyTorch compiles in processes below this one
        self.process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=self.errors, text=True, start_new_session=True
        )
        self.said: queue.Queue[str | None] = queue.Queue()
        threading.Thread(target=self.listen, daemon=True).start()

    def listen(self) -> None:
        for line in self.process.stdout:
            self.said.put(line)
        self.said.put(None)

    def line(self, seconds: float) -> dict | None:
        """The next line; none if the process ends without one. Raises queue.Empty when the time is over."""
        end = time.monotonic() + seconds
        while (text := self.said.get(timeout=max(0.0, end - time.monotonic()))) is not None:
            if text.startswith("{"):
                return json.loads(text)
        return None

    def end(self) -> str:
        """Ends the process, if it has not ended, and returns the last that it complained of."""
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        self.errors.seek(0)
        said = self.errors.read().strip().splitlines() or ["it said nothing"]
        self.errors.close()
        return next((line for line in reversed(said) if "Error" in line), said[-1])[:500]


def lines_of(args: argparse.Namespace, shape: str, jobs: list[tuple[str, int]]):
    """A line for each job, whatever happens to the processes."""
    while jobs:
        child = Child(args, shape, jobs, args.reps)
        while jobs:
            mode, batch = jobs[0]
            by = mode if mode == "ctranslate2" else "torch"
            line = {"bench": args.what, "by": by, "shape": shape, "batch": batch, "mode": mode}
            try:
                found = child.line(args.budget)
            except queue.Empty:
                found = {"status": "over budget", "budget_s": args.budget}
                child.end()
            jobs = jobs[1:]
            if found is None:
                yield line | {"status": "failed", "reason": child.end()}
                break
            yield line | found
            if found["status"] == "over budget":
                break
        else:
            # whatever it does now, its lines were said
            child.end()


def warm(args: argparse.Namespace) -> None:
    # what tries out which kernels are fast needs the card for itself
    waiting = [
        (shape, (mode, batch))
        for mode in args.modes
        if compiles(mode) and not mode.startswith("max-autotune")
        for shape in args.shapes
        for batch in args.batches
    ]
    running: list[Child] = []
    begun = time.monotonic()
    while (waiting or running) and time.monotonic() - begun < args.budget:
        while waiting and len(running) < args.warm:
            shape, job = waiting.pop(0)
            running.append(Child(args, shape, [job], 0))
        time.sleep(0.5)
        for child in [child for child in running if child.process.poll() is not None]:
            running.remove(child)
            child.end()
    for child in running:
        child.end()
    print(f"compiled beforehand: {time.monotonic() - begun:.0f} s", file=sys.stderr)


# === In the process ===


def work(args: argparse.Namespace) -> int:
    (shape,) = args.shapes
    model = None
    for job in args.jobs:
        mode, batch = job.split(":")
        try:
            if mode == "ctranslate2":
                import ct2

                line = ct2.measure(args, shape, int(batch))
            else:
                import peers_torch

                model = model or peers_torch.make_model(shape, args.device)
                line = peers_torch.measure(args, model, mode, int(batch))
        except Exception as error:  # noqa: BLE001: the other lines are still wanted
            words = str(error).strip().splitlines() or [""]
            line = {"status": "failed", "reason": f"{type(error).__name__}: {words[0]}"[:500]}
        print(json.dumps(line), flush=True)
        gc.collect()
    return 0


if __name__ == "__main__":
    sys.exit(main())
