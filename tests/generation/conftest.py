"""The fixtures of these tests."""

from every_family import config, model, sequences

__all__ = ["config", "model", "sequences"]
