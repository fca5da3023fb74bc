"""Where a run computes, in which precision, and how much memory it took."""

import ctypes
import gc
import os
import resource
import sys
from contextlib import suppress
from pathlib import Path
from typing import Literal

import torch

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
"""Parameters of mallopt, from glibc's malloc.h."""

# oneDNN keeps a compiled kernel for every shape of a bf16 product, up to 1,024 of them, and PyTorch
# as many again. Passes of texts differ in their number of tokens, so these are kernels that are
# seldom used again: half a GiB after a hundred updates. Both are read at the first product.
KEPT_KERNELS = 64
for _variable in ("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "LRU_CACHE_CAPACITY"):
    os.environ.setdefault(_variable, str(KEPT_KERNELS))

CLEAR_REFS, STATM = Path("/proc/self/clear_refs"), Path("/proc/self/statm")
MEMINFO = Path("/proc/meminfo")
"""Linux's own; see proc(5)."""

Precision = Literal["auto", "fp32", "bf16"]


def choose_device() -> torch.device:
    """Return the CUDA device if there is one, else Apple's, else the CPU."""
    if torch.cuda.is_available():
        return torch.device("cuda")
    if torch.backends.mps.is_available():
        return torch.device("mps")
    return torch.device("cpu")


def choose_dtype(precision: Precision, device: torch.device) -> torch.dtype:
    """Return the compute precision; `auto` is bf16 where the device multiplies it natively."""
    if precision == "auto":
        return torch.bfloat16 if _computes_bf16(device) else torch.float32
    return torch.bfloat16 if precision == "bf16" else torch.float32


def reset_peak_bytes(device: torch.device) -> None:
    """Begin to count anew, where the device or the system can; else the highest mark stays."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    elif sys.platform == "linux":
        give_back_memory()  # what an earlier run in this process has freed is not this run's
        with suppress(OSError):
            CLEAR_REFS.write_text("5")  # proc(5): resets the peak resident set size


def give_back_memory() -> None:
    """Have glibc give what has been freed back to the system."""
    gc.collect()
    if (glibc := _glibc()) is not None:
        glibc.malloc_trim(0)


def peak_bytes(device: torch.device) -> int:
    """Return the most memory held so far: by the allocator on a GPU, by the process on a CPU."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    if device.type == "mps":
        return torch.mps.driver_allocated_memory()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak  # Linux counts KiB


def held_bytes(device: torch.device) -> int:
    """Return the memory held now: by the allocator on a GPU, by the process on a CPU.

    Where the system does not tell, it is the most that has been held.
    """
    if device.type == "cuda":
        return torch.cuda.memory_allocated(device)
    try:
        return int(STATM.read_text().split()[1]) * resource.getpagesize()
    except OSError:
        return peak_bytes(device)


def free_bytes(device: torch.device) -> int:
    """Return the memory that may still be taken."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    try:
        lines = MEMINFO.read_text().splitlines()
    except OSError:
        return total_bytes(device) - held_bytes(device)
    values = dict(line.split(":", 1) for line in lines)
    return 1024 * int(values["MemAvailable"].split()[0])


def total_bytes(device: torch.device) -> int:
    """Return how much memory there is."""
    if device.type == "cuda":
        return torch.cuda.get_device_properties(device).total_memory
    return os.sysconf("SC_PHYS_PAGES") * resource.getpagesize()


def keep_freed_memory(device: torch.device) -> None:
    """Have glibc keep the large blocks that a process on a CPU frees, for the next update.

    Every update asks for tensors of the same sizes. Blocks given back to the system have to be
    mapped, faulted in page by page and zeroed again each time. Other C libraries are left alone.
    """
    if device.type == "cpu" and (glibc := _glibc()) is not None:
        glibc.mallopt(M_MMAP_THRESHOLD, 2**30)
        glibc.mallopt(M_TRIM_THRESHOLD, 2**31 - 1)


def _glibc() -> ctypes.CDLL | None:
    """Return the C library if it is glibc."""
    try:
        return ctypes.CDLL("libc.so.6")
    except OSError:
        return None


def is_out_of_memory(error: Exception) -> bool:
    """Return whether an error says that there is not enough memory."""
    known = (torch.OutOfMemoryError, MemoryError)
    return isinstance(error, known) or "DefaultCPUAllocator" in str(error)


def describe(device: torch.device) -> str:
    """Return the device's name, for the record of a run."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return (
        f"{device.type} ({torch.get_num_threads()} threads)"
        if device.type == "cpu"
        else device.type
    )


def _computes_bf16(device: torch.device) -> bool:
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if device.type == "mps":
        return False
    # Older PyTorch cannot say what the processor does; fp32 is never wrong.
    capabilities: dict[str, bool] = getattr(torch.cpu, "get_capabilities", dict)()
    return any(capabilities.get(name, False) for name in ("avx512_bf16", "amx_bf16", "arm_bf16"))
