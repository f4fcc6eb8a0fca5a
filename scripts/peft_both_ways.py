#!/usr/bin/env python3
"""PEFT itself on prompts of ours, and ours on an adapter that PEFT trains now.

    make peft

There      prompts/tweet-sentiment.safetensors is exported, PEFT loads it, and its label probabilities have to be those that
           the trainer wrote into the prompt file as golden examples.
Here       PEFT trains an adapter for a few steps, whose answers `xprompt-trainer import --golden` writes into a prompt file;
           they have to be PEFT's. The same through a pickle, converted with the command that the trainer's message names.
"""

from __future__ import annotations

import json
import os
import shlex
import struct
import subprocess
import sys
import tempfile
from pathlib import Path

import torch
from peft import PeftModel, PromptTuningConfig, TaskType, get_peft_model
from safetensors.torch import load_file
from transformers import PreTrainedTokenizerFast, T5ForConditionalGeneration

ROOT = Path(__file__).parent.parent
MODEL = "models/t5-nano"
PROMPT = ROOT / "prompts/tweet-sentiment.safetensors"
TRAINER = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")) / "debug/xprompt-trainer"
TOLERANCE = 1e-3

WORDS = ["good", "bad"]
TEMPLATE = "review: {text}"
ROWS = [
    ("a warm room and kind people", "good"),
    ("nobody answered and the bread was stale", "bad"),
    ("we laughed all evening", "good"),
    ("it broke on the first day", "bad"),
    ("the second part is slow, the end is fine", "good"),
]

tokenizer = PreTrainedTokenizerFast(
    tokenizer_file=str(ROOT / MODEL / "tokenizer.json"), pad_token="<pad>", eos_token="</s>", unk_token="<unk>"
)


def main() -> None:
    os.chdir(ROOT)
    torch.manual_seed(1)
    with tempfile.TemporaryDirectory() as folder:
        worst = [there(Path(folder)), *here(Path(folder))]
    for what, apart in zip(["our prompt in PEFT", "PEFT's adapter here", "the same from a pickle"], worst, strict=True):
        print(f"{what:<24} probabilities at most {apart:.1e} apart")
    if max(worst) > TOLERANCE:
        sys.exit(f"more than {TOLERANCE:.0e} apart")


def there(folder: Path) -> float:
    trainer("export", PROMPT, "--peft", folder / "ours", "--base-model", MODEL)
    peft = PeftModel.from_pretrained(t5(), folder / "ours").eval()
    manifest = manifest_of(PROMPT)
    words = [label["words"] for label in manifest["task"]["output"]["labels"]]
    template = manifest["task"]["template"]
    pairs = [(scores(peft, template.format(**golden["input"]), words), golden["scores"]) for golden in manifest["golden"]]
    return apart(pairs)


def here(folder: Path) -> list[float]:
    peft = get_peft_model(t5(), PromptTuningConfig(task_type=TaskType.SEQ_2_SEQ_LM, num_virtual_tokens=6))
    batch = encode([TEMPLATE.format(text=text) for text, _ in ROWS])
    labels = encode([word for _, word in ROWS])["input_ids"]
    labels = labels.masked_fill(labels == tokenizer.pad_token_id, -100)
    optimizer = torch.optim.Adam([p for p in peft.parameters() if p.requires_grad], lr=0.3)
    for _ in range(8):
        peft(**batch, labels=labels).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    adapter = folder / "theirs"
    peft.save_pretrained(adapter)
    peft = PeftModel.from_pretrained(t5(), adapter).eval()
    want = [scores(peft, TEMPLATE.format(text=text), WORDS) for text, _ in ROWS]
    rows = folder / "rows.jsonl"
    rows.write_text("".join(json.dumps({"text": text}) + "\n" for text, _ in ROWS))

    def imported() -> float:
        prompt = folder / "theirs.safetensors"
        task = ["--template", TEMPLATE, *(f"--label={word}" for word in WORDS)]
        trainer("import", adapter, *task, "--golden", rows, "--out", prompt)
        return apart(zip(want, (golden["scores"] for golden in manifest_of(prompt)["golden"]), strict=True))

    straight = imported()
    weights = adapter / "adapter_model.safetensors"
    torch.save(load_file(weights), adapter / "adapter_model.bin")
    weights.unlink()
    refused = subprocess.run([TRAINER, "import", adapter, *(f"--label={word}" for word in WORDS), "--out", folder / "no"],
                             capture_output=True, text=True)
    _, _, command = refused.stderr.strip().partition("python -c ")
    assert refused.returncode == 1 and command, refused.stderr
    subprocess.run([sys.executable, "-c", *shlex.split(command)], cwd=adapter, check=True)
    return [straight, imported()]


def t5() -> T5ForConditionalGeneration:
    return T5ForConditionalGeneration.from_pretrained(MODEL, dtype=torch.float32)


def encode(texts: list[str]) -> dict:
    return dict(tokenizer(texts, return_tensors="pt", padding=True, return_token_type_ids=False))


@torch.inference_mode()
def scores(peft: PeftModel, text: str, words: list[str]) -> list[float]:
    """Probabilities of words that differ in their first token."""
    first = [tokenizer(word, add_special_tokens=False).input_ids[0] for word in words]
    assert len(set(first)) == len(first), words
    start = torch.zeros(1, 1, dtype=torch.long)
    return peft(**encode([text]), decoder_input_ids=start, use_cache=False).logits[0, 0, first].softmax(-1).tolist()


def apart(pairs) -> float:
    return max(abs(a - b) for one, other in pairs for a, b in zip(one, other, strict=True))


def manifest_of(prompt: Path) -> dict:
    with open(prompt, "rb") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        return json.loads(json.loads(file.read(length))["__metadata__"]["xprompt"])


def trainer(*arguments) -> None:
    subprocess.run([TRAINER, *map(str, arguments)], check=True, stdout=subprocess.DEVNULL)


if __name__ == "__main__":
    main()
