"""Recognition: the task of a table, found out from its columns and from what is in them."""

import shlex
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from tunewise.data.rows import Row
from tunewise.data.splits import local_source, rows_of
from tunewise.errors import DataError, first_of
from tunewise.tasks.labels import NUMBER, label_value, refuse_scores

CONVERSATIONS = ("messages", "conversations")
INSTRUCTIONS = (("instruction", "output"), ("prompt", "completion"), ("prompt", "chosen"))
"""Columns by which rows are known as instructions and their responses."""
TEXT_NAMES = ("text", "sentence", "review", "content", "body", "message", "question", "title")
"""Names of the column with the text, the most usual first; used where several hold texts."""
LABEL_NAMES = (
    *("label", "labels", "class", "category", "sentiment", "intent", "target", "y", "stars"),
    *("rating", "topic", "type", "priority", "status", "emotion", "answer", "summary", "output"),
)
"""Names of columns that are put first where one has to be proposed."""
LONGEST = 3
"""How many times as long as the others' a column's texts are if it is clearly the text."""
MAX_NUMBERS = 20
"""Most different numbers that are taken for classes."""
MIN_WORDS = 3
"""Mean number of words from which values are texts, and not names or keys."""


class Recognized(NamedTuple):
    """A task that was recognized, and why."""

    settings: dict[str, Any]
    """The settings of the task, as `config.yaml` has them."""
    reason: str
    """One sentence that names the kind of task and says how it shows."""


def recognize(
    path: Path, target: str | None = None, texts: Iterable[str] = (), kind: str | None = None
) -> Recognized:
    """Return the task of a table: a file of rows, or a folder with a file for each split.

    All training rows are looked at. With `target`, the answer is a label if its values repeat, and
    a text to be written if they are texts that do not. Without, the columns' names decide.

    Args:
        target: the column with the answer.
        texts: the columns with the text; without them, the one that is clearly the text.
        kind: the kind of task, if the user has said it.

    Raises:
        DataError: if the rows cannot be read, or it is not clear what is to be learned; the
            message says what to add.
    """
    path, texts = path.expanduser().absolute(), list(texts)
    rows = _training_rows(path)
    names = list(dict.fromkeys(str(name) for row in rows for name in row.values))
    for name in (*texts, *filter(None, [target])):
        if name not in names:
            rows[0].value(name)  # raises, with the nearest name
    if target is None and not texts and (found := _by_names(path, rows, names, kind)):
        return found
    if target is None and "label" in names:
        target = "label"
    if target is None:
        likely = _likely_target(rows, [name for name in names if name not in texts])
        raise DataError(
            f"{path.name}: which column is to be predicted? Add --target COLUMN, such as --target "
            f"{shlex.quote(likely)}; its columns: {first_of(names)}"
        )
    kind = kind or _kind_of_answer(path, rows, target)
    chosen = texts or [_text_column(path, rows, [name for name in names if name != target])]
    return _with_target(path, rows, target, chosen, kind)


def _training_rows(path: Path) -> list[Row]:
    """Return the training rows but for broken ones, which are reported when the task reads them."""
    source = local_source(path)
    rows = source.splits["train"](lambda _: None) if "train" in source.splits else []
    return rows or rows_of(source, "train")  # raises


def _by_names(
    path: Path, rows: Sequence[Row], names: Sequence[str], kind: str | None
) -> Recognized | None:
    """Return the task that the columns' names, or the kind of file, show; None if none."""
    settings: dict[str, Any] = {"path": str(path)}
    conversation = next((name for name in CONVERSATIONS if name in names), None)
    pair = next((pair for pair in INSTRUCTIONS if set(pair) <= set(names)), None)
    if kind in (None, "instruction") and (conversation or pair):
        columns = repr(conversation) if pair is None else " and ".join(map(repr, pair))
        reason = f"{path.name}: has the columns {columns}: instructions and their responses"
        return Recognized({"kind": "instruction", **settings}, reason)
    if kind in (None, "language_modeling") and len(names) == 1:
        (only,) = names
        reason = f"{path.name}: holds texts only ({only!r}): language modelling"
        return Recognized({"kind": "language_modeling", **settings, "text": only}, reason)
    if kind not in (None, "classification", "generation"):
        reason = f"{path.name}: {kind}, as task.kind says"
        return Recognized({"kind": kind, **settings}, reason)
    return None


