"""Holds the CUDA kernels to PyTorch's results, and times them. Needs PyTorch and an NVIDIA card.

    python3 bench/gpu/kernels.py

One JSON line a kernel: the largest difference from PyTorch in f32 relative to the largest value, that of PyTorch's own
bf16 beside it, and the median time. Sizes are those of T5 Large, 32 examples of 148 positions, and some odd ones.
"""

import ctypes
import json
import statistics
import sys
from pathlib import Path

import torch

PTX = Path(__file__).parents[2] / "src/runtime/kernels/kernels.ptx"
TILE = 64
REPETITIONS = 20
# launched one after the other between two events, so that the time to launch one does not count
LAUNCHES = 20


class Kernels:
    def __init__(self) -> None:
        torch.zeros(1, device="cuda")
        self.driver = ctypes.CDLL("libcuda.so.1")
        self.module = ctypes.c_void_p()
        self.check(self.driver.cuModuleLoadData(ctypes.byref(self.module), PTX.read_bytes() + b"\0"))

    @staticmethod
    def check(status: int) -> None:
        if status:
            sys.exit(f"the CUDA driver says {status}")

    def launch(self, name: str, blocks: int, threads: int, *arguments) -> None:
        function = ctypes.c_void_p()
        self.check(self.driver.cuModuleGetFunction(ctypes.byref(function), self.module, name.encode()))
        values = [
            ctypes.c_void_p(a.data_ptr()) if isinstance(a, torch.Tensor)
            else ctypes.c_void_p(None) if a is None
            else a
            for a in arguments
        ]
        pointers = (ctypes.c_void_p * len(values))(*(ctypes.cast(ctypes.pointer(v), ctypes.c_void_p) for v in values))
        stream = ctypes.c_void_p(torch.cuda.current_stream().cuda_stream)
        self.check(self.driver.cuLaunchKernel(function, blocks, 1, 1, threads, 1, 1, 0, stream, pointers, None))


