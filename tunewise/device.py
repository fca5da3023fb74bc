"""The device that a run computes on, and the precision that it computes in."""

from typing import Literal

import torch

Precision = Literal["auto", "fp32", "bf16"]
"""Values of the setting `train.precision`."""


def choose_device() -> torch.device:
    """Return the CUDA device if there is one, else Apple's, else the CPU."""
    if torch.cuda.is_available():
        return torch.device("cuda")
    if torch.backends.mps.is_available():
        return torch.device("mps")
    return torch.device("cpu")


def choose_dtype(precision: Precision, device: torch.device) -> torch.dtype:
    """Return the type to compute in; `auto` is bf16 if the device multiplies it natively."""
    if precision == "auto":
        return torch.bfloat16 if _computes_bf16(device) else torch.float32
    return torch.bfloat16 if precision == "bf16" else torch.float32


def describe(device: torch.device) -> str:
    """Return the name of the device, as in `result.json`: a CPU's has its number of threads."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"cpu ({torch.get_num_threads()} threads)" if device.type == "cpu" else device.type


def _computes_bf16(device: torch.device) -> bool:
    """Return whether the device multiplies bf16 natively, not by way of fp32."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if device.type == "mps":
        return False
    # Older PyTorch cannot say what the processor does; fp32 is never wrong.
    capabilities: dict[str, bool] = getattr(torch.cpu, "get_capabilities", dict)()
    return any(capabilities.get(name, False) for name in ("avx512_bf16", "amx_bf16", "arm_bf16"))
