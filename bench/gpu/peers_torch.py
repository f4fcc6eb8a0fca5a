"""PyTorch with transformers, and PEFT where it is installed: what `peers.py` measures in its processes."""

from __future__ import annotations

import argparse

import torch
import transformers
from transformers import T5ForConditionalGeneration

from common import VOCABULARY, WARM_UP, measured, rates, used_mib  # makes t5_shapes importable
import t5_shapes

COMPILED = ("default", "reduce-overhead", "max-autotune", "max-autotune-no-cudagraphs")


def make_model(shape: str, device: str) -> T5ForConditionalGeneration:
    torch.manual_seed(1)
    torch.set_float32_matmul_precision("high")
    torch.set_default_dtype(torch.bfloat16)
    with torch.device(device):
        model = T5ForConditionalGeneration(t5_shapes.config(shape))
    torch.set_default_dtype(torch.float32)
    return model.requires_grad_(False).eval()


def measure(args: argparse.Namespace, model: T5ForConditionalGeneration, mode: str, batch: int) -> dict:
    """A line; leaves the model as it was."""
    if mode == "peft":
        try:
            import peft
        except ImportError as error:
            return {"status": "skipped", "reason": f"PEFT cannot be used: {error}"}
    on_gpu = args.device == "cuda"
    if on_gpu:
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    torch._dynamo.reset()
    step = {"tune": tuning_step, "score": scoring_step, "generate": generation}[args.what](args, model, mode, batch)
    figures = measured(step, torch.cuda.synchronize if on_gpu else lambda: None, args.reps)
    line = {"status": "ok", "dtype": "bf16", "text": args.text, "prompt": args.prompt}
    line |= {"target": args.target} if args.what == "tune" else {}
    line |= {"new_tokens": args.new_tokens} if args.what == "generate" else {}
    positions = args.new_tokens if args.what == "generate" else args.prompt + args.text
    line |= figures | rates(figures["median_ms"], batch, batch * positions)
    if on_gpu:
        line["allocated_mib"] = torch.cuda.max_memory_allocated() >> 20
        after = used_mib()
        line["rise_mib"] = None if after is None or args.smi_before is None else after - args.smi_before
    line["card"] = torch.cuda.get_device_name() if on_gpu else "cpu"
    line["attention"] = getattr(model.config, "_attn_implementation", None)
    line["versions"] = {"torch": torch.__version__, "transformers": transformers.__version__}
    if mode == "peft":
        line["versions"]["peft"] = peft.__version__
    del step
    if mode == "block":
        for block in blocks(model):
            block._compiled_call_impl = None
    return line


def with_peft(model, rows: int):
    from peft import PromptTuningConfig, TaskType, get_peft_model

    config = PromptTuningConfig(task_type=TaskType.SEQ_2_SEQ_LM, num_virtual_tokens=rows)
    return get_peft_model(model, config).eval()


def blocks(model):
    return [block for stack in (model.encoder, model.decoder) for block in stack.block]


def inputs(args: argparse.Namespace, model, batch: int):
    """Ids, prompt rows (f32, as they are tuned), and the mask over both."""
    ids = torch.randint(2, VOCABULARY, (batch, args.text), device=args.device)
    rows = torch.randn(args.prompt, model.config.d_model, device=args.device)
    mask = torch.ones(batch, args.prompt + args.text, dtype=torch.long, device=args.device)
    return ids, rows, mask


def embed(model, ids, rows):
    prompt = rows.to(model.dtype).expand(ids.shape[0], -1, -1)
    return torch.cat([prompt, model.get_input_embeddings()(ids)], dim=1)


def as_asked(mode: str, model, function):
    """The function as the mode compiles it, if it does."""
    if mode == "block":
        for block in blocks(model):
            block.compile(dynamic=False)
    return torch.compile(function, mode=mode, dynamic=False) if mode in COMPILED else function


# === What is measured ===


def tuning_step(args: argparse.Namespace, model, mode: str, batch: int):
    labels = torch.randint(2, VOCABULARY, (batch, args.target), device=args.device)
    ids, rows, mask = inputs(args, model, batch)
    if mode == "peft":
        tuned = with_peft(model, args.prompt)
        trained = [parameter for parameter in tuned.parameters() if parameter.requires_grad]

        def peft_step():
            text_mask = mask[:, args.prompt :]
            loss = tuned(input_ids=ids, attention_mask=text_mask, labels=labels, use_cache=False).loss
            return torch.autograd.grad(loss, trained)

        return peft_step
    rows.requires_grad_(True)

    def loss_of(rows):
        embedded = embed(model, ids, rows)
        return model(inputs_embeds=embedded, attention_mask=mask, labels=labels, use_cache=False).loss

    loss_of = as_asked(mode, model, loss_of)

    def step():
        torch.compiler.cudagraph_mark_step_begin()
        return torch.autograd.grad(loss_of(rows), rows)

    return captured(step) if mode == "cuda-graph" else step


def scoring_step(args: argparse.Namespace, model, mode: str, batch: int):
    start = torch.zeros(batch, 1, dtype=torch.long, device=args.device)
    ids, rows, mask = inputs(args, model, batch)
    if mode == "peft":
        tuned = with_peft(model, args.prompt)

        @torch.no_grad()
        def peft_step():
            text_mask = mask[:, args.prompt :]
            return tuned(input_ids=ids, attention_mask=text_mask, decoder_input_ids=start, use_cache=False).logits

        return peft_step

    def logits_of(rows):
        embedded = embed(model, ids, rows)
        return model(inputs_embeds=embedded, attention_mask=mask, decoder_input_ids=start, use_cache=False).logits

    logits_of = as_asked(mode, model, logits_of)

    @torch.no_grad()
    def step():
        torch.compiler.cudagraph_mark_step_begin()
        return logits_of(rows)

    return captured(step) if mode == "cuda-graph" else step


def generation(args: argparse.Namespace, model, mode: str, batch: int):
    length = {"min_new_tokens": args.new_tokens, "max_new_tokens": args.new_tokens, "do_sample": False}
    if mode == "static":
        length["cache_implementation"] = "static"
    ids, rows, mask = inputs(args, model, batch)
    tuned = with_peft(model, args.prompt) if mode == "peft" else None

    @torch.no_grad()
    def step():
        if tuned is not None:
            return tuned.generate(input_ids=ids, attention_mask=mask[:, args.prompt :], **length)
        return model.generate(inputs_embeds=embed(model, ids, rows), attention_mask=mask, **length)

    return step


def captured(step):
    """The step's kernels as one CUDA graph."""
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(WARM_UP):
            step()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        step()
    return graph.replay
