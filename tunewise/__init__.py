"""tunewise: which way to fine-tune a small language model, answered with evidence."""

__version__ = "0.1.0"
