"""What all engines work on: two models in the forms that each of them reads, and generated texts."""

from __future__ import annotations

import json
import random
import shutil
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.append(str(ROOT / "bench"))
import t5_shapes  # noqa: E402

SHAPES = t5_shapes.SHAPES

PROMPT = 20  # rows in front of each text
GENERATE = 16

# Lengths of texts in tokens: smallest, most frequent, largest. `mixed` is a third of each.
LENGTHS = {"tweets": (8, 24, 64), "sentences": (10, 40, 110), "passages": (200, 300, 400)}


def make(name: str, folder: Path) -> Path:
    """The checkpoint as Hugging Face has it: random weights of a shape, or the bundled model."""
    model = folder / name
    if (model / "whole").is_file():
        return model
    shutil.rmtree(model, ignore_errors=True)
    model.mkdir(parents=True)
    if name in SHAPES:
        random_weights(name, model)
    else:
        shutil.copytree(ROOT / "models" / name, model, dirs_exist_ok=True)
        # no text ends early: the last id of the vocabulary is never said
        config = json.loads((model / "config.json").read_text())
        config["eos_token_id"] = config["vocab_size"] - 1
        (model / "config.json").write_text(json.dumps(config))
    shutil.copy(ROOT / "models" / "t5-nano" / "tokenizer.json", model)
    names = {"pad_token": "<pad>", "eos_token": "</s>", "unk_token": "<unk>"}
    (model / "tokenizer_config.json").write_text(
        json.dumps({"tokenizer_class": "PreTrainedTokenizerFast", **names})
    )
    (model / "whole").touch()
    return model


def random_weights(name: str, model: Path) -> None:
    import torch
    from transformers import T5ForConditionalGeneration

    torch.manual_seed(1)
    config = t5_shapes.config(name, eos_token_id=t5_shapes.VOCABULARY - 1)
    T5ForConditionalGeneration(config).eval().save_pretrained(model)


def ctranslate2(model: Path, compute_type: str) -> Path:
    """The checkpoint as CTranslate2 has it, whose tokens are called t0, t1 and so on."""
    out = model.with_name(f"{model.name}-ct2-{compute_type}")
    if (out / "model.bin").is_file():
        return out
    from ctranslate2.converters import TransformersConverter
    from ctranslate2.converters import transformers as loaders

    class Loader(loaders.T5Loader):
        def get_vocabulary(self, model, tokenizer):
            return [f"t{i}" for i in range(model.config.vocab_size)]

        def set_config(self, config, model, tokenizer):
            config.bos_token, config.unk_token = "t0", "t2"
            config.eos_token = f"t{model.config.eos_token_id}"
            config.decoder_start_token = "t0"

    loaders._MODEL_LOADERS["T5Config"] = Loader()
    unfinished = out.with_name(f"{out.name}-unfinished")
    TransformersConverter(str(model)).convert(str(unfinished), quantization=compute_type, force=True)
    unfinished.rename(out)
    return out


def onnx(model: Path) -> Path:
    """A plain export: the encoder, and the decoder over whole sequences, by torch.onnx."""
    out = model.with_name(f"{model.name}-onnx")
    if (out / "decoder.onnx").is_file():
        return out
    import torch
    from transformers import T5ForConditionalGeneration
    from transformers.modeling_outputs import BaseModelOutput

    t5 = T5ForConditionalGeneration.from_pretrained(model, dtype=torch.float32, attn_implementation="eager").eval()
    out.mkdir(parents=True, exist_ok=True)

    class Encoder(torch.nn.Module):
        def forward(self, ids, mask):
            return t5.encoder(input_ids=ids, attention_mask=mask).last_hidden_state

    class Decoder(torch.nn.Module):
        def forward(self, hidden, mask, decoder_ids):
            encoded = BaseModelOutput(last_hidden_state=hidden)
            return t5(
                encoder_outputs=encoded, attention_mask=mask, decoder_input_ids=decoder_ids, use_cache=False
            ).logits

    encoder, decoder = Encoder(), Decoder()
    encoder.t5, decoder.t5 = t5.encoder, t5
    ids = torch.randint(2, 100, (2, 9))
    mask = torch.ones_like(ids)
    hidden = torch.randn(2, 9, t5.config.d_model)
    by_name = {
        "ids": {0: "batch", 1: "length"},
        "mask": {0: "batch", 1: "length"},
        "hidden": {0: "batch", 1: "length"},
        "decoder_ids": {0: "batch", 1: "target"},
        "logits": {0: "batch", 1: "target"},
    }
    for module, name, inputs, names, outputs in (
        (encoder, "encoder", (ids, mask), ["ids", "mask"], ["hidden"]),
        (decoder, "decoder", (hidden, mask, ids[:, :3]), ["hidden", "mask", "decoder_ids"], ["logits"]),
    ):
        torch.onnx.export(
            module.eval(),
            inputs,
            str(out / f"{name}.onnx"),
            input_names=names,
            output_names=outputs,
            dynamic_axes={axis: by_name[axis] for axis in names + outputs},
            dynamo=False,
        )
    return out


def workload(model: Path, count: int) -> dict:
    """`count` texts of each kind, sorted by length so that every engine gets the same batches; labels as token ids."""
    config = json.loads((model / "config.json").read_text())
    draw = random.Random(7)
    ids = lambda length: [draw.randrange(100, min(config["vocab_size"], 16000) - 100) for _ in range(length)]  # noqa: E731

    def texts(kinds: list[str]) -> list[list[int]]:
        lengths = []
        for i in range(count):
            low, mode, high = LENGTHS[kinds[i % len(kinds)]]
            lengths.append(round(draw.triangular(low, high, mode)))
        return [ids(length) for length in sorted(lengths)]

    kinds = {name: texts([name]) for name in LENGTHS} | {"mixed": texts(list(LENGTHS))}
    shared = ids(7)
    return {
        "prompt": PROMPT,
        "texts": kinds,
        "labels": {
            # four labels of a token
            "score1": [[300 + i] for i in range(4)],
            # two labels of 8 tokens that differ in the last: the logits of one sequence tell them apart
            "score8": [shared + [300], shared + [301]],
            # four labels of 8 tokens that share their first four
            "labels4x8": [shared[:4] + [300 + i, *ids(3)] for i in range(4)],
        },
        "generate": {f"generate{GENERATE}": GENERATE},
    }


def main() -> None:
    """models.py NAME FOLDER [ENGINE...]"""
    name, folder, engines = sys.argv[1], Path(sys.argv[2]), sys.argv[3:]
    folder.mkdir(parents=True, exist_ok=True)
    model = make(name, folder)
    for engine in engines:
        if engine.startswith("ctranslate2"):
            ctranslate2(model, {"int8": "int8", "f32": "float32"}[engine.split("-")[1]])
        elif engine.startswith("onnxruntime"):
            onnx(model)


if __name__ == "__main__":
    main()
