"""What a run has trained, in the formats of other tools."""

from tunewise.interop.export import FORMATS, export

__all__ = ["FORMATS", "export"]
