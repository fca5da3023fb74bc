"""Which files of a folder are read: each split once, and whatever is left alone is named."""

import gzip
import logging
from pathlib import Path

import pytest

from tunewise.data.split_files import split_files
from tunewise.data.splits import local_source, read_split
from tunewise.errors import DataError

CONTENT = {
    ".csv": "text\na\nb\nc\n",
    ".tsv": "text\na\nb\nc\n",
    ".jsonl": '{"text": "a"}\n' * 3,
    ".json": '[{"text": "a"}, {"text": "b"}, {"text": "c"}]',
    ".txt": "a text",
}


def fill(folder: Path, names: str) -> Path:
    """Make files of these names."""
    for name in names.split():
        content = CONTENT.get(Path(name.lower().removesuffix(".gz")).suffix, "no data").encode()
        (folder / name).write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
    return folder


def said(caplog: pytest.LogCaptureFixture, level: int) -> str:
    return "\n".join(record.getMessage() for record in caplog.records if record.levelno == level)


# The files of a folder, those that are read, and those that are named as not read.
READ = [
    ("train.csv test.csv", "train.csv; test.csv", ""),
    ("Train.CSV TEST.csv", "Train.CSV; TEST.csv", ""),
    ("train.csv dev.csv test.csv", "train.csv; dev.csv; test.csv", ""),
    ("train.json val.json", "train.json; val.json", ""),
    ("training.csv.gz Valid.tsv testing.csv", "training.csv.gz; Valid.tsv; testing.csv", ""),
    # What else begins with a split's name is another file.
    ("train.csv train_before_cleaning.csv", "train.csv", "train_before_cleaning.csv"),
    ("train.csv train.1.csv train_old.jsonl", "train.csv", "train.1.csv, train_old.jsonl"),
    ("train.csv train-1-of-2.txt.md", "train.csv", "train-1-of-2.txt.md"),
    ("train.csv test.csv test_short.csv.gz", "train.csv; test.csv", "test_short.csv.gz"),
    ("dev.csv val_old.csv", "dev.csv", "val_old.csv"),
    ("train-0-of-2.csv train-1-of-2.csv train_x.csv", "train-0-of-2.csv train-1-of-2.csv",
     "train_x.csv"),
    # Names that are not a split's.
    ("train.csv trainer.csv my_train.csv", "train.csv", "my_train.csv, trainer.csv"),
    ("train.csv eval.csv reviews.json", "train.csv", "eval.csv, reviews.json"),
    ("train.csv test.xlsx validation.csv.zip", "train.csv", "test.xlsx, validation.csv.zip"),
    ("train.csv README.md run.sh", "train.csv", ""),
    # Parts, where no file is the whole split.
    ("train_1.csv train_2.csv", "train_1.csv train_2.csv", ""),
    ("test_Hardy.txt.gz test_Conrad.txt.gz", "test_Conrad.txt.gz test_Hardy.txt.gz", ""),
    ("test_short.csv.gz", "test_short.csv.gz", ""),
    ("train-00002-of-00002.csv train-00001-of-00002.csv.gz",
     "train-00001-of-00002.csv.gz train-00002-of-00002.csv", ""),
    ("train-0-of-1-9f86d081884c7d65.csv", "train-0-of-1-9f86d081884c7d65.csv", ""),
    ("train_en-0-of-2.csv train_en-1-of-2.csv train_de.csv",
     "train_de.csv train_en-0-of-2.csv train_en-1-of-2.csv", ""),
]  # fmt: skip


@pytest.mark.parametrize(("names", "read", "unread"), READ)
def test_a_split_is_read_from_its_files_alone_and_every_other_data_file_is_named(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, names: str, read: str, unread: str
) -> None:
    caplog.set_level(logging.INFO)
    files = split_files(fill(tmp_path, names))
    assert "; ".join(" ".join(path.name for path in split) for split in files.values()) == read
    for name in read.replace(";", "").split():
        assert name in said(caplog, logging.INFO)
    assert (f"not read: {unread}" in said(caplog, logging.WARNING)) == bool(unread)
    assert bool(said(caplog, logging.WARNING)) == bool(unread)


