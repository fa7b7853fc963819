"""Floating-point operations of a training step, and the peak of the machine that they are compared with.

On a CPU with AMX or AVX-512 instructions for bfloat16, large matrix products reach several times the rate of float32.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import torch
from torch.utils.flop_counter import FlopCounterMode

INSTRUCTIONS = ("amx_bf16", "avx512_bf16")


def bfloat16_instructions() -> list[str]:
    """The instruction sets of this CPU for bfloat16, as Linux names them; empty on other systems."""
    try:
        with open("/proc/cpuinfo") as file:
            flags = next((line.split(":")[1].split() for line in file if line.startswith("flags")), [])
    except OSError:
        return []
    return [name for name in INSTRUCTIONS if name in flags]


def operations(run: Callable[[], object]) -> int:
    """Floating-point operations (two per multiply-add) of the matrix products and convolutions of a function."""
    with FlopCounterMode(display=False) as counter:
        run()
    return counter.get_total_flops()


def cpu_seconds(run: Callable[[], object], repetitions: int) -> float:
    """CPU seconds of this process per call, after a first call that is not counted."""
    run()
    started = time.process_time()
    for _ in range(repetitions):
        run()
    return (time.process_time() - started) / repetitions


def peak(dtype: torch.dtype = torch.bfloat16, side: int = 2048, repetitions: int = 3) -> float:
    """Floating-point operations per CPU second of a product of two square matrices."""
    a = torch.randn(side, side).to(dtype)
    return 2 * side**3 / cpu_seconds(lambda: a @ a, repetitions)
