#!/usr/bin/env python3
"""Tables of docs/performance-gpu.md from the lines that the programs of this folder print.

    python3 bench/gpu/tables.py LINES.jsonl ...                               # to look at
    python3 bench/gpu/tables.py LINES.jsonl ... --into docs/performance-gpu.md  # between the page's two marks

Lines of one measurement that was made several times count as one: the median of their medians, the range of all.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import defaultdict
from pathlib import Path

BEGIN, END = "<!-- tables: begin -->", "<!-- tables: end -->"
SHAPES = ["tiny", "base", "large", "xl", "xxl"]
TITLES = {
    "tune": "Tuning step",
    "score": "Encoder and one decoder step",
    "generate": "Generation, greedy, with a key/value cache",
}
WORDS = {
    "eager": "PyTorch, eager",
    "block": "PyTorch, each block compiled",
    "default": "PyTorch, `torch.compile`",
    "reduce-overhead": "PyTorch, `torch.compile`, CUDA graphs",
    "max-autotune": "PyTorch, `torch.compile` max-autotune, CUDA graphs",
    "max-autotune-no-cudagraphs": "PyTorch, `torch.compile` max-autotune",
    "cuda-graph": "PyTorch, eager kernels in a CUDA graph",
    "static": "PyTorch, static cache, compiled",
    "peft": "PEFT, eager",
    "ctranslate2": "CTranslate2, a text of the same length",
}
UNITS = {"tune": "tokens/s", "score": "examples/s", "generate": "new tokens/s"}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="+", type=Path)
    parser.add_argument("--into", type=Path, help=f"replace what stands between {BEGIN} and {END} in this file")
    args = parser.parse_args()
    text = tables(line for file in args.files for line in read(file))
    if args.into is None:
        print(text)
        return 0
    page = args.into.read_text()
    if page.count(BEGIN) != 1 or page.count(END) != 1:
        print(f"{args.into}: {BEGIN} and {END} have to be there, each once", file=sys.stderr)
        return 1
    before, rest = page.split(BEGIN)
    _, after = rest.split(END)
    args.into.write_text(f"{before}{BEGIN}\n{text}\n{END}{after}")
    return 0


def read(file: Path):
    """The lines that are JSON objects; programs say other things between them."""
    for number, text in enumerate(file.read_text().splitlines(), 1):
        if not text.startswith("{"):
            continue
        try:
            line = json.loads(text)
        except ValueError as error:
            raise SystemExit(f"{file}:{number}: {error}") from error
        if "bench" in line and "status" in line:
            yield line


def family(bench: str) -> str:
    return "tune" if bench.startswith("tune") else bench


def name(line: dict) -> str:
    if line["by"] != "xprompt":
        return WORDS.get(line.get("mode", ""), line.get("mode", line["by"]))
    graph = {"tune-labels": ", label loss", "tune-text": ", vocabulary loss"}.get(line["bench"], "")
    mode = f", {line['mode']}" if line.get("mode") else ""
    return f"**xprompt**{graph}{mode}"


def merged(lines: list[dict]) -> dict:
    """Several measurements of the same as one."""
    good = sorted((line for line in lines if line["status"] == "ok"), key=lambda line: line["median_ms"])
    if not good:
        return lines[-1]
    middle = good[len(good) // 2]
    return middle | {
        "min_ms": min(line.get("min_ms", line["median_ms"]) for line in good),
        "p90_ms": max(line.get("p90_ms", line["median_ms"]) for line in good),
        "times": len(good),
    }


def tables(lines) -> str:
    by_key: dict[tuple, list[dict]] = defaultdict(list)
    floors: dict[tuple, float] = {}
    rates: dict[tuple, float] = {}
    others: dict[str, list[dict]] = {bench: [] for bench in OTHERS}
    for line in lines:
        if line["bench"] in others:
            others[line["bench"]].append(line)
            continue
        if line["by"] == "floor":
            at = (line["bench"], line["shape"], line["batch"])
            floors[at], rates[at] = line["median_ms"], line["tflops"]
            continue
        precision = line.get("precision", line.get("dtype", ""))
        by_key[line["bench"], line["shape"], line["batch"], name(line), precision].append(line)
    found = [(key, merged(group)) for key, group in by_key.items()]
    cards = sorted({line["card"] for _, line in found if "card" in line})
    versions = sorted({f"{what} {v}" for _, line in found for what, v in line.get("versions", {}).items()})
    parts = [f"Card: {', '.join(cards) or 'not said'}. Versions: {', '.join(versions) or 'not said'}."]
    for bench, title in TITLES.items():
        of_bench = [(key, line) for key, line in found if family(key[0]) == bench]
        if of_bench:
            parts.append(f"### {title}\n\n{table(bench, of_bench, floors)}")
    for bench, (title, make) in OTHERS.items():
        if others[bench]:
            parts.append(f"### {title}\n\n{make(others[bench])}")
    if floors:
        parts.append(f"### The matrix products alone\n\n{floor_table(floors, rates)}")
    return "\n\n".join(parts)


def table(bench: str, found: list[tuple], floors: dict[tuple, float]) -> str:
    rows = [
        f"| shape | batch | program | | median ms | min … p90 | {UNITS[bench]} | of products | memory, MiB | slower than ours |",
        "| --- | ---: | --- | --- | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]

    def order(entry: tuple):
        (_, shape, batch, _, _), line = entry
        return (SHAPES.index(shape), batch, line["by"] != "xprompt", line.get("median_ms", float("inf")))

    for (graph, shape, batch, words, precision), line in sorted(found, key=order):
        start = f"| {shape} | {batch} | {words} | {precision} |"
        if line["status"] != "ok":
            rows.append(f"{start} {line['status']} | {said(line)} | | | | |")
            continue
        median = line["median_ms"]
        rate = line["tokens_per_s"] if bench in ("tune", "generate") else line["examples_per_s"]
        floor = floors.get((graph if graph != "tune" else "tune-text", shape, batch))
        share = f"{100 * floor / median:.0f} %" if floor else ""
        ours = best(found, shape, batch, line)
        ratio = f"{median / ours:.2f}" if ours and line["by"] != "xprompt" else ""
        rows.append(
            f"{start} {median:.1f} | {line['min_ms']:.1f} … {line['p90_ms']:.1f} | {rate:,.0f} | {share} | "
            f"{memory(line)} | {ratio} |"
        )
    return "\n".join(rows)


def said(line: dict) -> str:
    if line["status"] == "over budget":
        return f"not done in {line['budget_s']:.0f} s"
    return line.get("reason", "").replace("|", "/")[:80]


def memory(line: dict) -> str:
    rise, allocated = line.get("rise_mib"), line.get("allocated_mib")
    tensors = f" ({allocated:,} of tensors)" if allocated is not None else ""
    return f"{rise:,}{tensors}" if rise is not None else tensors.strip(" ()")


def best(found: list[tuple], shape: str, batch: int, peer: dict) -> float | None:
    """Our fastest in the peer's format; of tuning steps the one with the peer's loss."""
    times = [
        line["median_ms"]
        for (graph, of_shape, of_batch, _, precision), line in found
        if line["by"] == "xprompt"
        and line["status"] == "ok"
        and (of_shape, of_batch) == (shape, batch)
        and precision == peer.get("dtype", "bf16")
        and graph != "tune-labels"
    ]
    return min(times, default=None)


def floor_table(floors: dict[tuple, float], rates: dict[tuple, float]) -> str:
    rows = ["| shape | batch | graph | ms | TFLOP/s |", "| --- | ---: | --- | ---: | ---: |"]
    for graph, shape, batch in sorted(floors, key=lambda at: (SHAPES.index(at[1]), at[2], at[0])):
        at = (graph, shape, batch)
        rows.append(f"| {shape} | {batch} | {graph} | {floors[at]:.2f} | {rates[at]:.0f} |")
    return "\n".join(rows)


def memory_table(lines: list[dict]) -> str:
    rows = [
        "| shape | precision | weights | the weights alone, MiB | scoring loaded | and generation | and tuning | and losses |",
        "| --- | --- | --- | ---: | ---: | ---: | ---: | ---: |",
    ]
    for line in lines:
        start = f"| {line['shape']} | {line['precision']} | {'shared' if line['shared'] else 'a copy for each session'} |"
        steps = [line.get(f"{step}_mib") for step in ("weights", "scoring", "generation", "tuning", "losses")]
        cells = " | ".join("" if step is None else f"{step:,}" for step in steps)
        rows.append(f"{start} {cells} |" + ("" if line["status"] == "ok" else f" {said(line)}"))
    return "\n".join(rows)


def accuracy_table(lines: list[dict]) -> str:
    rows = [
        "| prompt | rows | precision | metric | answers as in f32 | probabilities apart: mean | nine of ten rows below | at most |",
        "| --- | ---: | --- | --- | ---: | ---: | ---: | ---: |",
    ]
    for line in lines:
        start = f"| {line['prompt']} | {line.get('rows', '')} | {line['precision']} |"
        if line["status"] != "ok":
            rows.append(f"{start} {said(line)} | | | | |")
            continue
        metric, value = next(iter(line["metrics"].items()))
        same = f"{line['same']} ({100 * line['same'] / max(1, line['rows']):.2f} %)"
        apart = [line[key] for key in ("mean_difference", "ninth_tenth", "largest_difference")]
        cells = " | ".join("" if x is None else f"{x:.1e}" for x in apart)
        rows.append(f"{start} {metric} {100 * value:.2f} % | {same} | {cells} |")
    return "\n".join(rows)


def search_table(lines: list[dict]) -> str:
    rows = ["| tasks | where | seconds | the parts' | tuned and XPrompt on test |", "| --- | --- | ---: | --- | --- |"]
    for line in lines:
        start = f"| {', '.join(line['tasks'])} | {line.get('on', line['device'])} |"
        if line["status"] != "ok":
            rows.append(f"{start} {said(line)} | | |")
            continue
        parts = ", ".join(f"{part} {seconds:.0f}" for part, seconds in line["parts"].items())
        test = ", ".join(
            f"{task} {' and '.join(f'{100 * value:.1f} %' for value in values.values())}"
            for task, values in line["test"].items()
        )
        rows.append(f"{start} {line['seconds']:.0f} | {parts} | {test} |")
    return "\n".join(rows)


OTHERS = {
    "memory": ("One process that scores, generates and tunes", memory_table),
    "search": ("The whole method, on a GPU and on a CPU", search_table),
    "accuracy": ("Precisions against f32 on real rows", accuracy_table),
}


if __name__ == "__main__":
    sys.exit(main())
