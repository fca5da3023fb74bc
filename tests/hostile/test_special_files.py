"""A pipe, a device or a folder where a file is expected is refused at once, and not waited for."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from tunewise.config import make_config
from tunewise.errors import TunewiseError
from tunewise.models.folder import load_model, read_config
from tunewise.runs.folder import CONFIG_FILE
from tunewise.studies.read import read_study

SPECIAL: dict[str, Callable[[Path], object]] = {
    "a pipe": os.mkfifo,
    "a folder": Path.mkdir,
    "a device": lambda path: path.symlink_to("/dev/zero"),
}


@pytest.mark.parametrize("kind", SPECIAL)
@pytest.mark.parametrize("place", ["run", "study", "rows", "config.json", "model.safetensors"])
def test_what_is_no_file_is_refused(
    kind: str, place: str, model_folder: Path, tmp_path: Path
) -> None:
    for path in model_folder.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    name = {"run": CONFIG_FILE, "study": "study.yaml", "rows": "rows.csv"}.get(place, place)
    path = tmp_path / name
    path.unlink(missing_ok=True)
    SPECIAL[kind](path)
    rows = {"kind": "classification", "path": str(path)}
    attempts: dict[str, Callable[[], object]] = {
        "run": lambda: make_config(path),
        "study": lambda: read_study(path),
        "rows": lambda: make_config(fields={"task": rows}).task.examples("train"),
        "config.json": lambda: read_config(tmp_path),
        "model.safetensors": lambda: load_model(tmp_path),
    }
    with pytest.raises(TunewiseError) as caught:
        attempts[place]()
    message = str(caught.value)
    assert name in message
    assert "\n" not in message
    if (kind, place) not in (("a folder", "rows"), ("a folder", "model.safetensors")):
        assert f"it is {kind}, and a file is needed" in message or "no model.safetensors" in message
