"""The matrix products that T5's graphs need, for `floor.py`."""

from __future__ import annotations

from dataclasses import dataclass

from common import D_KV, VOCABULARY

# d_model, d_ff, heads, layers of each stack
Sizes = tuple[int, int, int, int]


@dataclass(frozen=True)
class Product:
    """[batch, m, k] times [batch, k, n]; a weight has no batch and is another in every layer."""

    batch: int
    m: int
    k: int
    n: int
    weight: bool

    @property
    def flops(self) -> int:
        return 2 * self.batch * self.m * self.k * self.n


def attention(batch: int, heads: int, queries: int, keys: int) -> list[Product]:
    """Scores and mixture of the values, each head by itself."""
    return [
        Product(batch * heads, queries, D_KV, keys, False),
        Product(batch * heads, queries, keys, D_KV, False),
    ]


def weights(rows: int, *sizes: tuple[int, int]) -> list[Product]:
    return [Product(1, rows, k, n, True) for k, n in sizes]


def encoder(sizes: Sizes, batch: int, length: int) -> list[Product]:
    d, ff, heads, _ = sizes
    inner = heads * D_KV
    products = weights(batch * length, *3 * [(d, inner)], (inner, d), (d, ff), (d, ff), (ff, d))
    return products + attention(batch, heads, length, length)


def decoder(sizes: Sizes, batch: int, target: int, length: int) -> list[Product]:
    d, ff, heads, _ = sizes
    inner = heads * D_KV
    products = weights(batch * target, *3 * [(d, inner)], (inner, d), (d, ff), (d, ff), (ff, d))
    products += attention(batch, heads, target, target)
    # absorbed: q W_k, scores and mixture over the encoder's output itself, W_v
    products += weights(batch * target, (d, inner), (inner, d), (d, inner), (inner, d))
    products += [
        Product(batch, heads * target, d, length, False),
        Product(batch, heads * target, length, d, False),
    ]
    return products


def backward(products: list[Product]) -> list[Product]:
    """The products of the gradient by what is no weight."""
    more = []
    for p in products:
        more.append(Product(p.batch, p.m, p.n, p.k, p.weight))
        if not p.weight:
            more.append(Product(p.batch, p.k, p.m, p.n, False))
    return more


def graphs(sizes: Sizes, batch: int, length: int, target: int) -> dict[str, list[Product]]:
    d, _, _, layers = sizes
    score = layers * (encoder(sizes, batch, length) + decoder(sizes, batch, 1, length))
    tune = layers * (encoder(sizes, batch, length) + decoder(sizes, batch, target, length))
    head = weights(batch * target, (d, VOCABULARY))
    return {
        "score": score,
        "tune-labels": tune + backward(tune),
        "tune-text": tune + head + backward(tune + head),
    }
