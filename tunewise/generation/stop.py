"""Stop rules: the end of an output, its text, and the pieces in which it is streamed."""

from collections.abc import Sequence
from typing import Literal

from tunewise.data.tokenizer import Tokenizer
from tunewise.generation.config import DecodingConfig

EndReason = Literal["stop", "length"]
"""Why an output has ended: by the end-of-text token or a stop string, or at its maximum length."""


def text_of(output: Sequence[int], tokenizer: Tokenizer, decoding: DecodingConfig) -> str:
    """Return the text of an output, cut exactly before the first stop string."""
    text = tokenizer.decode(output)
    ends = [text.find(stop) for stop in decoding.stop if stop in text]
    return text[: min(ends)] if ends else text


class StopRule:
    """Decides whether an output has ended, and trims it."""

    def __init__(self, tokenizer: Tokenizer, decoding: DecodingConfig) -> None:
        self.tokenizer = tokenizer
        self._decoding = decoding
        # A token is at least one byte, so a stop string that ends in the last token begins at most
        # this many tokens before the end.
        self._reach = max((len(stop.encode()) for stop in decoding.stop), default=0)

    def end_reason(self, output: list[int], max_new_tokens: int) -> EndReason | None:
        """Return why an output ends with its last token; None if it continues."""
        if output[-1] in self.tokenizer.ends or self._has_stop_string(output):
            return "stop"
        return "length" if len(output) == max_new_tokens else None

    def trim(self, output: list[int]) -> list[int]:
        """Return an ended output without its end-of-text token, or from a stop string on.

        A token that holds the beginning of a stop string stays, and the rest of the string with
        it, since a token cannot be cut: `text_of` cuts the text.
        """
        if output[-1] in self.tokenizer.ends:
            return output[:-1]
        if not self._has_stop_string(output):
            return output
        text = text_of(output, self.tokenizer, self._decoding)
        shortest = max(0, len(output) - self._reach)
        parts = (output[:length] for length in range(shortest, len(output) + 1))
        return next(part for part in parts if text_of(part, self.tokenizer, self._decoding) == text)

    def _has_stop_string(self, output: list[int]) -> bool:
        """Return whether a stop string lies within the last tokens of an output."""
        if not self._reach:
            return False
        tail = self.tokenizer.decode(output[-self._reach :])
        return any(stop in tail for stop in self._decoding.stop)


class TextStream:
    """Cuts the text of a growing output into pieces that later tokens cannot change.

    Characters that may belong to a stop string, or are not complete yet, wait for later tokens.
    """

    def __init__(self, tokenizer: Tokenizer, decoding: DecodingConfig) -> None:
        self._tokenizer = tokenizer
        self._decoding = decoding
        self._num_held_back = max((len(stop) for stop in decoding.stop), default=1) - 1
        self._num_shown = 0

    def next_piece(self, output: Sequence[int]) -> str:
        """Return the new text of a growing output that later tokens cannot change; it may be ""."""
        text = text_of(output, self._tokenizer, self._decoding)
        text = text.rstrip("\N{REPLACEMENT CHARACTER}")
        piece = text[self._num_shown : max(self._num_shown, len(text) - self._num_held_back)]
        self._num_shown += len(piece)
        return piece

    def last_piece(self, output: Sequence[int]) -> str:
        """Return the rest of the text of an output that has ended and been trimmed."""
        return text_of(output, self._tokenizer, self._decoding)[self._num_shown :]