REFUSED = [
    ("train.csv train.jsonl", "train split is there more than once.*train.csv, train.jsonl"),
    ("train.csv Train.csv", "Train.csv, train.csv"),
    ("train.jsonl train.jsonl.gz", "train.jsonl, train.jsonl.gz"),
    ("train.csv training.csv", "train.csv, training.csv"),
    ("train.csv val.csv dev.csv", "validation split.*dev.csv, val.csv"),
    ("validation.json valid.jsonl.gz", "valid.jsonl.gz, validation.json"),
    ("train.csv train-0-of-1.csv", "train-0-of-1.csv, train.csv"),
    ("train.csv train-0-of-2.tsv train-1-of-2.tsv", "train-0-of-2.tsv, train.csv"),
    ("train-0-of-1.csv train-0-of-2.csv train-1-of-2.csv", "train-0-of-1.csv, train-0-of-2.csv"),
    ("train_1.csv train_1.csv.gz", "train_1.csv, train_1.csv.gz"),
    ("train_a.csv train_b.jsonl", "parts of several kinds: train_a.csv, train_b.jsonl"),
    ("train_a.csv training_b.csv", "train_a.csv, training_b.csv"),
    ("train-00000-of-00002.csv", "shards of the train split are missing: 1 of 2"),
    ("train-0-of-3.csv train-2-of-3.csv", r"missing: 2 of 3 are there \(train-0-of-3.csv, train-2"),
    ("train-1-of-3.csv train-2-of-3.csv train-4-of-3.csv", "missing"),
    ("train-1-of-999999999999.csv", "missing: 1 of 999999999999"),
    ("test_en-1-of-2.csv test_de.csv", "shards of the test split are missing"),
]


@pytest.mark.parametrize(("names", "said"), REFUSED)
def test_a_split_that_is_there_twice_or_in_part_is_refused(
    tmp_path: Path, names: str, said: str
) -> None:
    fill(tmp_path, names)
    with pytest.raises(DataError, match=said) as caught:
        local_source(tmp_path)
    assert str(tmp_path) in str(caught.value)


@pytest.mark.parametrize(
    ("names", "said"),
    [
        ("test.csv Train(1).CSV", "; if it is Train(1).CSV, name it train.csv"),
        ("sst_train.jsonl.gz", "; if it is sst_train.jsonl.gz, name it train.jsonl.gz"),
        ("train1.csv train2.csv test.csv", "train1.csv, train2.csv, name them train_1.csv and so"),
        ("train.xlsx test.csv", "; train.xlsx is of another kind"),
        ("state.json data.arrow", "; this is a folder of save_to_disk"),
        ("README.md data/train.csv", "; data has files of splits: give that folder"),
        ("train/a.csv test/a.csv", "; test is a folder: write the rows of a split to one file"),
        (
            "README.md reviews.csv",
            "a single file of all rows, which is then split, such as reviews.",
        ),
        ("a.csv b.csv", "which is then split"),
    ],
)
def test_where_the_rows_of_a_missing_split_may_be_is_said(
    tmp_path: Path, names: str, said: str
) -> None:
    for name in names.split():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("text,label\na,b\n")
    with pytest.raises(DataError) as caught:
        read_split(tmp_path, "train")
    assert said in str(caught.value)


def test_folders_called_as_a_split_are_named(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "train").mkdir()
    (tmp_path / "test.csv").mkdir()
    assert not split_files(tmp_path)
    assert "not read: test.csv, train;" in said(caplog, logging.WARNING)


def test_of_many_files_the_first_are_named_and_the_others_counted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    fill(tmp_path, " ".join(f"train_{number}.txt old_{number}.csv" for number in range(9)))
    split_files(tmp_path)
    assert "train_4.txt and 4 more" in said(caplog, logging.INFO)
    assert "old_4.csv and 4 more" in said(caplog, logging.WARNING)


def test_what_is_read_is_said_once_however_many_splits_are_made(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    fill(tmp_path, "train.csv old.csv")
    for split in ("train", "validation", "test"):
        assert len(read_split(tmp_path, split)) == 1
    assert len(caplog.records) == 2
