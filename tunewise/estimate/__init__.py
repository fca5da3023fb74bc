"""Estimates of the memory and time of a run, made before its weights are loaded."""

from tunewise.estimate.expected import estimate_run, warn_of_memory

__all__ = ["estimate_run", "warn_of_memory"]
