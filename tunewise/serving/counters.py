"""Counters of a server: its requests, tokens and times, in Prometheus' text format.

The format: https://prometheus.io/docs/instrumenting/exposition_formats/.
"""

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import accumulate

SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
"""Bounds of the latency histogram's buckets."""
SIZES = (1, 2, 4, 8, 16, 32, 64, 128)
"""Bounds of the batch size histogram's buckets."""

Label = tuple[str, str]
"""Name and value of a Prometheus label."""


class Histogram:
    """Number of values up to each of some bounds."""

    def __init__(self, bounds: Sequence[float]) -> None:
        self._bounds = bounds
        self._counts = [0] * (len(bounds) + 1)
        self._sum = 0.0

    def observe(self, value: float) -> None:
        """Count a value."""
        self._counts[bisect_left(self._bounds, value)] += 1
        self._sum += value

    def lines(self, name: str, *labels: Label) -> Iterator[str]:
        """Yield the histogram as lines of Prometheus' format."""
        totals = list(accumulate(self._counts))
        for bound, total in zip([*self._bounds, "+Inf"], totals, strict=True):
            yield _line(f"{name}_bucket", total, *labels, ("le", str(bound)))
        yield _line(f"{name}_sum", self._sum, *labels)
        yield _line(f"{name}_count", totals[-1], *labels)


class Counters:
    """Counts since the server's start. Each is written by one thread alone."""

    def __init__(self) -> None:
        self.requests: Counter[tuple[str, int]] = Counter()
        """Number of responses by route and status."""
        self.latency: dict[str, Histogram] = {}
        """Seconds from a request's arrival to the end of its response, by route."""
        self.prompt_tokens = 0
        self.tokens = 0
        """Number of tokens written."""
        self.queue_length = 0
        """Number of texts and rows that wait."""
        self.batch_size = Histogram(SIZES)
        """Number of texts in a pass."""

    def count_response(self, route: str, status: int, seconds: float) -> None:
        """Count a response that has been sent."""
        self.requests[route, status] += 1
        self.latency.setdefault(route, Histogram(SECONDS)).observe(seconds)

    def text(self) -> str:
        """Return all counters in Prometheus' format."""
        return "".join(f"{line}\n" for line in self._lines())

    def _lines(self) -> Iterator[str]:
        name = "tunewise_requests_total"
        yield from _head(name, "counter", "Requests that have been answered.")
        for (route, status), count in self.requests.items():
            yield _line(name, count, ("route", route), ("status", str(status)))
        name = "tunewise_request_seconds"
        yield from _head(name, "histogram", "Seconds until a response had been sent.")
        for route, latency in self.latency.items():
            yield from latency.lines(name, ("route", route))
        name = "tunewise_prompt_tokens_total"
        yield from _head(name, "counter", "Tokens of prompts, those of abandoned texts included.")
        yield _line(name, self.prompt_tokens)
        name = "tunewise_generated_tokens_total"
        yield from _head(name, "counter", "Tokens that have been written.")
        yield _line(name, self.tokens)
        name = "tunewise_queue_length"
        yield from _head(name, "gauge", "Texts and rows that wait.")
        yield _line(name, self.queue_length)
        name = "tunewise_batch_size"
        yield from _head(name, "histogram", "Texts of which one pass writes a token.")
        yield from self.batch_size.lines(name)


def _head(name: str, kind: str, description: str) -> tuple[str, str]:
    return f"# HELP {name} {description}", f"# TYPE {name} {kind}"


def _line(name: str, value: float, *labels: Label) -> str:
    inside = ",".join(f'{key}="{value}"' for key, value in labels)
    return f"{name}{{{inside}}} {value}" if inside else f"{name} {value}"
