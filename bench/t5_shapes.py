"""T5 v1.1's shapes, and their configurations: what the benchmarks on a CPU and on a GPU make random weights of."""

from __future__ import annotations

SHAPES = {  # d_model, d_ff, heads, layers of each stack
    "tiny": (64, 128, 2, 2),
    "base": (768, 2048, 12, 12),
    "large": (1024, 2816, 16, 24),
    "xl": (2048, 5120, 32, 24),
    "xxl": (4096, 10240, 64, 24),
}
VOCABULARY, D_KV = 32128, 64


def config(shape: str, **others):
    """The configuration of a shape, as transformers has it."""
    from transformers import T5Config

    d_model, d_ff, heads, layers = SHAPES[shape]
    return T5Config(
        vocab_size=VOCABULARY,
        d_model=d_model,
        d_kv=D_KV,
        d_ff=d_ff,
        num_heads=heads,
        num_layers=layers,
        num_decoder_layers=layers,
        feed_forward_proj="gated-gelu",
        tie_word_embeddings=False,
        decoder_start_token_id=0,
        **others,
    )
