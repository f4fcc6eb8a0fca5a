"""One peer of the comparison: loads the model, then does the work that it is told on its standard input.

    python engines.py ENGINE --model FOLDER --threads N --workload FILE

Every peer gets the same texts in the same batches. PyTorch ones and PEFT read the prompt as embeddings; CTranslate2 and
the plain export take none, and get as many tokens more in front of each text instead.
"""

from __future__ import annotations

import argparse
import json
import resource
import sys
import time
from pathlib import Path

ENGINES = {}


def engine(name: str):
    return lambda cls: ENGINES.setdefault(name, cls)


class Engine:
    """What a batch of texts is done with; each returns the tokens that it made."""

    def __init__(self, model: Path, threads: int, work: dict):
        self.work = work
        self.load(model, threads)

    def order(self, work: str, texts: list[list[int]]) -> int:
        if work in self.work["generate"]:
            return self.generate(texts, self.work["generate"][work])
        labels = self.work["labels"][work]
        if work == "score1":
            self.step(texts)
        elif work == "score8":
            self.sequences(texts, labels[:1])
        else:
            self.sequences(texts, labels)
        return 0

    def longer(self, texts: list[list[int]]) -> list[list[int]]:
        return [[50] * self.work["prompt"] + text for text in texts]


# === CTranslate2 ===


class CTranslate2(Engine):
    compute_type = ""

    def load(self, model: Path, threads: int) -> None:
        import ctranslate2
        import models

        folder = models.ctranslate2(model, self.compute_type)
        self.translator = ctranslate2.Translator(
            str(folder), device="cpu", compute_type=self.compute_type, inter_threads=1, intra_threads=threads
        )

    def names(self, texts: list[list[int]]) -> list[list[str]]:
        return [[f"t{i}" for i in text] for text in texts]

    def step(self, texts: list[list[int]]) -> None:
        self.generate(texts, 1)

    def sequences(self, texts: list[list[int]], labels: list[list[int]]) -> None:
        sources = [source for source in self.names(self.longer(texts)) for _ in labels]
        self.translator.score_batch(sources, self.names(labels) * len(texts))

    def generate(self, texts: list[list[int]], limit: int) -> int:
        results = self.translator.translate_batch(
            self.names(self.longer(texts)),
            beam_size=1,
            min_decoding_length=limit,
            max_decoding_length=limit,
            return_scores=False,
        )
        return sum(len(result.hypotheses[0]) for result in results)


@engine("ctranslate2-int8")
class CTranslate2Int8(CTranslate2):
    compute_type = "int8"


@engine("ctranslate2-f32")
class CTranslate2F32(CTranslate2):
    compute_type = "float32"


# === transformers and PEFT ===


class Transformers(Engine):
    dtype = ""

    def load(self, model: Path, threads: int) -> None:
        import torch
        from transformers import T5ForConditionalGeneration

        torch.set_num_threads(threads)
        self.torch = torch
        self.t5 = T5ForConditionalGeneration.from_pretrained(model, dtype=getattr(torch, self.dtype)).eval()
        self.rows = torch.randn(self.work["prompt"], self.t5.config.d_model).to(self.t5.dtype)

    def padded(self, texts: list[list[int]]):
        length = max(map(len, texts))
        ids = self.torch.tensor([text + [0] * (length - len(text)) for text in texts])
        mask = self.torch.tensor([[1] * len(text) + [0] * (length - len(text)) for text in texts])
        return ids, mask

    def source(self, texts: list[list[int]]) -> dict:
        ids, mask = self.padded(texts)
        rows = self.rows.expand(len(texts), -1, -1)
        embedded = self.torch.cat([rows, self.t5.get_input_embeddings()(ids)], dim=1)
        seen = self.torch.ones(len(texts), self.rows.shape[0], dtype=mask.dtype)
        return {"inputs_embeds": embedded, "attention_mask": self.torch.cat([seen, mask], dim=1)}

    def step(self, texts: list[list[int]]) -> None:
        self.sequences(texts, [[]])

    def sequences(self, texts: list[list[int]], labels: list[list[int]]) -> None:
        # what the decoder reads: the start token and all tokens but the last
        ids = self.torch.tensor([[0, *label[:-1]] for label in labels]).repeat(len(texts), 1)
        with self.torch.inference_mode():
            source = self.source(texts)
            hidden = self.t5.encoder(**source).last_hidden_state.repeat_interleave(len(labels), dim=0)
            mask = source["attention_mask"].repeat_interleave(len(labels), dim=0)
            logits = self.t5(
                encoder_outputs=(hidden,), attention_mask=mask, decoder_input_ids=ids, use_cache=False
            ).logits
            logits.log_softmax(-1)

    def generate(self, texts: list[list[int]], limit: int) -> int:
        with self.torch.inference_mode():
            out = self.t5.generate(
                **self.source(texts), do_sample=False, num_beams=1, min_new_tokens=limit, max_new_tokens=limit
            )
        return out.shape[0] * (out.shape[1] - 1)


