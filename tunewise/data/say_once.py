"""What is said once: about a file, say, which each split of a run reads again."""

import logging
from functools import lru_cache


@lru_cache(maxsize=1024)
def say_once(logger: logging.Logger, level: int, message: str) -> None:
    """Log a message, unless it was logged lately."""
    logger.log(level, "%s", message)
