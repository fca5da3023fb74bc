"""Finished runs behind HTTP: texts for many at once, in one batch, and labels."""

from tunewise.serving.server import ServeConfig, serve

__all__ = ["ServeConfig", "serve"]
