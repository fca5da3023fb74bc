"""A text file that is all there is to learn from, cut by length into the parts of the splits."""

import logging
import re
from collections.abc import Mapping
from itertools import accumulate, pairwise

from tunewise.data.rows import Row, Split
from tunewise.data.say_once import say_once
from tunewise.errors import DataError

logger = logging.getLogger(__name__)

ENDS = {
    "paragraphs": re.compile(r"\n\s*\n"),
    "lines": re.compile(r"\n"),
    "sentences": re.compile(r"[.!?]\S?\s+"),
}
"""Where a text is cut; the first kind that gives every split half of its share is used."""


def text_parts(row: Row, held_out: Mapping[Split, float]) -> dict[Split, Row]:
    """Return the part of a text for each split: its beginning is trained on, its end held out.

    Args:
        held_out: the share of the text, in characters, of each split but training.

    Raises:
        DataError: if the text has no places to cut it at.
    """
    text = row.text("text")
    shares: dict[Split, float] = {"train": 1 - sum(held_out.values()), **held_out}
    path, _, _ = row.origin.rpartition(":")
    for kind, pattern in ENDS.items():
        cuts = _cuts(text, list(shares.values()), pattern)
        rows: dict[Split, Row] = {}
        for split, (start, end) in zip(shares, pairwise([0, *cuts, len(text)]), strict=True):
            line = 1 + text.count("\n", 0, start)
            rows[split] = Row({"text": text[start:end]}, f"{path}:{line}", row.number)
        if all(
            len(part.text("text").strip()) >= shares[split] * len(text) / 2
            for split, part in rows.items()
        ):
            places = ", ".join(
                f"{split} from line {part.origin.rpartition(':')[2]}"
                for split, part in rows.items()
            )
            say_once(logger, logging.INFO, f"{path}: one text, cut between {kind}: {places}")
            return rows
    raise DataError(
        f"{row.origin}: too few lines or sentences to split a text of {len(text):,} characters "
        f"into {', '.join(shares)}; give more text, or a folder with a file for each split"
    )


def _cuts(text: str, shares: list[float], pattern: re.Pattern[str]) -> list[int]:
    """Return, for each share but the last, the end that is nearest to its own."""
    ends = [match.end() for match in pattern.finditer(text)] or [len(text)]
    wanted = [share * len(text) for share in accumulate(shares[:-1])]
    return [min(ends, key=lambda end: abs(end - place)) for place in wanted]
