"""Finished runs behind an HTTP server: texts, many in one batch, and labels."""

from tunewise.serving.server import ServeConfig, serve

__all__ = ["ServeConfig", "serve"]
