"""Export of trained runs to the formats of other tools."""

from tunewise.interop.export import FORMATS, export

__all__ = ["FORMATS", "export"]
