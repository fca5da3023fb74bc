"""Laws of labels: their one form, in every format."""

import csv
import io
import json
import string
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as arrow
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyarrow import parquet

from tunewise.data.names import tidy
from tunewise.tasks import Classification
from tunewise.tasks.labels import loose_form, plain_label

WORDS = st.text(st.sampled_from(string.ascii_letters + "e\u0301\u00e9 0.\u00a0"), min_size=1)
NUMBERS = st.one_of(
    st.integers(-(10**20), 10**20), st.floats(allow_nan=False, allow_infinity=False)
)
LABELS = st.one_of(st.text(), WORDS, NUMBERS, NUMBERS.map(str), st.booleans())


@given(LABELS)
def test_the_form_of_a_label_is_its_own_form(label: Any) -> None:
    plain = plain_label(label)
    assert plain_label(plain) == plain == tidy(plain)
    assert loose_form(plain) == loose_form(loose_form(plain))


@given(NUMBERS)
def test_a_number_and_every_way_to_write_it_are_one_label_of_its_value(number: float) -> None:
    plain = plain_label(number)
    written = [str(number), json.dumps(number), f" {number}", format(Decimal(str(number)), "f")]
    assert {plain_label(form) for form in written} == {plain}
    assert Decimal(plain) == Decimal(str(number))


@given(st.lists(st.sampled_from(["pos", "neg", "cafe\u0301", 1, 2, 0.5, True, -3]), min_size=9))
def test_every_format_of_a_file_gives_the_same_labels(
    tmp_path_factory: pytest.TempPathFactory, labels: list[Any]
) -> None:
    labels = [*labels, "pos", "neg"]  # two at least
    folder = tmp_path_factory.getbasetemp()
    rows = [{"text": f"text {n}", "label": label} for n, label in enumerate(labels)]
    texts = [row | {"label": f" {row['label']}"} for row in rows]
    (folder / "l.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    (folder / "l.json").write_text(json.dumps(rows), "utf-8")
    parquet.write_table(arrow.Table.from_pylist(texts), folder / "l.parquet")
    for name, delimiter in (("l.csv", ","), ("l.tsv", "\t")):
        buffer = io.StringIO(newline="")
        writer = csv.DictWriter(buffer, rows[0], delimiter=delimiter)
        writer.writeheader()
        writer.writerows(rows)
        (folder / name).write_text(buffer.getvalue(), "utf-8", newline="")
    found = []
    for name in ("l.jsonl", "l.json", "l.parquet", "l.csv", "l.tsv"):
        task = Classification(path=Path(folder / name), labels={str(x): f"name {x}" for x in SET})
        found.append([(e.prompt, e.target) for e in task.examples("train")])
    assert all(examples == found[0] for examples in found)


SET = ["pos", "neg", "caf\u00e9", 1, 2, 0.5, True, -3]
