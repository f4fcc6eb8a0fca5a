#!/usr/bin/env python3
"""The time that the matrix products of a graph need alone on this card: what no implementation in bf16 gets below.

    python3 bench/gpu/floor.py --shapes base,large,xl --batches 1,8,32,128

Each product of a layer is measured by itself, in bf16 by PyTorch (cuBLAS): run over weights of several layers in turn,
so that they come from the card's memory as in a model, captured as one CUDA graph. A graph's floor is the sum over
all of its products. `score` is encoder and one decoder step with absorbed cross attention; `tune` the same with
`--target` decoder positions and the gradient down to the encoder's input, where each product with a weight has one more
and each product of attention two. The output projection is over the whole vocabulary in `tune-text`, and left out where
two candidates are scored.

One JSON object a line; `tflops` is the rate at which the products ran.
"""

from __future__ import annotations

import argparse
import json
import sys

import torch

from common import SHAPES, names, numbers
from floor_counts import Product, graphs

# more than any cache holds
ROTATE_MIB = 256
REPS = 15


def milliseconds(product: Product, device: str) -> float:
    """Of one product, the median over repetitions of a chain of them."""
    left_bytes = 2 * product.batch * product.m * product.k
    right_bytes = 2 * product.batch * product.k * product.n
    written = right_bytes if product.weight else left_bytes + right_bytes
    count = max(1, min(64, (ROTATE_MIB << 20) // written)) if device == "cuda" else 2
    shape = (product.m, product.k) if product.weight else (product.batch, product.m, product.k)
    lefts = [torch.randn(shape, dtype=torch.bfloat16, device=device) for _ in range(1 if product.weight else count)]
    # as a checkpoint has it: [out, in]
    shape = (product.n, product.k) if product.weight else (product.batch, product.n, product.k)
    rights = [torch.randn(shape, dtype=torch.bfloat16, device=device) for _ in range(count)]

    def chain():
        for i, right in enumerate(rights):
            torch.matmul(lefts[i % len(lefts)], right.transpose(-1, -2))

    if device != "cuda":
        chain()
        return 1.0
    chain()
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        chain()
    times = []
    for _ in range(REPS):
        begun, ended = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        begun.record()
        graph.replay()
        ended.record()
        torch.cuda.synchronize()
        times.append(begun.elapsed_time(ended) / count)
    return sorted(times)[len(times) // 2]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shapes", type=names, default=["base", "large", "xl"], help=", ".join(SHAPES))
    parser.add_argument("--batches", type=numbers, default=[32])
    parser.add_argument("--text", type=int, default=128)
    parser.add_argument("--prompt", type=int, default=20)
    parser.add_argument("--target", type=int, default=4)
    parser.add_argument("--device", default="cuda", help="cuda or, to try the script out, cpu")
    args = parser.parse_args()
    card = torch.cuda.get_device_name() if args.device == "cuda" else "cpu"
    known: dict[Product, float] = {}
    for shape in args.shapes:
        for batch in args.batches:
            for graph, products in graphs(SHAPES[shape], batch, args.prompt + args.text, args.target).items():
                for product in set(products) - set(known):
                    known[product] = milliseconds(product, args.device)
                total = sum(known[product] for product in products)
                flops = sum(product.flops for product in products)
                line = {"bench": graph, "by": "floor", "shape": shape, "batch": batch, "status": "ok", "dtype": "bf16"}
                line |= {"text": args.text, "prompt": args.prompt, "median_ms": round(total, 3), "gflop": flops // 10**9}
                line |= {"tflops": round(flops / total / 1e9, 1), "products": len(products), "card": card}
                print(json.dumps(line), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
