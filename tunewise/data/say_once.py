"""What is said about files once: each split of a run reads them again."""

import logging
from functools import lru_cache


@lru_cache
def say_once(logger: logging.Logger, level: int, message: str) -> None:
    """Log a message, unless it was logged lately."""
    logger.log(level, "%s", message)
