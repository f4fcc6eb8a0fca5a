#!/usr/bin/env python3
"""Tables of docs/experiments.md from the summaries of finished runs: experiments.py OUT, where OUT/TASK/summary.json lie.

Prints Markdown. Standard library only.
"""
import json
import sys
from pathlib import Path
from typing import Any

ARMS = {
    "initial": "untrained prompt",
    "tuned": "**prompt tuning**",
    "token_pruned": "tokens pruned, not retrained",
    "piece_pruned": "pieces pruned too, not retrained",
    "token_only": "tokens only",
    "xprompt": "**XPrompt**",
    "continued": "**tuned on, no mask**",
    "restarts": "best of restarts",
    "piece_only": "pieces only",
    "random_mask": "random mask",
    "reversed_mask": "reversed mask",
    "signed_score": "signed score",
    "leave_one_out": "leave-one-out score",
    "not_rewound": "not rewound",
    "same_length": "same length, from scratch",
    "fresh_start": "mask on the initial values",
}


def percent(value: float) -> str:
    return f"{100 * value:.1f}"


def interval(estimate: dict[str, float] | None) -> str:
    if estimate is None:
        return ""
    value, low, high = (100 * estimate[key] for key in ("value", "low", "high"))
    sure = low > 0 or high < 0
    text = f"{value:+.1f} [{low:+.1f}, {high:+.1f}]".replace("-", "−")
    return f"**{text}**" if sure else text


def spread(values: dict[str, Any]) -> str:
    deviation = values["deviation"]
    return percent(values["mean"]) + ("" if deviation is None else f" ± {100 * deviation:.1f}")


def split(arm: dict[str, Any], name: str) -> dict[str, Any]:
    return next(entry for entry in arm["splits"] if entry["split"] == name)


def overview(runs: list[dict[str, Any]]) -> None:
    print("| task | test rows | most frequent label | prompt tuning | tuned on, no mask | XPrompt | less prompt tuning |"
          " less tuned on | less random mask | values kept | stage one converged |")
    print("|" + " --- |" * 2 + " ---: |" * 9)
    for run in runs:
        arms = {arm["name"]: arm for arm in run["table"]}
        test = {name: split(arm, "test") for name, arm in arms.items()}
        rows = next(data["rows"] for data in run["data"] if data["split"] == "test")
        xprompt = test["xprompt"]
        kept = arms["xprompt"]["parameters"] / arms["tuned"]["parameters"]
        tuned = [arm for seed in run["seeds"] for arm in seed["arms"] if arm["name"] == "tuned"]
        converged = sum(arm["training"]["end"] == "converged" for arm in tuned)
        majority = run["majority"].get("test")
        print(f"| {run['name']} | {rows} | {'' if majority is None else percent(majority)} |"
              f" {spread(test['tuned']['values'][0])} | {spread(test['continued']['values'][0])} |"
              f" {spread(xprompt['values'][0])} | {interval(xprompt['over_tuned'])} |"
              f" {interval(xprompt['over_continued'])} | {interval(xprompt['over_random'])} |"
              f" {percent(kept)} % | {converged} of {len(tuned)} |")


def details(run: dict[str, Any]) -> None:
    seeds = len(run["seeds"])
    print(f"\n### {run['name']}: {run['metrics'][0].replace('_', ' ')} in %, {seeds} seeds\n")
    print("| | dev, choosing | dev, held back | test | test, less prompt tuning | test, less tuned on | tokens | pieces |"
          " steps |")
    print("| --- |" + " ---: |" * 8)
    for arm in run["table"]:
        by_split = [spread(split(arm, name)["values"][0]) for name in ("choose", "report", "test")]
        test = split(arm, "test")
        print(f"| {ARMS.get(arm['name'], arm['name'])} | {' | '.join(by_split)} | {interval(test['over_tuned'])} |"
              f" {interval(test['over_continued'])} | {arm['tokens']:.1f} | {arm['pieces']:.0f} | {arm['steps']:.0f} |")
    chosen = [trial for seed in run["seeds"] for trial in seed["trials"] if trial["chosen"] and trial["level"] == "piece"]
    bias = sum(trial["choose"] - trial["report"] for trial in chosen) / len(chosen)
    ratios = {
        level: ", ".join(f"{100 * trial['ratio']:.0f}" for seed in run["seeds"] for trial in seed["trials"]
                         if trial["chosen"] and trial["level"] == level)
        for level in ("token", "piece")
    }
    print(f"\nShares pruned, by seed: tokens {ratios['token']} %; pieces {ratios['piece']} %. The chosen XPrompts are"
          f" {100 * bias:+.1f} points better on the part of dev that chose them than on the part held back.")


def masking(runs: list[dict[str, Any]]) -> None:
    counts = [masking["masked"] for masking in runs[0]["seeds"][0]["masking"]]
    print("| task | masked | " + " | ".join(str(count) for count in counts) + " |")
    print("| --- | --- |" + " ---: |" * len(counts))
    for run in runs:
        def mean(values: list[float]) -> str:
            return percent(sum(values) / len(values))
        for which in ("lowest", "random", "highest"):
            cells = []
            for i in range(len(counts)):
                values = [seed["masking"][i][which] for seed in run["seeds"]]
                cells.append(mean([x for value in values for x in (value if isinstance(value, list) else [value])]))
            print(f"| {run['name']} | {which} | {' | '.join(cells)} |")


def main() -> None:
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    runs = [json.loads(path.read_text()) for path in sorted(Path(sys.argv[1]).glob("*/summary.json"))]
    if not runs:
        sys.exit(f"experiments: no */summary.json in {sys.argv[1]}")
    overview(runs)
    for run in runs:
        details(run)
    print("\n### Tokens masked without retraining (Figure 2 of the paper), test\n")
    masking(runs)


main()
