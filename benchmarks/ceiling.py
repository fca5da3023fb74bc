"""How fast this machine multiplies matrices: the ceiling of everything else."""

import json
import sys
import time

import torch
import torch.nn.functional as F

from tunewise.device import choose_device

N, D_IN, D_OUT = 2048, 768, 3072
SECONDS = 1.0


def flops_per_second(dtype: torch.dtype) -> float:
    """Return the rate of the fastest of many (N, D_IN) x (D_IN, D_OUT) products."""
    device = choose_device()
    x = torch.randn(N, D_IN, device=device, dtype=dtype)
    weight = torch.randn(D_OUT, D_IN, device=device, dtype=dtype)
    best, end = 0.0, time.perf_counter() + SECONDS
    repeats = 100 if device.type == "cuda" else 1
    while time.perf_counter() < end:
        started = time.perf_counter()
        for _ in range(repeats):
            F.linear(x, weight)
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        seconds = (time.perf_counter() - started) / repeats
        best = max(best, 2 * N * D_IN * D_OUT / seconds)
    return best


if __name__ == "__main__":
    torch.set_num_threads(int(sys.argv[1]))
    rates = {"bf16": torch.bfloat16, "fp32": torch.float32}
    print(json.dumps({name: flops_per_second(dtype) for name, dtype in rates.items()}))
