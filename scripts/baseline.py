#!/usr/bin/env python3
"""What a trained prompt should beat: the majority class, and TF-IDF with logistic regression.

    python3 -m venv .venv && .venv/bin/pip install scikit-learn==1.9.1
    .venv/bin/python scripts/baseline.py .cache/data/tweets [--train-rows N]

Words and pairs of words, sublinear counts, 50,000 features, C = 10, fitted on train.jsonl only.
Prints accuracy on dev.jsonl and test.jsonl as a Markdown table.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from pathlib import Path

from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help='folder with train, dev and test.jsonl, rows {"text", "label"}')
    parser.add_argument("--train-rows", type=int, help="train on the first N rows only (default: all)", metavar="N")
    args = parser.parse_args()

    texts, labels = read(args.folder / "train.jsonl")
    texts, labels = texts[: args.train_rows], labels[: args.train_rows]
    majority = Counter(labels).most_common(1)[0][0]
    model = make_pipeline(
        TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, max_features=50_000),
        LogisticRegression(C=10, max_iter=1000),
    ).fit(texts, labels)

    scores: dict[str, list[float]] = {f"majority class ({majority})": [], "TF-IDF + logistic regression": []}
    for split in ("dev", "test"):
        texts, wanted = read(args.folder / f"{split}.jsonl")
        for name, guesses in zip(scores, ([majority] * len(wanted), model.predict(texts))):
            scores[name].append(sum(a == b for a, b in zip(guesses, wanted)) / len(wanted))
    print(f"| {args.folder.name}, {len(labels):,} training rows | dev | test |\n| --- | --- | --- |")
    for name, (dev, test) in scores.items():
        print(f"| {name} | {dev:.1%} | {test:.1%} |")


def read(path: Path) -> tuple[list[str], list[str]]:
    with open(path, encoding="utf-8") as file:
        rows = [json.loads(line) for line in file]
    return [row["text"] for row in rows], [row["label"] for row in rows]


if __name__ == "__main__":
    main()
