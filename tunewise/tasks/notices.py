"""Notices: what deserves a word about rows that are used as they are, one sentence each.

`row_notices` and `label_notices` look at the rows of a file, `split_notices` at the examples of all
splits together.
"""

import logging
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from tunewise.data.example import Example
from tunewise.data.rows import Row, Split
from tunewise.tasks.labels import joined_labels, label_value, looks_missing, loose_form

logger = logging.getLogger(__name__)

NUM_SHOWN = 3
"""Most rows, or labels, that are named."""

Text = tuple[str, ...] | None


def warn_of_examples(split: Split, examples: Mapping[Split, Sequence[Example]]) -> None:
    """Log what deserves a word about the examples of a split, beside those of the other splits."""
    own = examples[split]
    notices = split_notices(own, None if split == "train" else examples["train"])
    if split == "test":
        trained, chosen_by = map(_by_text, (examples["train"], examples.get("validation", ())))
        only = chosen_by.keys() - trained.keys()
        pairs = [(e, chosen_by[text]) for e in own if (text := _text(e)) in only]
        if same := [f"{e.id} is {of.id}" for e, of in pairs]:
            notices.append(
                f"{len(same)} of {len(own)} rows are validation rows too, which choose the best "
                f"state, so the metrics of this split are too good: {_some(same)}"
            )
    for notice in notices:
        logger.warning("%s: %s", split, notice)


def row_notices(rows: Sequence[Row], columns: Iterable[str]) -> list[str]:
    """Return what deserves a word about the texts in some columns: those that say nothing."""
    notices = []
    for column in columns:
        empty = [row.id for row in rows if _is_blank(row, column)]
        if empty:
            notices.append(
                f"{len(empty)} of {len(rows)} rows have an empty text in column {column!r} and are "
                f"used so: {_some(empty)}"
            )
        if missing := [row for row in rows if looks_missing(row.values.get(column))]:
            places = (f"{row.id} {row.values[column].strip()!r}" for row in missing)
            notices.append(
                f"{len(missing)} of {len(rows)} rows have a text in column {column!r} that may "
                f"stand for no value, and are used so: {_some(places)}"
            )
    return notices


def label_notices(rows: Sequence[Row], column: str, are_listed: bool = False) -> list[str]:
    """Return what deserves a word about labels: which are read as one, and which only look so.

    Args:
        are_listed: whether a setting names each label: then they are what they look like.
    """
    spelled: dict[str, Counter[str]] = {}
    for row in rows:
        label, value = label_value(row, column), row.values[column]
        spelling = label if isinstance(value, bool) else str(value)
        spelled.setdefault(label, Counter())[spelling] += 1
    notices = []
    changed = [label for label, forms in spelled.items() if set(forms) != {label}]
    if changed:
        read_as = [f"{_counted(spelled[label])} as {label!r}" for label in sorted(changed)]
        notices.append(f"labels are read in one form: {_some(read_as)}")
    alike: dict[str, Counter[str]] = {}
    for label, forms in spelled.items():
        alike.setdefault(loose_form(label), Counter())[label] += forms.total()
    if groups := [group for group in alike.values() if len(group) > 1]:
        differing = _some(map(_counted, groups))
        notices.append(f"labels that differ in form only are kept apart: {differing}")
    if are_listed:
        return notices
    totals = {label: Counter({label: forms.total()}) for label, forms in spelled.items()}
    if missing := [_counted(totals[label]) for label in sorted(totals) if looks_missing(label)]:
        notices.append(
            f"labels that may stand for no value: {_some(missing)}; if so, leave these cells empty"
        )
    if joined := [_counted(totals[label]) for label in joined_labels(totals)]:
        notices.append(
            f"labels that may be several in one, each a class of its own: {_some(joined)}"
        )
    return notices


def split_notices(
    examples: Sequence[Example], training: Sequence[Example] | None = None
) -> list[str]:
    """Return what deserves a word about the examples of a split: copies, and missing labels.

    Args:
        training: the examples that are trained on, if these are others.
    """
    notices = _copies(examples)
    if training is not None:
        notices += _leaks(examples, _by_text(training))
    return notices + _missing_labels(examples, training)


def _copies(examples: Sequence[Example]) -> list[str]:
    """Return sentences about examples of one split that share their text."""
    first = _by_text(examples)
    pairs = [
        (example, of)
        for example in examples
        if (of := first.get(_text(example))) and of is not example
    ]
    notices = []
    if same := [f"{copy.id} of {of.id}" for copy, of in pairs if copy.target == of.target]:
        notices.append(f"{len(same)} of {len(examples)} rows are copies of others: {_some(same)}")
    if other := [_two_labels(copy, of) for copy, of in pairs if copy.target != of.target]:
        notices.append(
            f"{len(other)} of {len(examples)} rows have the text of another row and a different "
            f"label: {_some(other)}"
        )
    return notices


def _leaks(examples: Sequence[Example], training: Mapping[Text, Example]) -> list[str]:
    """Return sentences about examples whose text is trained on."""
    pairs = [(example, of) for example in examples if (of := training.get(_text(example)))]
    notices = []
    if pairs:
        same = (f"{example.id} is {of.id}" for example, of in pairs)
        notices.append(
            f"{len(pairs)} of {len(examples)} rows are trained on too; leave them out, or the "
            f"metrics of this split are too good: {_some(same)}"
        )
    if other := [_two_labels(example, of) for example, of in pairs if example.target != of.target]:
        notices.append(f"{len(other)} of these have a different label there: {_some(other)}")
    return notices


def _missing_labels(examples: Sequence[Example], training: Sequence[Example] | None) -> list[str]:
    """Return a sentence about the labels that a split lacks, if there are any."""
    found = {example.target for example in examples}
    missing = [label for label in examples[0].choices if label not in found]
    if not missing:
        return []
    trained = Counter(example.target for example in training or ())
    names = (
        repr(label.strip()) + (f" ({trained[label]} in train)" if training is not None else "")
        for label in missing
    )
    return [f"no row has the label {_some(names)}"]


def _by_text(examples: Sequence[Example]) -> dict[Text, Example]:
    """Return the first example of each text."""
    first: dict[Text, Example] = {}
    for example in examples:
        if text := _text(example):
            first.setdefault(text, example)
    return first


def _text(example: Example) -> Text:
    """Return what makes two examples copies: a text, and its answer unless that is a label.

    Two answers to one prompt are not copies; two labels of one text contradict each other. None for
    an empty text, of which `row_notices` speaks.
    """
    prompt = (_folded(example.prompt), _folded(example.cue))
    if example.choices:
        return prompt if any(prompt) else None
    return (*prompt, _folded(example.target))


def _folded(text: str) -> str:
    """Return a text in lower case, with one space where there are several."""
    return " ".join(text.casefold().split())


def _two_labels(one: Example, other: Example) -> str:
    return f"{one.id} {one.target.strip()!r}, {other.id} {other.target.strip()!r}"


def _counted(labels: Counter[str]) -> str:
    return ", ".join(f"{label!r} ({count})" for label, count in sorted(labels.items()))


def _is_blank(row: Row, column: str) -> bool:
    """Return whether a column is there and holds no text: nothing, or spaces only."""
    value = row.values.get(column, "absent")
    return value is None or (isinstance(value, str) and not value.strip())


def _some(things: Iterable[str]) -> str:
    """Return the first few things as one text, and how many more there are."""
    things = list(things)
    more = f"; and {len(things) - NUM_SHOWN} more" if len(things) > NUM_SHOWN else ""
    return "; ".join(things[:NUM_SHOWN]) + more
