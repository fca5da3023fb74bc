"""What a run will take, before anything of its model is loaded."""

from tunewise.estimate.expected import clock, estimate_run, warn_of_memory

__all__ = ["clock", "estimate_run", "warn_of_memory"]
