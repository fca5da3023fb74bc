"""The HTTP server of finished runs: it writes texts, many in one batch, and classifies rows."""

from tunewise.serving.server import ServeConfig, serve

__all__ = ["ServeConfig", "serve"]
