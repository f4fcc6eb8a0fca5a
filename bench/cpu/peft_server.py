"""The server that a user of PEFT would write: one T5, a prompt for each task, label probabilities as JSON.

    MODEL=FOLDER PROMPTS=FOLDER python -m uvicorn peft_server:app --port 8090

PEFT has one prompt active at a time for prompt tuning, so requests take turns: activate the task's prompt, compute.
"""

import os
import threading
from pathlib import Path

import torch
from fastapi import FastAPI
from peft import PeftModel
from pydantic import BaseModel
from transformers import PreTrainedTokenizerFast, T5ForConditionalGeneration

LABELS = ["good", "bad", "fair", "new"]

torch.set_num_threads(int(os.environ["THREADS"]))
folder = Path(os.environ["MODEL"])
names = {"pad_token": "<pad>", "eos_token": "</s>", "unk_token": "<unk>"}
tokenizer = PreTrainedTokenizerFast(tokenizer_file=str(folder / "tokenizer.json"), **names)
t5 = T5ForConditionalGeneration.from_pretrained(folder, dtype=getattr(torch, os.environ.get("DTYPE", "float32")))
adapters = sorted(path.name for path in Path(os.environ["PROMPTS"]).iterdir())
model = PeftModel.from_pretrained(t5, Path(os.environ["PROMPTS"]) / adapters[0], adapter_name=adapters[0])
for name in adapters[1:]:
    model.load_adapter(Path(os.environ["PROMPTS"]) / name, adapter_name=name)
model.eval()
label_ids = [tokenizer(label, add_special_tokens=False).input_ids[0] for label in LABELS]
turn = threading.Lock()
app = FastAPI()


class Input(BaseModel):
    input: str


@app.get("/health")
def health() -> dict:
    return {"tasks": adapters}


@app.post("/tasks/{task}/predict")
def predict(task: str, body: Input) -> dict:
    inputs = tokenizer(body.input, return_tensors="pt", return_token_type_ids=False)
    start = torch.tensor([[t5.config.decoder_start_token_id]])
    with turn, torch.inference_mode():
        model.set_adapter(task)
        logits = model(**inputs, decoder_input_ids=start).logits[0, 0, label_ids]
    scores = dict(zip(LABELS, logits.float().softmax(-1).tolist()))
    return {"task": task, "label": max(scores, key=scores.get), "scores": scores}
