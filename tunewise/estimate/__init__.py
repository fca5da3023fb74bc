"""What a run will take, before anything of its model is loaded."""

from tunewise.estimate.expected import estimated, warn_of_memory

__all__ = ["estimated", "warn_of_memory"]
