#!/usr/bin/env python3
"""The tables of docs/performance.md from the JSON lines of run.py, servers.py, overhead.py, growth.py and start.py.

    python3 bench/cpu/table.py .cache/bench-cpu/results.jsonl            prints them
    python3 bench/cpu/table.py .cache/bench-cpu/results.jsonl --write    puts them into docs/performance.md

A later line about the same measurement replaces an earlier one. A ratio is taken round by round, ours beside the peer's
measurement of the same round, and the median of these is shown with its smallest and largest.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from pathlib import Path

PAGE = Path(__file__).resolve().parents[2] / "docs" / "performance.md"
MARK = "<!-- {} table: made by bench/cpu/table.py -->"
OURS = ("xprompt-int8", "xprompt-bf16", "xprompt-f32")
EQUAL = {
    "xprompt-int8": ("ctranslate2-int8", "transformers-bf16"),
    "xprompt-bf16": ("transformers-bf16",),
    "xprompt-f32": ("ctranslate2-f32", "onnxruntime-f32"),
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", type=Path)
    parser.add_argument("--write", action="store_true")
    args = parser.parse_args()
    lines = [json.loads(line) for line in args.results.read_text(encoding="utf-8").splitlines()]
    tables = {"engines": engines(lines), "ratios": ratios(lines), "memory": memory(lines), "http": http(lines)}
    tables |= {"overhead": overhead(lines), "growth": growth(lines), "start": start(lines)}
    if not args.write:
        print("\n\n".join(f"## {name}\n\n{table}" for name, table in tables.items() if table))
        return 0
    text = PAGE.read_text(encoding="utf-8")
    for name, table in tables.items():
        begin, end = MARK.format(name), MARK.format(f"end of the {name}")
        if begin not in text or end not in text:
            print(f"{PAGE}: the line {begin} or {end} is missing", file=sys.stderr)
            return 1
        if table:
            text = text[: text.index(begin) + len(begin)] + f"\n\n{table}\n\n" + text[text.index(end) :]
    PAGE.write_text(text, encoding="utf-8")
    return 0


def cells(lines: list[dict]) -> dict[tuple, dict[str, dict]]:
    """The measurements, by what was measured and who did it."""
    found: dict[tuple, dict[str, dict]] = {}
    for line in lines:
        if line["bench"] == "cpu" and line["status"] == "ok":
            key = (line["model"], line["work"], line["texts"], line["batch"])
            found.setdefault(key, {})[line["by"]] = line
    return found


def engines(lines: list[dict]) -> str:
    found = cells(lines)
    by = [name for name in dict.fromkeys(line["by"] for line in lines if line["bench"] == "cpu")]
    by.sort(key=lambda name: (name not in OURS, name))
    rows = []
    for key, measured in found.items():
        fastest = min((line["median_s"], name) for name, line in measured.items())[1]
        texts = [per_text(measured.get(name), name == fastest) for name in by]
        rows.append([*map(str, key), *texts])
    return table(["model", "work", "texts", "batch", *by], rows, 3)


def per_text(line: dict | None, fastest: bool) -> str:
    if line is None:
        return "-"
    scale = 1000 / line["count"]
    text = f"{scale * line['median_s']:.3g}"
    spread = f"{scale * line['min_s']:.3g} … {scale * line['max_s']:.3g}"
    return f"{'**' * fastest}{text}{'**' * fastest} ({spread})"


def ratios(lines: list[dict]) -> str:
    rows = []
    for key, measured in cells(lines).items():
        for ours, peers in EQUAL.items():
            for peer in (*peers, "peft-f32"):
                if ours in measured and peer in measured:
                    rounds = [b / a for a, b in zip(measured[ours]["rounds_s"], measured[peer]["rounds_s"])]
                    spread = f"{min(rounds):.2f} … {max(rounds):.2f}"
                    rows.append([*map(str, key), ours, peer, f"{statistics.median(rounds):.2f}", spread])
    return table(["model", "work", "texts", "batch", "ours", "peer", "times as fast", "of rounds"], rows, 3)


def memory(lines: list[dict]) -> str:
    peaks: dict[tuple, dict] = {}
    for line in lines:
        if line["bench"] == "cpu" and line["status"] == "ok":
            known = peaks.setdefault((line["model"], line["by"]), dict(line))
            known["peak_mib"] = max(known["peak_mib"], line["peak_mib"])
            known |= {key: line[key] for key in ("ready_s", "loaded_mib")}
    rows = [
        [model, by, f"{line['ready_s']:.1f}", f"{line['loaded_mib']:,}", f"{line['peak_mib']:,}"]
        for (model, by), line in peaks.items()
    ]
    return table(["model", "engine", "ready after s", "MiB when loaded", "MiB at the peak"], rows, 2)


def http(lines: list[dict]) -> str:
    rounds: dict[tuple, list[dict]] = {}
    for line in lines:
        if line["bench"] == "cpu-http":
            rounds.setdefault((line["model"], line["texts"], line["by"], line["load"]), []).append(line)
    middle = lambda found, key: statistics.median(line[key] for line in found)  # noqa: E731
    rows = []
    for (*about, load), found in rounds.items():
        numbers = [f"{middle(found, 'per_s'):,.1f}", *(f"{middle(found, f'p{p}_ms'):,.1f}" for p in (50, 90, 99))]
        rows.append([*about, load, *numbers, str(sum(line["failed"] for line in found))])
    return table(["model", "texts", "server", "load", "requests/s", "p50 ms", "p90 ms", "p99 ms", "failed"], rows, 4)


def last(lines: list[dict], bench: str, keys: list[str]) -> list[dict]:
    """The last line about each thing, in the order in which they first came."""
    found = {tuple(line[key] for key in keys): line for line in lines if line["bench"] == bench}
    return list(found.values())


def overhead(lines: list[dict]) -> str:
    rows = []
    for line in last(lines, "cpu-overhead", ["model", "precision", "connections"]):
        own, model = line["own_cpu_us"], 1000 * line["bare_ms"]
        rows.append([
            line["model"], line["precision"], str(line["connections"]), f"{line['per_s']:,.1f}", f"{line['batch']:.1f}",
            f"{model:,.0f}", f"{own:,.0f}", f"{100 * own / model / line['threads']:.1f} %",
            *(f"{line[f'{stage}_us']:,.0f}" for stage in ("tokenize", "queue", "run")),
        ])  # fmt: skip
    head = ["model", "precision", "connections", "requests/s", "mean batch", "bare session µs", "own µs of processor"]
    return table([*head, "share", "tokenize µs", "queue µs", "run µs"], rows, 2)


def growth(lines: list[dict]) -> str:
    found: dict[tuple, dict] = {}
    by: dict[str, None] = {}
    for line in last(lines, "cpu-growth", ["model", "precision", "sweep", "value"]):
        name = f"{line['model']} {line['precision']}"
        by[name] = None
        found.setdefault((line["sweep"], line["value"]), {})[name] = line
    rows = []
    for (sweep, value), measured in found.items():
        times = [f"{measured[name]['ms']:.3g}" if name in measured else "-" for name in by]
        rows.append([sweep, f"{value:,}", *times])
    return table(["grows", "to", *by], rows, 1)


def start(lines: list[dict]) -> str:
    rows = []
    for line in last(lines, "cpu-start", ["model", "precision", "start"]):
        seconds = line["seconds"]
        spread = f"{statistics.median(seconds):.2f} ({min(seconds):.2f} … {max(seconds):.2f})"
        numbers = [f"{line[key]:,}" for key in ("weights_mib", "resident_mib", "private_mib")]
        rows.append([line["model"], line["precision"], line["start"], spread, *numbers])
    head = ["model", "precision", "start", "ready after s", "MiB of weights", "MiB resident", "MiB private"]
    return table(head, rows, 3)


def table(head: list[str], rows: list[list[str]], words: int) -> str:
    """`words` columns at the left hold words, the others numbers."""
    if not rows:
        return ""
    line = lambda parts: f"| {' | '.join(parts)} |"  # noqa: E731
    rule = ["---"] * words + ["---:"] * (len(head) - words)
    return "\n".join([line(head), line(rule), *map(line, rows)])


if __name__ == "__main__":
    sys.exit(main())
