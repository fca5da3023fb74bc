"""An adapter that was made for another model is refused by its shapes, or named by its name."""

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tiny import save_tiny

from tunewise.config import make_config
from tunewise.data.tokenizer import Tokenizer
from tunewise.errors import TunewiseError
from tunewise.peft.origin import say_origin
from tunewise.run import run

from .in_peft import TASK, Adapters, Fields, read

# PEFT asks transformers by a name that transformers is about to retire.
pytestmark = [
    pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning"),
    pytest.mark.filterwarnings("ignore:fan_in_fan_out is set to"),
]


@pytest.mark.parametrize("change", ["fewer blocks", "more blocks", "other width"])
def test_an_adapter_of_another_shape_is_refused(
    change: str, adapters: Adapters, tokenizer: Tokenizer, tmp_path: Path
) -> None:
    sizes: dict[str, Any] = {"num_layers": 2 if change == "fewer blocks" else 4}
    if change == "other width":
        sizes = {"model_dim": 32}
    base = save_tiny(tmp_path / "base", "gpt2", tokenizer, **sizes)
    for kind, method in (("lora", "lora"), ("prompt", "soft_prompt")):
        with pytest.raises(TunewiseError, match="the adapter was made for"):
            read(base, TASK, tokenizer, kind=method, **{"from": str(adapters(kind))})


BASES: dict[str, tuple[Fields, str, int | None]] = {
    "another model": ({"base_model_name_or_path": "someone/tiny"}, "someone/tiny", logging.WARNING),
    "its name on the hub": ({"base_model_name_or_path": "openai-community/gpt2"}, "", None),
    "its short name": ({"base_model_name_or_path": "gpt2"}, "", None),
    "a folder elsewhere": ({"base_model_name_or_path": "/far/away/gpt2"}, "/far", logging.INFO),
    "a revision": (
        {"base_model_name_or_path": "gpt2", "revision": "step9"},
        "step9",
        logging.WARNING,
    ),
    "no name": ({"base_model_name_or_path": None}, "", None),
}


@pytest.mark.parametrize("name", BASES)
def test_the_model_that_an_adapter_was_made_for_is_named_if_it_is_another(
    name: str, changed: Callable[..., Path], caplog: pytest.LogCaptureFixture
) -> None:
    fields, word, level = BASES[name]
    caplog.set_level(logging.INFO, "tunewise")
    say_origin(changed("lora", fields), "LORA", "gpt2", None)
    said = [(record.levelno, word in record.getMessage()) for record in caplog.records]
    assert said == ([] if level is None else [(level, True)])


@pytest.mark.usefixtures("quick")
def test_a_run_says_what_its_adapter_was_made_for(
    changed: Callable[..., Path],
    folders: dict[str, Path],
    labelled_rows: Path,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO, "tunewise")
    fields = {"base_model_name_or_path": "someone/tiny", "target_modules": ["c_attn", "gate"]}
    folder = changed("labels", fields)
    values = {
        "model": str(folders["gpt2"]),
        "task": {"kind": "classification", "path": str(labelled_rows)},
        "method": {"kind": "lora", "from": str(folder)},
    }
    run(make_config(fields=values, overrides=["train.epochs=0"]), out=tmp_path / "run")
    for said in (
        f"was made for someone/tiny; this run's model is {folders['gpt2']}",
        "the rows of its label layer are taken to be bad, fair, good: PEFT keeps no names",
        "no layer is called gate; this model has attn.c_attn",
    ):
        assert caplog.text.count(said) == 1