@engine("transformers-f32")
class TransformersF32(Transformers):
    dtype = "float32"


@engine("transformers-bf16")
class TransformersBf16(Transformers):
    dtype = "bfloat16"


@engine("peft-f32")
class Peft(Transformers):
    dtype = "float32"

    def load(self, model: Path, threads: int) -> None:
        from peft import PromptTuningConfig, TaskType, get_peft_model

        super().load(model, threads)
        config = PromptTuningConfig(task_type=TaskType.SEQ_2_SEQ_LM, num_virtual_tokens=self.work["prompt"])
        self.peft = get_peft_model(self.t5, config).eval()

    def sequences(self, texts: list[list[int]], labels: list[list[int]]) -> None:
        ids, mask = self.padded([text for text in texts for _ in labels])
        targets = self.torch.tensor([[0, *label[:-1]] for label in labels]).repeat(len(texts), 1)
        with self.torch.inference_mode():
            logits = self.peft(input_ids=ids, attention_mask=mask, decoder_input_ids=targets, use_cache=False).logits
            logits.log_softmax(-1)

    def generate(self, texts: list[list[int]], limit: int) -> int:
        ids, mask = self.padded(texts)
        with self.torch.inference_mode():
            out = self.peft.generate(
                input_ids=ids, attention_mask=mask, do_sample=False, min_new_tokens=limit, max_new_tokens=limit
            )
        return out.shape[0] * (out.shape[1] - 1)


# === ONNX Runtime on a plain export ===


@engine("onnxruntime-f32")
class OnnxRuntime(Engine):
    def load(self, model: Path, threads: int) -> None:
        import models
        import numpy
        import onnxruntime

        folder = models.onnx(model)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        self.numpy = numpy
        self.encoder, self.decoder = (
            onnxruntime.InferenceSession(folder / f"{name}.onnx", options, providers=["CPUExecutionProvider"])
            for name in ("encoder", "decoder")
        )

    def step(self, texts: list[list[int]]) -> None:
        self.sequences(texts, [[]])

    def sequences(self, texts: list[list[int]], labels: list[list[int]]) -> None:
        texts = self.longer(texts)
        length = max(map(len, texts))
        array = lambda rows: self.numpy.array(rows, dtype=self.numpy.int64)  # noqa: E731
        ids = array([text + [0] * (length - len(text)) for text in texts])
        mask = array([[1] * len(text) + [0] * (length - len(text)) for text in texts])
        (hidden,) = self.encoder.run(None, {"ids": ids, "mask": mask})
        targets = self.numpy.tile(array([[0, *label[:-1]] for label in labels]), (len(texts), 1))
        hidden, mask = (self.numpy.repeat(x, len(labels), axis=0) for x in (hidden, mask))
        self.decoder.run(None, {"hidden": hidden, "mask": mask, "decoder_ids": targets})

    def generate(self, texts: list[list[int]], limit: int) -> int:
        raise NotImplementedError("a plain export has no cache of keys and values")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("engine", choices=ENGINES)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--workload", type=Path, required=True)
    args = parser.parse_args()
    # libraries print what they like; lines of this program go where its caller reads
    answers = sys.stdout
    sys.stdout = sys.stderr
    start = time.perf_counter()
    work = json.loads(args.workload.read_text())
    loaded = ENGINES[args.engine](args.model, args.threads, work)
    say = lambda **line: print(json.dumps(line | {"peak_mib": peak_mib()}), file=answers, flush=True)  # noqa: E731
    say(ready_s=time.perf_counter() - start)
    for line in sys.stdin:
        order = json.loads(line)
        texts, batch = work["texts"][order["texts"]], order["batch"]
        start = time.perf_counter()
        try:
            tokens = sum(
                loaded.order(order["work"], texts[at : at + batch]) for at in range(0, len(texts), batch)
            )
        except NotImplementedError as reason:
            say(skipped=str(reason))
            continue
        say(seconds=time.perf_counter() - start, tokens=tokens)


def peak_mib() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024


if __name__ == "__main__":
    main()