def _likely_target(rows: Sequence[Row], names: Sequence[str]) -> str:
    """Return the column whose name is usual for labels, or the one with the fewest values."""
    counts = {name: len({str(row.values.get(name)) for row in rows}) for name in names}
    by_name = [name for name in names if name.lower() in LABEL_NAMES and counts[name] > 1]
    return min(by_name or names, key=lambda name: (counts[name] < 2, counts[name]))


def _kind_of_answer(path: Path, rows: Sequence[Row], target: str) -> str:
    """Return whether the values of a column are labels or texts, by the kind of task.

    Raises:
        DataError: if they are neither: keys, scores, or one value alone.
    """
    counts: Counter[str] = Counter()
    for row in rows:
        try:
            counts[label_value(row, target)] += 1
        except DataError:  # reported, or dropped, when the task reads it
            continue
    if not counts:
        label_value(rows[0], target)  # raises
    num_rows = sum(counts.values())
    where = f"{path.name}: --target {shlex.quote(target)}"
    if len(counts) == 1:
        raise DataError(
            f"{where}: every row has {next(iter(counts))!r}, so there is nothing to learn; name "
            "another column"
        )
    are_numbers = all(NUMBER.fullmatch(value) for value in counts)
    num_words = sum(_count_words(value) * count for value, count in counts.items()) / num_rows
    if 2 * len(counts) > num_rows > 2 and not are_numbers:
        if num_words >= MIN_WORDS:
            return "generation"
        if len(counts) > 2 and num_rows >= 10:
            raise DataError(
                f"{where}: {len(counts)} values in {num_rows} rows, so they are keys or names, "
                "not labels; name another column, or add task.kind=generation to have them written"
            )
    refuse_scores(counts, where, "--target")
    if are_numbers and len(counts) > MAX_NUMBERS:
        raise DataError(
            f"{where}: {len(counts)} different numbers in {num_rows} rows: a quantity? tunewise "
            "classifies; make a few classes, such as low and high, or add task.kind=classification "
            "if each number is a class"
        )
    return "classification"


def _count_words(text: str) -> int:
    """Return the number of words; in writing without spaces, such as Chinese, of characters."""
    return len(text.split()) + sum(character > "\u2e80" for character in text)


def _text_column(path: Path, rows: Sequence[Row], names: Sequence[str]) -> str:
    """Return the column that is clearly the text.

    Raises:
        DataError: if none holds texts, or several may be meant.
    """
    lengths: dict[str, float] = {}
    for name in names:
        values = [row.values.get(name) for row in rows]
        filled = [value for value in values if isinstance(value, str) and value.strip()]
        # Numbers and dates are no texts.
        if 2 * sum(any(map(str.isalpha, value)) for value in filled) > len(filled):
            lengths[name] = sum(map(len, filled)) / len(filled)
    if not lengths:
        raise DataError(
            f"{path.name}: no other column holds texts ({first_of(names) or 'there is none'}); "
            "the text is what the answer is to be told from"
        )
    longest, *others = sorted(lengths, key=lambda name: -lengths[name])
    if not others or lengths[longest] >= LONGEST * lengths[others[0]]:
        return longest
    by_name = {name.lower(): name for name in reversed(lengths)}
    known = [by_name[name] for name in TEXT_NAMES if name in by_name]
    if len(known) == 1:
        return known[0]
    several = " ".join(f"--text {shlex.quote(name)}" for name in (longest, others[0]))
    raise DataError(
        f"{path.name}: several columns may be the text ({first_of(lengths)}); name it with "
        f"--text {shlex.quote(longest)}, or give several: {several}"
    )


def _with_target(
    path: Path, rows: Sequence[Row], target: str, texts: Sequence[str], kind: str
) -> Recognized:
    """Return a task whose answer is a column."""
    settings: dict[str, Any] = {"kind": kind, "path": str(path)}
    read = " and ".join(map(repr, texts))
    one = f"{{{texts[0]}}}"
    template = one if len(texts) == 1 else "\n".join(f"{name}: {{{name}}}" for name in texts)
    if kind == "classification":
        num_values = len({str(row.values.get(target)) for row in rows})
        settings |= {"text": texts[0]} if len(texts) == 1 else {"template": template}
        settings["label"] = target
        why = f"{target!r} has {num_values} values in {len(rows)} rows: classification of {read}"
    elif kind == "generation":
        settings |= {"template": f"{template}\n", "completion": f"{{{target}}}"}
        why = f"{target!r} holds texts: they are written after {read} (generation)"
    else:
        raise DataError(
            f"--target: labels are classified and texts generated; with task.kind={kind}, set the "
            "fields of this kind in its place, such as task.label=COLUMN; see docs/tasks.md"
        )
    return Recognized(settings, f"{path.name}: {why}")