def reference_attention(qkv, position, hidden, dy, heads):
    batch, length, width = qkv.shape
    qkv = qkv.detach().requires_grad_()
    q, k, v = (x.view(batch, length, heads, -1).transpose(1, 2) for x in qkv.chunk(3, -1))
    scores = q @ k.transpose(2, 3) + position
    if hidden is not None:
        scores = scores + hidden[:, None, None, :]
    y = (scores.float().softmax(-1).to(q.dtype) @ v).transpose(1, 2).reshape(batch, length, width // 3)
    y.backward(dy)
    return y.detach(), qkv.grad


def attention(kernels, batch, heads, length, d, own, masked):
    torch.manual_seed(1)
    inner, bf16 = heads * d, torch.bfloat16
    random = lambda *shape: torch.randn(*shape, device="cuda").to(bf16)
    qkv, dy = random(batch, length, 3 * inner) * d**-0.25, random(batch, length, inner)
    position = random(batch if own else 1, heads, length, length)
    hidden = None
    if masked:
        lengths = torch.randint(1, length + 1, (batch, 1), device="cuda")
        hidden = (torch.arange(length, device="cuda")[None] >= lengths).to(bf16) * -1e9
    out, d_qkv = torch.full_like(dy, float("nan")), torch.full_like(qkv, float("nan"))
    log_sum, delta = (torch.empty(batch, heads, length, device="cuda") for _ in range(2))
    blocks = (length + TILE - 1) // TILE * batch * heads
    sizes = [ctypes.c_int(x) for x in (heads, length, d, int(own))]
    forward = lambda: kernels.launch("attention_bf16_64", blocks, 128, qkv, position, hidden, out, log_sum, *sizes)
    inputs = (qkv, position, hidden, out, log_sum, dy, d_qkv, delta, *sizes)
    queries = lambda: kernels.launch("attention_grad_queries_bf16_64", blocks, 128, *inputs)
    keys = lambda: kernels.launch("attention_grad_keys_bf16_64", blocks, 128, *inputs)
    forward(), queries(), keys()
    exact = reference_attention(*(None if x is None else x.float() for x in (qkv, position, hidden, dy)), heads)
    torch_own = reference_attention(qkv, position, hidden, dy, heads)
    line = {"kernel": "attention", "batch": batch, "heads": heads, "length": length, "d": d, "own": own, "masked": masked}
    for name, ours, theirs, right in (("out", out, torch_own[0], exact[0]), ("d_qkv", d_qkv, torch_own[1], exact[1])):
        line[name], line[f"{name}_torch"] = away(ours, right), away(theirs, right)
    first = [x.clone() for x in (out, d_qkv)]
    forward(), queries(), keys()
    line["same_again"] = all(torch.equal(a, b) for a, b in zip(first, (out, d_qkv)))
    line |= {"forward_us": timed(forward), "grad_queries_us": timed(queries), "grad_keys_us": timed(keys)}
    print(json.dumps(line), flush=True)


def gated_gelu(kernels, rows, width, dtype):
    torch.manual_seed(1)
    random = lambda *shape: torch.randn(*shape, device="cuda").to(dtype)
    both, dy = random(rows, 2 * width), random(rows, width)
    y, d_both = torch.empty_like(dy), torch.empty_like(both)
    name = named(dtype, width)
    pack = 1 if "packed" not in name else 8 if dtype == torch.bfloat16 else 4
    blocks, sizes = rows * width // pack // 256 + 1, (ctypes.c_int64(rows), ctypes.c_int(width))
    forward = lambda: kernels.launch(f"gated_gelu_{name}", blocks, 256, both, y, *sizes)
    backward = lambda: kernels.launch(f"gated_gelu_grad_{name}", blocks, 256, both, dy, d_both, *sizes)
    forward(), backward()
    exact = both.float().requires_grad_()
    gate, wide = exact.chunk(2, -1)
    right = torch.nn.functional.gelu(gate, approximate="tanh") * wide
    right.backward(dy.float())
    print(json.dumps({
        "kernel": "gated_gelu", "rows": rows, "width": width, "type": name,
        "y": away(y, right), "d_both": away(d_both, exact.grad),
        "forward_us": timed(forward), "grad_us": timed(backward),
    }), flush=True)


def rms_norm(kernels, rows, width, dtype):
    torch.manual_seed(1)
    random = lambda *shape: torch.randn(*shape, device="cuda").to(dtype)
    x, added, dy, before, scale = *(random(rows, width) for _ in range(4)), random(width)
    epsilon, inverse = torch.tensor([1e-6], device="cuda"), torch.empty(rows, 1, device="cuda")
    y, total, dx = (torch.empty_like(x) for _ in range(3))
    name, size = named(dtype, width), ctypes.c_int(width)
    forward = lambda: kernels.launch(
        f"rms_norm_{name}", rows, 128, x, scale, epsilon, added, y, inverse, total, size
    )
    backward = lambda: kernels.launch(f"rms_norm_grad_{name}", rows, 128, total, scale, inverse, dy, before, dx, size)
    forward(), backward()
    exact = (x + added).float().requires_grad_()
    right = exact * (exact.square().mean(-1, keepdim=True) + 1e-6).rsqrt() * scale.float()
    right.backward(dy.float())
    print(json.dumps({
        "kernel": "rms_norm", "rows": rows, "width": width, "type": name, "sum": away(total, exact),
        "y": away(y, right), "dx": away(dx, exact.grad + before.float()),
        "forward_us": timed(forward), "grad_us": timed(backward),
    }), flush=True)


def named(dtype, width) -> str:
    name, pack = ("bf16", 8) if dtype == torch.bfloat16 else ("f32", 4)
    return name + ("_packed" if width % pack == 0 else "")


def away(ours, right) -> float:
    return float(f"{((ours.float() - right).abs().max() / right.abs().max()).item():.2e}")


def timed(work) -> float:
    times = []
    for _ in range(REPETITIONS):
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        torch.cuda._sleep(5_000_000)
        start.record()
        for _ in range(LAUNCHES):
            work()
        end.record()
        end.synchronize()
        times.append(1000 * start.elapsed_time(end) / LAUNCHES)
    return round(statistics.median(times), 1)


def main() -> None:
    kernels = Kernels()
    for size in ((32, 16, 148), (32, 16, 152), (32, 16, 4), (8, 16, 512), (128, 16, 148)):
        attention(kernels, *size, d=64, own=size[2] == 4, masked=size[2] != 4)
    for d, length, own, masked in ((64, 1, True, False), (8, 17, False, True), (24, 65, True, True), (56, 130, False, False)):
        attention(kernels, 3, 2, length, d, own, masked)
    for rows, width, dtype in (
        (4736, 2816, torch.bfloat16), (4736, 2816, torch.float32), (5, 13, torch.bfloat16), (5, 12, torch.float32)
    ):
        gated_gelu(kernels, rows, width, dtype)
    for rows, width, dtype in (
        (4864, 1024, torch.bfloat16), (128, 1024, torch.bfloat16), (4864, 4096, torch.bfloat16),
        (4864, 1024, torch.float32), (7, 13, torch.bfloat16), (7, 20, torch.float32),
    ):
        rms_norm(kernels, rows, width, dtype)


if __name__ == "__main__":
    main()
