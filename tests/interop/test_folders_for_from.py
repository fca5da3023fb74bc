"""A folder that is no adapter's is recognised where `from` names it, and told what to write."""

from collections.abc import Callable
from pathlib import Path

import pytest
from tiny import save_tiny

from tunewise.config import make_config
from tunewise.data.tokenizer import Tokenizer
from tunewise.errors import TunewiseError
from tunewise.methods import METHODS
from tunewise.peft.names import ADAPTER_CONFIG_FILE

READERS = [kind for kind, method in METHODS.items() if "from_" in method.model_fields]
Made = Callable[[Path, Tokenizer], Path]


def run_folder(inside: str) -> Made:
    def make(folder: Path, tokenizer: Tokenizer) -> Path:
        (folder / inside).mkdir(parents=True, exist_ok=True)
        (folder / "config.yaml").write_text("task: pocket_reviews\n")
        return folder / inside

    return make


def model_folder(folder: Path, tokenizer: Tokenizer) -> Path:
    return save_tiny(folder, tokenizer=tokenizer)


def holding(*names: str, given: str = "") -> Made:
    def make(folder: Path, tokenizer: Tokenizer) -> Path:
        for name in names:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text("{}")
        return folder / given

    return make


FOLDERS: dict[str, tuple[Made, str]] = {
    "a run": (run_folder(""), "{folder} is a run; `tunewise export {folder} --format peft"),
    "the adapter of a run": (
        run_folder("adapter"),
        "{folder} is a run; `tunewise export {folder} ",
    ),
    "the checkpoint of a run": (run_folder("checkpoint"), "{folder} is a run; `tunewise export"),
    "the model of a run": (run_folder("model"), "{folder} is a run; `tunewise export {folder} "),
    "a whole model": (model_folder, "it is a whole model: write it as `model`, without `from`"),
    "a file in it": (
        holding(ADAPTER_CONFIG_FILE, "adapter_model.safetensors", given=ADAPTER_CONFIG_FILE),
        "the folder of an adapter, not a file in it; write {folder}",
    ),
    "checkpoints of a trainer": (
        holding(f"checkpoint-5/{ADAPTER_CONFIG_FILE}", f"checkpoint-9/{ADAPTER_CONFIG_FILE}"),
        "there are adapters in folders of it (checkpoint-5, checkpoint-9); write one of them",
    ),
    "weights alone": (
        holding("adapter_model.safetensors"),
        "it lies beside adapter_model.safetensors, and says what that is",
    ),
    "nothing": (lambda folder, _: folder / "owner" / "name", "hf download NAME --local-dir FOLDER"),
    "something else": (holding("notes.txt"), "a folder that PEFT's save_pretrained wrote"),
}


@pytest.mark.parametrize("kind", READERS)
@pytest.mark.parametrize("name", FOLDERS)
def test_another_folder_than_an_adapters_is_told_what_to_write(
    name: str, kind: str, tokenizer: Tokenizer, tmp_path: Path
) -> None:
    make, message = FOLDERS[name]
    given = make(tmp_path / "it", tokenizer)
    with pytest.raises(TunewiseError) as caught:
        config = make_config(
            fields={"model": "pocket", "method": {"kind": kind, "from": str(given)}}
        )
        config.method.say_origin(config.model, None)
    assert f"{given}: no {ADAPTER_CONFIG_FILE}; " in str(caught.value)
    assert message.format(folder=tmp_path / "it") in str(caught.value)
