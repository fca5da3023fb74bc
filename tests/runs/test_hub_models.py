"""Each command fetches only the files of a hub model that it needs, all from one commit."""

import errno
import fnmatch
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from huggingface_hub import constants, errors
from rich.console import Console

from tunewise.config import RunConfig, make_config
from tunewise.data.say_once import say_once
from tunewise.errors import ConfigError, DataError, ModelError
from tunewise.estimate.machines import GPUS
from tunewise.estimate.survey import survey
from tunewise.models.folder import find_folder
from tunewise.models.hub import fetch_weights, hub_id_of
from tunewise.predict import load
from tunewise.run import run
from tunewise.runs.dry_run import dry_run
from tunewise.runs.parameters import count_parameters
from tunewise.studies.live import show_plan
from tunewise.studies.study import Study

pytestmark = pytest.mark.usefixtures("quick")

FIRST, SECOND = "1" * 40, "2" * 40
WEIGHTS = "model.safetensors"


class FakeHub:
    """A hub with the model `me/mine`, in place of `snapshot_download`; it keeps what was asked."""

    def __init__(self, model: Path, cache: Path) -> None:
        self.model = model
        self.cache = cache
        self.commit = FIRST
        self.revisions: list[str | None] = []
        self.fetched: set[str] = set()
        self.error: Exception | None = None

    def snapshot_download(
        self, repo_id: str, *, revision: str | None = None, allow_patterns: list[str]
    ) -> str:
        if self.error is not None:
            raise self.error
        assert repo_id == "me/mine"
        folder = self.cache / "snapshots" / (revision or self.commit)
        folder.mkdir(parents=True, exist_ok=True)
        for path in self.model.iterdir():
            if any(fnmatch.fnmatch(path.name, pattern) for pattern in allow_patterns):
                shutil.copy(path, folder)
                self.fetched.add(path.name)
        self.revisions.append(revision)
        return str(folder)


