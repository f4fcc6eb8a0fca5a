#!/usr/bin/env python3
"""Compiles kernels.cu, attention.cu and cached.cu of src/runtime/kernels to PTX with NVRTC (no GPU and no CUDA toolkit needed).

NVRTC comes from PyPI, pinned; what is written is checked in, so that neither building nor running xprompt needs it.
"""

import ctypes
import hashlib
import pathlib
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
KERNELS = ROOT / "src/runtime/kernels"
# in this order
SOURCES = ["kernels.cu", "attention.cu", "cached.cu"]
NVRTC = "nvidia-cuda-nvrtc-cu12==12.4.127"
# Ampere: the oldest architecture with bf16 arithmetic in cuBLAS; newer ones compile the PTX when they load it.
ARCHITECTURE = "compute_80"


def nvrtc() -> ctypes.CDLL:
    venv = ROOT / ".cache/nvrtc"
    if not venv.exists():
        subprocess.run([sys.executable, "-m", "venv", venv], check=True)
        subprocess.run([venv / "bin/pip", "install", "--quiet", NVRTC], check=True)
    folder = next(venv.glob("lib/python3*/site-packages/nvidia/cuda_nvrtc/lib"))
    ctypes.CDLL(str(next(folder.glob("libnvrtc-builtins.so.*"))), mode=ctypes.RTLD_GLOBAL)
    return ctypes.CDLL(str(folder / "libnvrtc.so.12"))


def compile_to_ptx(library: ctypes.CDLL, source: bytes) -> bytes:
    program = ctypes.c_void_p()
    library.nvrtcCreateProgram(ctypes.byref(program), source, b"kernels.cu", 0, None, None)
    options = [f"--gpu-architecture={ARCHITECTURE}".encode(), b"--std=c++17"]
    status = library.nvrtcCompileProgram(program, len(options), (ctypes.c_char_p * len(options))(*options))
    size = ctypes.c_size_t()
    library.nvrtcGetProgramLogSize(program, ctypes.byref(size))
    log = ctypes.create_string_buffer(size.value)
    library.nvrtcGetProgramLog(program, log)
    if status != 0:
        sys.exit(log.value.decode())
    library.nvrtcGetPTXSize(program, ctypes.byref(size))
    ptx = ctypes.create_string_buffer(size.value)
    library.nvrtcGetPTX(program, ptx)
    return ptx.value


def main() -> None:
    source = b"".join((KERNELS / name).read_bytes() for name in SOURCES)
    ptx = compile_to_ptx(nvrtc(), source)
    made_from = f"// made by scripts/kernels.py from {', '.join(SOURCES)}, SHA-256 {hashlib.sha256(source).hexdigest()}\n"
    (KERNELS / "kernels.ptx").write_bytes(made_from.encode() + ptx)
    print(f"kernels.ptx: {len(ptx)} bytes")


if __name__ == "__main__":
    main()
