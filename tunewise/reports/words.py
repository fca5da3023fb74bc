"""How numbers are written for people."""

import math

from tunewise.metrics import METRICS
from tunewise.studies.statistics import Interval

NOTHING = "\N{EN DASH}"
"""Where there is no number."""


def value_of(metric: str, value: float) -> str:
    """Return a metric's value: a share of right labels in percent, others as papers print them."""
    if math.isnan(value):
        return NOTHING
    if _is_share(metric):
        return f"{100 * value:.1f} %"
    return f"{value:.{_digits(metric, value)}f}"


def estimate_of(metric: str, estimate: Interval) -> str:
    """Return a metric's value with its interval."""
    mean = value_of(metric, estimate.mean)
    interval = interval_of(metric, estimate)
    return f"{mean} ({interval})" if interval else mean


def interval_of(metric: str, estimate: Interval) -> str:
    """Return an interval, or nothing where there is none."""
    if math.isnan(estimate.low):
        return ""
    low, high = value_of(metric, estimate.low), value_of(metric, estimate.high)
    return f"{low.removesuffix(' %')} to {high.removesuffix(' %')}"


def difference_of(metric: str, estimate: Interval) -> str:
    """Return a difference with its sign and interval; of shares, in percentage points."""
    factor, digits = (100, 1) if _is_share(metric) else (1, _digits(metric, estimate.mean))
    mean, low, high = (factor * x for x in (estimate.mean, estimate.low, estimate.high))
    return f"{mean:+.{digits}f} ({low:+.{digits}f} to {high:+.{digits}f})"


def _is_share(metric: str) -> bool:
    """Return whether a metric is a share of right labels, between 0 and 1."""
    return metric in METRICS and METRICS[metric].of == "label"


def _digits(metric: str, value: float) -> int:
    """Return how many decimals a metric has; a judge's, which is no known one, is out of 100."""
    of_a_hundred = metric not in METRICS or METRICS[metric].bounds[1] == 100
    return 1 if of_a_hundred or abs(value) >= 100 else 3


def p_of(p: float) -> str:
    """Return a p-value."""
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def bytes_of(number: float) -> str:
    """Return an amount of memory."""
    return f"{number / 2**30:.2f} GiB" if number >= 2**30 else f"{number / 2**20:.0f} MiB"


def seconds_of(number: float) -> str:
    """Return a time."""
    if number >= 3600:
        return f"{number / 3600:.1f} h"
    if number >= 120:
        return f"{number / 60:.1f} min"
    return f"{number:.1f} s" if number >= 1 else f"{number:.2g} s"


def listed(names: list[str]) -> str:
    """Return names as a sentence has them; semicolons part those that hold commas."""
    comma = "; " if any("," in name for name in names) else ", "
    return names[0] if len(names) == 1 else f"{comma.join(names[:-1])} and {names[-1]}"
