#!/usr/bin/env python3
"""What a user of PyTorch gets: frozen T5 v1.1 shapes with a soft prompt, by transformers (and PEFT where it is installed).

    python3 bench/gpu/peers.py tune     --shapes large,xl --modes eager,block,reduce-overhead
    python3 bench/gpu/peers.py score    --shapes base,large,xl --batches 1,8,32,128
    python3 bench/gpu/peers.py generate --shapes base,large,xl --batches 1,8,32

tune      one step: loss of all examples, gradient of the prompt rows only (no weight has a gradient)
score     encoder and one decoder step, no gradient
generate  16 tokens, greedy, with a key/value cache

Modes: eager; block (every transformer block compiled by itself); reduce-overhead and max-autotune (the whole forward
pass compiled, both with CUDA graphs); cuda-graph (eager kernels captured by hand); peft (PEFT's PromptTuning, eager);
static (generate only: transformers' static cache, which it compiles by itself).

Weights are random, made on the device in bf16: speed does not depend on their values. There is no padding in the texts,
and dropout is off. Each shape, batch and mode runs in a process of its own, which is ended when --budget is over, and
prints one JSON object a line: medians of --reps repetitions after a warm-up, `first_ms` with the compilation. Memory:
`allocated_mib` is torch.cuda.max_memory_allocated, `rise_mib` what nvidia-smi shows more than before the process.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

SHAPES = {  # d_model, d_ff, heads, layers of each stack
    "tiny": (64, 128, 2, 2),
    "base": (768, 2048, 12, 12),
    "large": (1024, 2816, 16, 24),
    "xl": (2048, 5120, 32, 24),
    "xxl": (4096, 10240, 64, 24),
}
VOCABULARY, D_KV = 32128, 64
COMPILED = ("eager", "block", "reduce-overhead", "max-autotune", "cuda-graph", "peft")
MODES = {"tune": COMPILED, "score": COMPILED, "generate": ("eager", "static", "peft")}
WARM_UP = 3


def main() -> int:
    args = parse()
    if args.one:
        print(json.dumps(measure(args)), flush=True)
        return 0
    failures = 0
    for shape in args.shapes:
        for batch in args.batches:
            for mode in args.modes:
                line = in_a_process(args, shape, batch, mode)
                failures += line["status"] == "failed"
                print(json.dumps(line), flush=True)
    return 1 if failures else 0


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    names = lambda text: [name for name in text.split(",") if name]  # noqa: E731
    numbers = lambda text: [int(number) for number in names(text)]  # noqa: E731
    parser.add_argument("what", choices=MODES)
    parser.add_argument("--shapes", type=names, default=["base", "large", "xl"], help=", ".join(SHAPES))
    parser.add_argument("--batches", type=numbers, default=[32])
    parser.add_argument("--modes", type=names, default=None)
    parser.add_argument("--text", type=int, default=128, help="text tokens of an example (default: 128)")
    parser.add_argument("--prompt", type=int, default=20, help="prompt rows in front of them (default: 20)")
    parser.add_argument("--target", type=int, default=4, help="decoder tokens of tune (default: 4)")
    parser.add_argument("--new-tokens", type=int, default=16, help="tokens of generate (default: 16)")
    parser.add_argument("--reps", type=int, default=15)
    parser.add_argument("--budget", type=float, default=180, help="seconds for one line, compilation included")
    parser.add_argument("--device", default="cuda", help="cuda or, to try the script out, cpu")
    parser.add_argument("--one", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--smi-before", type=int, default=None, help=argparse.SUPPRESS)
    args = parser.parse_args()
    args.modes = args.modes or list(MODES[args.what])
    for given, known, flag in ((args.shapes, SHAPES, "--shapes"), (args.modes, MODES[args.what], "--modes")):
        if unknown := [name for name in given if name not in known]:
            parser.error(f"{flag}: unknown {', '.join(unknown)}; choose from {', '.join(known)}")
    return args


def in_a_process(args: argparse.Namespace, shape: str, batch: int, mode: str) -> dict:
    """One measurement, ended when its budget is over."""
    about = {"bench": args.what, "by": "torch", "shape": shape, "batch": batch, "mode": mode}
    options = {"--shapes": shape, "--batches": batch, "--modes": mode, "--device": args.device, "--reps": args.reps}
    options |= {"--text": args.text, "--prompt": args.prompt, "--target": args.target, "--new-tokens": args.new_tokens}
    before = used_mib() if args.device == "cuda" else None
    if before is not None:
        options["--smi-before"] = before
    command = [sys.executable, str(Path(__file__).resolve()), args.what, "--one"]
    command += [str(part) for pair in options.items() for part in pair]
    start = time.perf_counter()
    # a session of its own: PyTorch compiles in processes below this one
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    try:
        out, errors = process.communicate(timeout=args.budget)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        return about | {"status": "over budget", "budget_s": args.budget}
    last = out.strip().splitlines()
    if process.returncode or not last:
        said = errors.strip().splitlines() or ["it said nothing"]
        reason = next((line for line in reversed(said) if "Error" in line), said[-1])
        return about | {"status": "failed", "reason": reason[:500], "seconds": round(time.perf_counter() - start, 1)}
    return about | json.loads(last[-1])


def measure(args: argparse.Namespace) -> dict:
    import torch
    import transformers

    (shape,), (batch,), (mode,) = args.shapes, args.batches, args.modes
    if mode == "peft":
        try:
            import peft
        except ImportError:
            return {"status": "skipped", "reason": "PEFT is not installed"}
    torch.manual_seed(1)
    torch.set_float32_matmul_precision("high")
    device = torch.device(args.device)
    model = make_model(shape, device)
    if mode == "peft":
        model = with_peft(model, args.prompt)
    step = {"tune": tuning_step, "score": scoring_step, "generate": generation}[args.what](args, model, device)
    synchronize = torch.cuda.synchronize if device.type == "cuda" else lambda: None

    def timed() -> float:
        start = time.perf_counter()
        step()
        synchronize()
        return 1000 * (time.perf_counter() - start)

    first = timed()
    for _ in range(WARM_UP):
        timed()
    times = sorted(timed() for _ in range(args.reps))
    median = times[len(times) // 2]
    positions = batch * (args.prompt + args.text)
    made = batch * (args.new_tokens if args.what == "generate" else 0)
    line = {"status": "ok", "dtype": "bf16", "text": args.text, "prompt": args.prompt, "reps": args.reps}
    line |= {"target": args.target} if args.what == "tune" else {}
    line |= {"new_tokens": args.new_tokens} if args.what == "generate" else {}
    line |= {"median_ms": median, "min_ms": times[0], "p90_ms": times[int(0.9 * (len(times) - 1))], "first_ms": first}
    line = {key: round(value, 3) if isinstance(value, float) else value for key, value in line.items()}
    line["tokens_per_s"] = round(1000 * (made or positions) / median)
    line["examples_per_s"] = round(1000 * batch / median, 1)
    if device.type == "cuda":
        line["allocated_mib"] = torch.cuda.max_memory_allocated() >> 20
        after = used_mib()
        line["rise_mib"] = None if after is None or args.smi_before is None else after - args.smi_before
    line["card"] = torch.cuda.get_device_name() if device.type == "cuda" else "cpu"
    line["versions"] = {"torch": torch.__version__, "transformers": transformers.__version__}
    if mode == "peft":
        line["versions"]["peft"] = peft.__version__
    return line


def used_mib() -> int | None:
    """Memory that is taken on the card, by all processes."""
    gpu = os.environ.get("CUDA_VISIBLE_DEVICES", "0").split(",")[0] or "0"
    command = ["nvidia-smi", "--query-gpu=memory.used", "--format=csv,noheader,nounits", "-i", gpu]
    try:
        return int(subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()[0])
    except (OSError, subprocess.CalledProcessError, ValueError, IndexError):
        return None


# === The model ===


def make_model(shape: str, device):
    import torch
    from transformers import T5Config, T5ForConditionalGeneration

    d_model, d_ff, heads, layers = SHAPES[shape]
    config = T5Config(
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
    )
    torch.set_default_dtype(torch.bfloat16)
    with device:
        model = T5ForConditionalGeneration(config)
    torch.set_default_dtype(torch.float32)
    return model.requires_grad_(False).eval()


def with_peft(model, rows: int):
    from peft import PromptTuningConfig, TaskType, get_peft_model

    config = PromptTuningConfig(task_type=TaskType.SEQ_2_SEQ_LM, num_virtual_tokens=rows)
    return get_peft_model(model, config).eval()


def compile_blocks(model) -> None:
    for stack in (model.encoder, model.decoder):
        for block in stack.block:
            block.compile()


def inputs(args: argparse.Namespace, model, device):
    """Ids, prompt rows (f32, as they are tuned), and the mask over both."""
    import torch

    batch = args.batches[0]
    ids = torch.randint(2, VOCABULARY, (batch, args.text), device=device)
    rows = torch.randn(args.prompt, model.config.d_model, device=device)
    mask = torch.ones(batch, args.prompt + args.text, dtype=torch.long, device=device)
    return ids, rows, mask


def embed(model, ids, rows):
    import torch

    prompt = rows.to(model.dtype).expand(ids.shape[0], -1, -1)
    return torch.cat([prompt, model.get_input_embeddings()(ids)], dim=1)


# === What is measured ===


def tuning_step(args: argparse.Namespace, model, device):
    import torch

    (mode,), (batch,) = args.modes, args.batches
    labels = torch.randint(2, VOCABULARY, (batch, args.target), device=device)
    if mode == "peft":
        ids, _, mask = inputs(args, model.get_base_model(), device)
        trained = [parameter for parameter in model.parameters() if parameter.requires_grad]

        def peft_step():
            loss = model(input_ids=ids, attention_mask=mask[:, args.prompt :], labels=labels).loss
            return torch.autograd.grad(loss, trained)

        return peft_step

    ids, rows, mask = inputs(args, model, device)
    rows.requires_grad_(True)

    def loss_of(rows):
        return model(inputs_embeds=embed(model, ids, rows), attention_mask=mask, labels=labels).loss

    if mode == "block":
        compile_blocks(model)
    compiled = torch.compile(loss_of, mode=mode) if mode in ("reduce-overhead", "max-autotune") else loss_of

    def step():
        torch.compiler.cudagraph_mark_step_begin()
        return torch.autograd.grad(compiled(rows), rows)

    return captured(step) if mode == "cuda-graph" else step


def scoring_step(args: argparse.Namespace, model, device):
    import torch

    (mode,), (batch,) = args.modes, args.batches
    start = torch.zeros(batch, 1, dtype=torch.long, device=device)
    if mode == "peft":
        ids, _, mask = inputs(args, model.get_base_model(), device)

        @torch.no_grad()
        def peft_step():
            return model(input_ids=ids, attention_mask=mask[:, args.prompt :], decoder_input_ids=start).logits

        return peft_step

    ids, rows, mask = inputs(args, model, device)

    def logits_of(rows):
        embedded = embed(model, ids, rows)
        return model(inputs_embeds=embedded, attention_mask=mask, decoder_input_ids=start, use_cache=False).logits

    if mode == "block":
        compile_blocks(model)
    compiled = torch.compile(logits_of, mode=mode) if mode in ("reduce-overhead", "max-autotune") else logits_of

    @torch.no_grad()
    def step():
        torch.compiler.cudagraph_mark_step_begin()
        return compiled(rows)

    return captured(step) if mode == "cuda-graph" else step


def generation(args: argparse.Namespace, model, device):
    import torch

    (mode,) = args.modes
    length = {"min_new_tokens": args.new_tokens, "max_new_tokens": args.new_tokens, "do_sample": False}
    if mode == "static":
        length["cache_implementation"] = "static"
    ids, rows, mask = inputs(args, model.get_base_model() if mode == "peft" else model, device)

    @torch.no_grad()
    def step():
        if mode == "peft":
            return model.generate(input_ids=ids, attention_mask=mask[:, args.prompt :], **length)
        return model.generate(inputs_embeds=embed(model, ids, rows), attention_mask=mask, **length)

    return step


def captured(step):
    """The step's kernels as one CUDA graph."""
    import torch

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


if __name__ == "__main__":
    sys.exit(main())
