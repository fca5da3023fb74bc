"""Memory of a device: the total, what is free, what is held, and the peak.

On a CPU, also whether the C library keeps what is freed or gives it back to the system.
"""

import ctypes
import gc
import os
import resource
import sys
from contextlib import suppress
from pathlib import Path

import torch

GIB = 2**30
"""Bytes in a GiB."""

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
"""Numbers of two parameters of mallopt, from glibc's malloc.h."""

CLEAR_REFS, STATM = Path("/proc/self/clear_refs"), Path("/proc/self/statm")
MEMINFO = Path("/proc/meminfo")
"""Files in which Linux reports memory; see proc(5)."""


def reset_peak_bytes(device: torch.device) -> None:
    """Reset what `peak_bytes` returns, on CUDA and Linux; elsewhere the earlier peak remains.

    On Linux, freed memory is given back to the system first: see `give_back_memory`.
    """
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    elif sys.platform == "linux":
        give_back_memory()  # memory that an earlier run in this process freed is not this run's
        with suppress(OSError):
            CLEAR_REFS.write_text("5")  # proc(5): resets the peak resident set size


def give_back_memory() -> None:
    """Collect garbage and have glibc give all freed memory back to the system, once.

    Other C libraries are left alone.
    """
    gc.collect()
    if (glibc := _glibc()) is not None:
        glibc.malloc_trim(0)


def peak_bytes(device: torch.device) -> int:
    """Return the most bytes held so far: by the allocator on a GPU, by the process on a CPU."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    if device.type == "mps":
        return torch.mps.driver_allocated_memory()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak  # Linux counts KiB


def held_bytes(device: torch.device) -> int:
    """Return the bytes held now: by the allocator on a GPU, by the process on a CPU.

    Where the system does not say (it is not Linux), this is the most that has been held so far.
    """
    if device.type == "cuda":
        return torch.cuda.memory_allocated(device)
    try:
        return int(STATM.read_text().split()[1]) * resource.getpagesize()
    except OSError:
        return peak_bytes(device)


def free_bytes(device: torch.device) -> int:
    """Return the bytes that are still free: of the GPU, or of the machine for all processes."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    try:
        lines = MEMINFO.read_text().splitlines()
    except OSError:
        return total_bytes(device) - held_bytes(device)
    values = dict(line.split(":", 1) for line in lines)
    return 1024 * int(values["MemAvailable"].split()[0])


def total_bytes(device: torch.device) -> int:
    """Return the bytes of memory that the GPU or the machine has."""
    if device.type == "cuda":
        return torch.cuda.get_device_properties(device).total_memory
    return os.sysconf("SC_PHYS_PAGES") * resource.getpagesize()


def keep_freed_memory(device: torch.device) -> None:
    """Have glibc keep the large blocks that are freed, from now on until this process ends.

    This changes two parameters of malloc (mallopt) for the whole process, and nothing sets them
    back; `give_back_memory` gives back what is free at that moment. It is done on a CPU only.

    Every update asks for tensors of the same sizes. Blocks given back to the system would have to
    be mapped, faulted in page by page and zeroed again for each. Other C libraries are left alone.
    """
    if device.type == "cpu" and (glibc := _glibc()) is not None:
        glibc.mallopt(M_MMAP_THRESHOLD, 2**30)
        glibc.mallopt(M_TRIM_THRESHOLD, 2**31 - 1)


def _glibc() -> ctypes.CDLL | None:
    """Return the C library if it is glibc, else None."""
    try:
        return ctypes.CDLL("libc.so.6")
    except OSError:
        return None


OUT_OF_MEMORY = (
    "DefaultCPUAllocator",  # PyTorch on a CPU
    "Cannot allocate memory",  # mmap of a file, the system
    "could not create a primitive",  # oneDNN, which names no reason
    "could not create a memory",
    "std::bad_alloc",
    "CUBLAS_STATUS_ALLOC_FAILED",
)
"""Words of libraries that have no type of error of their own for it."""


def is_out_of_memory(error: Exception) -> bool:
    """Return whether an error means that memory ran out, on a GPU or a CPU."""
    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return True
    return any(words in str(error) for words in OUT_OF_MEMORY)


def kept_kernels() -> int:
    """Return how many compiled kernels oneDNN keeps at most; `tunewise/__init__.py` sets it."""
    return int(os.environ["ONEDNN_PRIMITIVE_CACHE_CAPACITY"])
