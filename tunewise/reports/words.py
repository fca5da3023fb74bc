"""Text of a report: how numbers, intervals and lists of names are written."""

import math

from tunewise.metrics import METRICS
from tunewise.studies.statistics import Interval

MISSING = "\N{EN DASH}"
"""Shown where there is no number."""


def format_value(metric: str, value: float) -> str:
    """Return a metric's value: a share of examples in percent, others as papers print them."""
    if math.isnan(value):
        return MISSING
    if is_share(metric):
        return f"{100 * value:.1f} %"
    return f"{value:.{_decimals(metric, value)}f}"


def format_with_interval(metric: str, interval: Interval) -> str:
    """Return a metric's value, with its interval in brackets if it has one."""
    mean, bounds = format_value(metric, interval.mean), format_interval(metric, interval)
    return f"{mean} ({bounds})" if bounds else mean


def format_interval(metric: str, interval: Interval) -> str:
    """Return an interval, or an empty text if there is none."""
    if math.isnan(interval.low):
        return ""
    low, high = format_value(metric, interval.low), format_value(metric, interval.high)
    return f"{low.removesuffix(' %')} to {high.removesuffix(' %')}"


def format_difference(metric: str, interval: Interval) -> str:
    """Return a difference with its sign and interval; for shares, in percentage points."""
    factor, decimals = (100, 1) if is_share(metric) else (1, _decimals(metric, interval.mean))
    mean, low, high = (factor * x for x in (interval.mean, interval.low, interval.high))
    return f"{mean:+.{decimals}f} ({low:+.{decimals}f} to {high:+.{decimals}f})"


def is_share(metric: str) -> bool:
    """Return whether a metric is a share of examples, between 0 and 1, shown in percent."""
    return metric in METRICS and METRICS[metric].unit == "share"


def _decimals(metric: str, value: float) -> int:
    """Return how many decimals to show; a judge's score, not in METRICS, is out of 100."""
    is_out_of_100 = metric not in METRICS or METRICS[metric].unit == "hundred"
    return 1 if is_out_of_100 or abs(value) >= 100 else 3


def format_p_value(p: float) -> str:
    """Return a p-value with three decimals."""
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def format_bytes(number: float) -> str:
    """Return an amount of memory in GiB or MiB."""
    return f"{number / 2**30:.2f} GiB" if number >= 2**30 else f"{number / 2**20:.0f} MiB"


def format_seconds(number: float) -> str:
    """Return a duration in hours, minutes or seconds."""
    if number >= 3600:
        return f"{number / 3600:.1f} h"
    if number >= 120:
        return f"{number / 60:.1f} min"
    return f"{number:.1f} s" if number >= 1 else f"{number:.2g} s"


def join_names(names: list[str], conjunction: str = "and") -> str:
    """Return names as a sentence lists them; semicolons separate names that contain commas."""
    comma = "; " if any("," in name for name in names) else ", "
    if len(names) == 1:
        return names[0]
    return f"{comma.join(names[:-1])} {conjunction} {names[-1]}"
