"""What a run will take, before anything of its model is loaded."""

from tunewise.estimate.expected import clock, estimated, warn_of_memory

__all__ = ["clock", "estimated", "warn_of_memory"]
