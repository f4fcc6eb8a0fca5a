"""CTranslate2, which takes no soft prompt: the same shapes over texts as long as prompt and text together."""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from common import VOCABULARY, measured, rates, used_mib

WORDS = [f"t{i}" for i in range(VOCABULARY)]
LOADED: dict[str, object] = {}


def measure(args: argparse.Namespace, shape: str, batch: int) -> dict:
    try:
        import ctranslate2
    except (ImportError, OSError) as error:
        return {"status": "skipped", "reason": f"CTranslate2 cannot be used: {error}"[:500]}
    compute = "bfloat16" if args.device == "cuda" else "float32"
    if shape not in LOADED:
        LOADED[shape] = load(ctranslate2, shape, args.device, compute)
    translator = LOADED[shape]
    tokens = args.prompt + args.text
    sources = [[WORDS[2 + (37 * i + 11 * row) % (VOCABULARY - 2)] for i in range(tokens)] for row in range(batch)]
    length = args.new_tokens if args.what == "generate" else 1

    def step():
        done = translator.translate_batch(
            sources, beam_size=1, min_decoding_length=length, max_decoding_length=length, max_batch_size=batch
        )
        assert all(len(result.hypotheses[0]) == length for result in done)

    # it returns when the texts are there: the device is idle then
    figures = measured(step, lambda: None, args.reps)
    line = {"status": "ok", "dtype": "bf16" if compute == "bfloat16" else "f32", "text": tokens, "prompt": 0}
    line |= {"new_tokens": args.new_tokens} if args.what == "generate" else {}
    made = args.new_tokens if args.what == "generate" else tokens
    line |= figures | rates(figures["median_ms"], batch, batch * made)
    if args.device == "cuda":
        after = used_mib()
        line["rise_mib"] = None if after is None or args.smi_before is None else after - args.smi_before
    line["versions"] = {"ctranslate2": ctranslate2.__version__}
    return line


def load(ctranslate2, shape: str, device: str, compute: str):
    """The shape's random model, by CTranslate2's own converter; its vocabulary is made of numbered words."""
    from ctranslate2.converters.transformers import T5Loader

    spec = T5Loader().get_model_spec(on_the_host(shape))
    spec.register_source_vocabulary(WORDS)
    spec.register_target_vocabulary(WORDS)
    spec.config.bos_token = spec.config.decoder_start_token = WORDS[0]
    spec.config.eos_token = WORDS[1]
    spec.config.unk_token = WORDS[2]
    spec.config.add_source_bos = spec.config.add_source_eos = False
    spec.validate()
    spec.optimize(quantization=compute)
    with tempfile.TemporaryDirectory() as folder:
        spec.save(folder)
        # the converter is used as a library: it says no more than the files
        assert (Path(folder) / "model.bin").is_file()
        del spec
        return ctranslate2.Translator(folder, device=device, compute_type=compute, inter_threads=1)


def on_the_host(shape: str):
    """The model of the shape in f32. PyTorch does not touch the card: its memory would count as CTranslate2's."""
    import torch

    import peers_torch

    model = peers_torch.make_model(shape, "meta").float().to_empty(device="cpu")
    pool = 0.03 * torch.randn(1 << 20)
    for parameter in model.parameters():
        flat = parameter.data.view(-1)
        for start in range(0, flat.numel(), pool.numel()):
            part = flat[start : start + pool.numel()]
            part.copy_(pool[: part.numel()])
    return model
