"""Data sets of the Hugging Face hub, read by the `datasets` library."""

from functools import partial

from pydantic import Field, field_validator

from tunewise.data.rows import SPLITS, OnBadRow, Row, Split
from tunewise.data.splits import Source
from tunewise.errors import DataError
from tunewise.settings import Settings


class HubData(Settings):
    """A data set on the hub."""

    path: str
    """The data set's id, `owner/name`."""
    config: str | None = None
    """The configuration to use, if the data set has several."""
    splits: dict[Split, str] = Field(default={split: split for split in SPLITS})
    """The name of each split there; missing ones are taken from the training rows."""
    columns: dict[str, str] = Field(default={})
    """New names of columns, by their names there."""

    @field_validator("splits")
    @classmethod
    def _train_is_there(cls, splits: dict[Split, str]) -> dict[Split, str]:
        if "train" not in splits:
            raise ValueError("the train split is needed")
        return splits


def hub_source(hub: HubData, task: str) -> Source:
    """Return the splits of a data set on the hub, each downloaded when it is read."""
    return Source(hub.path, {split: partial(_download, hub, split, task) for split in hub.splits})


def _download(hub: HubData, split: Split, task: str, _: OnBadRow) -> list[Row]:
    return download(hub, split, task)


def download(hub: HubData, split: Split, task: str) -> list[Row]:
    """Return the rows of a split, from the library's cache if they are there.

    If the hub does not answer, huggingface_hub is offline from then on, in the whole process.

    Raises:
        DataError: if the `datasets` library is not installed, or the hub or the data set cannot be
            reached.
    """
    missing = f"task {task!r} is in no data folder (--data DIR, with DIR/{task}/train.jsonl)"
    try:
        import datasets
    except ImportError as error:
        raise DataError(
            f"{missing}, and to download it takes an extra: pip install 'tunewise[hub]'"
        ) from error
    _go_offline_without_a_network()
    try:
        rows = datasets.load_dataset(hub.path, hub.config, split=hub.splits[split])
        rows = rows.rename_columns(hub.columns)
    except Exception as error:  # the library lets through those of several others
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise DataError(
            f"{missing}, and {hub.path} cannot be downloaded from the hub: {reason}"
        ) from error
    return [
        Row(dict(values), f"{task}/{split}:{number}", number - 1)
        for number, values in enumerate(rows, start=1)
    ]


def _go_offline_without_a_network() -> None:
    """Put the libraries into their offline mode if the hub does not answer.

    They then use their caches on disk; otherwise they would retry for half a minute. The mode lasts
    as long as the process.
    """
    import datasets
    from huggingface_hub import constants, get_session

    try:
        get_session().head(constants.ENDPOINT, timeout=5)
    except Exception:  # any error of the network
        constants.HF_HUB_OFFLINE = datasets.config.HF_HUB_OFFLINE = True