@pytest.fixture
def hub(model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeHub:
    monkeypatch.chdir(tmp_path)
    fake = FakeHub(model_folder, tmp_path / "hub")
    monkeypatch.setattr("huggingface_hub.snapshot_download", fake.snapshot_download)
    return fake


@pytest.fixture
def config(rows: Path) -> RunConfig:
    task = {"kind": "classification", "path": str(rows), "labels": {"good": "g", "bad": "b"}}
    fields = {"model": "me/mine", "task": task}
    return make_config(None, fields, ["train.epochs=1", "train.precision=fp32"])


@pytest.fixture
def small_survey(monkeypatch: pytest.MonkeyPatch) -> None:
    """A survey of two methods and one GPU."""
    monkeypatch.setattr("tunewise.estimate.survey.METHODS", ("full", "lora"))
    monkeypatch.setattr("tunewise.estimate.survey.GPUS", GPUS[:1])


def plan(config: RunConfig) -> None:
    study = Study(name="plan", base=config.model_dump(mode="json"))
    show_plan(study, Path("nowhere"), None, 1, Console(quiet=True))


NEED_NO_WEIGHTS: dict[str, Callable[[RunConfig], object]] = {
    "params": lambda config: count_parameters(config, config.task),
    "estimate": lambda config: survey(config, None),
    "run --dry-run": lambda config: dry_run(config, None),
    "the plan of a study": plan,
}


@pytest.mark.usefixtures("small_survey")
@pytest.mark.parametrize("command", NEED_NO_WEIGHTS)
def test_what_trains_nothing_fetches_no_weights(
    hub: FakeHub, config: RunConfig, command: str
) -> None:
    NEED_NO_WEIGHTS[command](config)
    assert {"config.json", "tokenizer.json"} <= hub.fetched
    assert not any(name.endswith(".safetensors") for name in hub.fetched)


def test_a_run_fetches_weights_once_it_is_known_to_fit(
    hub: FakeHub, config: RunConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    fetched_by_then: list[set[str]] = []
    monkeypatch.setattr(
        "tunewise.run.warn_of_memory", lambda *_: fetched_by_then.append(set(hub.fetched))
    )
    run(config, out=Path("run"))
    assert WEIGHTS not in fetched_by_then[0]
    assert WEIGHTS in hub.fetched
    hub.revisions.clear()
    load("run")
    assert hub.revisions == [None]  # the weights are there


def test_weights_are_of_the_commit_that_the_configuration_is_of(hub: FakeHub) -> None:
    folder = find_folder("me/mine")
    hub.commit = SECOND  # the model changes meanwhile
    fetch_weights("me/mine", folder)
    assert hub.revisions == [None, FIRST]
    assert (folder / WEIGHTS).is_file()
    assert load("me/mine").generate("a", max_new_tokens=1) is not None
    assert hub.revisions == [None, FIRST, None, SECOND]


def test_a_run_that_cannot_work_is_told_before_weights_are_fetched(
    hub: FakeHub, config: RunConfig, tmp_path: Path
) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "notes.txt").write_text("mine")
    with pytest.raises(ConfigError, match="holds something already"):
        run(config, out=tmp_path / "run")
    assert not hub.fetched
    missing = config.model_copy(
        update={"task": config.task.model_copy(update={"path": "nowhere.csv"})}
    )
    with pytest.raises(DataError):
        run(missing, out=tmp_path / "other")
    assert WEIGHTS not in hub.fetched


def test_a_model_without_safe_weights_is_named(
    hub: FakeHub, model_folder: Path, tmp_path: Path
) -> None:
    hub.model = tmp_path / "pickled"
    shutil.copytree(model_folder, hub.model)
    (hub.model / WEIGHTS).rename(hub.model / "pytorch_model.bin")
    with pytest.raises(ModelError, match="'me/mine': no weights in the safetensors format"):
        load("me/mine")
    assert "pytorch_model.bin" not in hub.fetched


def test_shards_are_fetched_with_their_index(
    hub: FakeHub, model_folder: Path, tmp_path: Path
) -> None:
    hub.model = tmp_path / "shards"
    shutil.copytree(model_folder, hub.model)
    shard = "model-00001-of-00001.safetensors"
    (hub.model / WEIGHTS).rename(hub.model / shard)
    (hub.model / "model.safetensors.index.json").write_text(f'{{"weight_map": {{"x": "{shard}"}}}}')
    load("me/mine")
    assert {shard, "model.safetensors.index.json"} <= hub.fetched


def answer(kind: type[Any], status: int, text: str) -> Exception:
    """Return an error of huggingface_hub's for an answer of the hub."""
    error: Exception = kind.__new__(kind)
    Exception.__init__(error, text)
    vars(error)["response"] = SimpleNamespace(status_code=status)
    return error


def nothing_here(cause: Exception) -> Exception:
    """Return the error for files that are not in the cache either."""
    error = errors.LocalEntryNotFoundError("Got: an error\nAn error happened")
    error.__cause__ = cause
    return error


HTTP = errors.HfHubHTTPError
REFUSALS: dict[str, tuple[Exception, str]] = {
    "a gated model": (
        answer(errors.GatedRepoError, 403, "403 Client Error."),
        "accept its licence: do so at .*/me/mine, then `hf auth login`",
    ),
    "a gated model whose small files are here": (
        nothing_here(answer(errors.GatedRepoError, 401, "401 Client Error.")),
        "accept its licence",
    ),
    "an id that is not there": (
        answer(errors.RepositoryNotFoundError, 404, "404 Client Error."),
        "no such model at .*/me/mine; if it is a private one, `hf auth login`",
    ),
    "a token that is not right": (
        answer(HTTP, 401, "\n\n401 Unauthorized\nmore"),
        r"refuses the token .*\(401 Unauthorized\): `hf auth login`",
    ),
    "a token that may not": (answer(HTTP, 403, "403 Forbidden"), "`hf auth login`"),
    "too many requests": (answer(HTTP, 429, "\n\n429 Too Many Requests"), "429 Too Many Requests"),
    "a hub that is down": (nothing_here(answer(HTTP, 503, "503")), r"not on this machine .*\(503"),
    "no network": (
        nothing_here(ConnectionError("[Errno -2] Name or service not known")),
        "configuration and tokenizer are not on this machine .*Name or service.*with a network",
    ),
    "offline mode": (
        nothing_here(errors.OfflineModeIsEnabled("unset the `HF_HUB_OFFLINE` variable")),
        "HF_HUB_OFFLINE",
    ),
    "a full disk": (OSError(errno.ENOSPC, "No space left on device"), "No space.*set HF_HOME"),
    "a cache that is not ours": (PermissionError(errno.EACCES, "Permission denied"), "HF_HOME"),
    "an error without words": (ValueError(), "ValueError"),
}


@pytest.mark.parametrize("what", REFUSALS)
def test_why_a_model_is_not_fetched_is_said_with_what_to_do(hub: FakeHub, what: str) -> None:
    hub.error, said = REFUSALS[what]
    with pytest.raises(ModelError, match=f"^model 'me/mine': .*{said}"):
        find_folder("me/mine")


def test_without_a_network_what_was_fetched_is_used(
    hub: FakeHub, model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The cache is as huggingface_hub leaves it, and it is its own code that looks there."""
    monkeypatch.undo()
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    stored = tmp_path / "cache" / "models--me--mine"
    snapshot = stored / "snapshots" / FIRST
    shutil.copytree(model_folder, snapshot, ignore=shutil.ignore_patterns("*.safetensors"))
    (stored / "refs").mkdir()
    (stored / "refs" / "main").write_text(FIRST)
    assert find_folder("me/mine") == snapshot
    with pytest.raises(ModelError, match=r"me/mine"):
        load("me/mine")
    shutil.copy(model_folder / WEIGHTS, snapshot)
    assert load("me/mine").generate("a", max_new_tokens=1) is not None


@pytest.mark.usefixtures("small_survey")
def test_a_known_model_is_estimated_without_a_network_and_that_is_said(
    hub: FakeHub, rows: Path, config: RunConfig
) -> None:
    hub.error = nothing_here(ConnectionError("no network"))
    known = config.model_copy(update={"model": "distilgpt2"})
    found = survey(known, None)
    assert "tokenizer of pocket" in found.note
    assert "no network" in found.note
    weights = count_parameters(known, None).total
    full = next(row for row in found.methods if row.name == "full")
    assert full.peak_bytes > 12 * weights  # a weight, its gradient, two averages: one in fp32
    for command in (dry_run, survey):
        with pytest.raises(ModelError, match="configuration and tokenizer"):
            command(config if command is survey else known, None)


@pytest.mark.parametrize("name", ["pocket", "gpt2"])
def test_a_folder_with_the_name_of_a_known_model_is_passed_over_with_a_word(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.chdir(tmp_path)
    say_once.cache_clear()
    home = hub_id_of(name)
    assert not caplog.messages
    (tmp_path / name).mkdir()
    assert hub_id_of(name) == home
    assert caplog.messages == [
        f"model {name!r} is the known one, not the folder of that name: that is ./{name}"
    ]
    assert hub_id_of(f"./{name}") is None
