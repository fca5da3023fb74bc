"""transformers loads the whole models that we export, without a warning, and answers alike."""

import json
import logging
import sys
from collections.abc import Callable
from pathlib import Path
from shutil import copytree
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from tiny import every_family
from torch import Tensor

from tunewise.cli import main as cli
from tunewise.data.tokenizer import Tokenizer
from tunewise.errors import TunewiseError
from tunewise.interop import export
from tunewise.methods import METHODS, Method
from tunewise.models import FAMILIES
from tunewise.models.folder import load_model
from tunewise.runs.folder import PREDICTIONS_FILE, read_predictions
from tunewise.runs.model import load_trained

pytestmark = pytest.mark.slow

Trained = Callable[..., Path]
Logits = Callable[..., Tensor]

TEXTS = ["the film is not good at all", "a good film", "x"]
MERGED = [kind for kind, method in METHODS.items() if not method.why_not_merged]
IN_PEFT = [kind for kind, method in METHODS.items() if method.to_peft is not Method.to_peft]
HOLDS = {"peft": IN_PEFT, "hf": MERGED}
"""The methods that each format can hold."""
SETTINGS: dict[str, dict[str, Any]] = {
    "lora": {"rank": 2, "alpha": 8},
    "dora": {"kind": "lora", "rank": 2, "dora": True},
    "pissa": {"kind": "lora", "rank": 2, "init": "pissa"},
    "last_blocks": {"blocks": 1},
}


@pytest.fixture(autouse=True)
def no_warning(caplog: pytest.LogCaptureFixture) -> Any:
    """Fail where transformers logs a warning."""
    logger = logging.getLogger("transformers")
    logger.addHandler(caplog.handler)
    yield
    logger.removeHandler(caplog.handler)
    warned = [
        record.getMessage()
        for record in caplog.get_records("call")
        if record.name.startswith("transformers") and record.levelno >= logging.WARNING
    ]
    assert not warned


# Each method with each head, each on one family; the default method with everything.
KINDS = [*MERGED, "dora", "pissa"]
NAMES_OF_FAMILIES = list(FAMILIES)
CASES = [
    *((kind, "language", NAMES_OF_FAMILIES[n % len(FAMILIES)]) for n, kind in enumerate(KINDS)),
    *((kind, "labels", NAMES_OF_FAMILIES[-1 - n % len(FAMILIES)]) for n, kind in enumerate(KINDS)),
    *(("lora", task, family) for task in ("language", "labels", "cloze") for family in FAMILIES),
]


@pytest.mark.parametrize(("kind", "task", "family"), dict.fromkeys(CASES))
def test_a_merged_model_answers_alike_in_transformers(
    kind: str,
    task: str,
    family: str,
    trained: Trained,
    tokenizer: Tokenizer,
    our_logits: Logits,
    tmp_path: Path,
) -> None:
    folder = trained(family, {"kind": kind} | SETTINGS.get(kind, {}), task)
    out = tmp_path / "out"
    export(folder, "hf", out)
    _, model, _ = load_trained(folder)
    auto = (
        transformers.AutoModelForSequenceClassification
        if task == "labels"
        else transformers.AutoModelForCausalLM
    )
    theirs, loading = auto.from_pretrained(out, output_loading_info=True)
    assert not any(loading.values()), loading
    assert type(theirs).__name__ == (
        model.label_architecture if task == "labels" else model.language_architecture
    )
    theirs.eval()
    their_tokenizer = transformers.AutoTokenizer.from_pretrained(out)
    for text, ids in zip(TEXTS, tokenizer.tokenize(TEXTS), strict=True):
        assert their_tokenizer(text)["input_ids"] == ids
        with torch.no_grad():
            expected = theirs(input_ids=torch.tensor([ids])).logits.view(
                len(ids) if task != "labels" else 1, -1
            )
        torch.testing.assert_close(our_logits(model, ids), expected, rtol=1e-4, atol=1e-4)
    if task != "labels":  # and we take the folder as a model ourselves
        ours = load_model(out).eval()
        torch.testing.assert_close(our_logits(ours, ids), our_logits(model, ids))
    tied = kind not in ("last_layer", "last_blocks") or task == "labels"
    assert ("lm_head.weight" in load_file(out / "model.safetensors")) != tied


@every_family
def test_a_pipeline_gives_the_labels_by_name_for_padded_batches(
    family: str, trained: Trained, tokenizer: Tokenizer, our_logits: Logits, tmp_path: Path
) -> None:
    folder = trained(family, {"kind": "lora", "rank": 2, "alpha": 8}, "labels")
    export(folder, "hf", tmp_path / "out")
    _, model, _ = load_trained(folder)
    classify = transformers.pipeline(
        "text-classification", str(tmp_path / "out"), device="cpu", batch_size=3, top_k=None
    )
    for ids, found in zip(tokenizer.tokenize(TEXTS), classify(TEXTS), strict=True):
        expected = our_logits(model, ids)[0].softmax(-1).tolist()
        scores = {answer["label"]: answer["score"] for answer in found}
        assert scores == pytest.approx(
            dict(zip(("bad", "fair", "good"), expected, strict=True)), abs=1e-4
        )


@every_family
def test_a_pipeline_writes_what_the_run_wrote(
    family: str, trained: Trained, tmp_path: Path
) -> None:
    folder = trained(family, {"kind": "lora", "rank": 2})
    export(folder, "hf", tmp_path / "out")
    write = transformers.pipeline("text-generation", str(tmp_path / "out"), device="cpu")
    settings = transformers.GenerationConfig(
        max_new_tokens=4, do_sample=False, eos_token_id=0, pad_token_id=0
    )
    for prediction in read_predictions(folder / PREDICTIONS_FILE):
        (found,) = write(prediction.prompt, generation_config=settings, return_full_text=False)
        assert found["generated_text"].strip() == prediction.predicted


@pytest.mark.parametrize("kind", ["lora", "last_blocks"])
def test_what_was_trained_on_a_bf16_model_is_exported_in_fp32(
    kind: str,
    trained: Trained,
    folders: dict[str, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    halved = copytree(folders["gpt2"], tmp_path / "halved")
    path = halved / "model.safetensors"
    tensors = {name: tensor.bfloat16() for name, tensor in load_file(path).items()}
    save_file(tensors, path, metadata={"format": "pt"})
    monkeypatch.setitem(folders, "halved", halved)
    export(trained("halved", {"kind": kind} | SETTINGS[kind]), "hf", tmp_path / "out")
    exported = load_file(tmp_path / "out" / "model.safetensors")
    assert {tensor.dtype for tensor in exported.values()} == {torch.float32}
    embedding = "transformer.wte.weight"
    assert torch.equal(exported[embedding], tensors[embedding].float())


def test_gpt2_keeps_what_other_programs_read(trained: Trained, tmp_path: Path) -> None:
    export(trained("gpt2", {"kind": "lora"}, "labels"), "hf", tmp_path / "out")
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    assert config["n_ctx"] == config["n_positions"] == 48
    assert config["id2label"] == {"0": "bad", "1": "fair", "2": "good"}
    assert config["label2id"] == {"bad": 0, "fair": 1, "good": 2}
    assert config["pad_token_id"] == 0
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert names == {
        *("config.json", "model.safetensors", "README.md"),
        *("tokenizer.json", "tokenizer_config.json", "vocab.json", "merges.txt"),
    }


@every_family
@pytest.mark.parametrize("kind", ["lora", "full"])
@pytest.mark.parametrize("task", ["labels", "language"])
def test_what_the_base_says_of_its_tokens_and_of_writing_goes_along(
    kind: str,
    task: str,
    family: str,
    trained: Trained,
    folders: dict[str, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    base = copytree(folders[family], tmp_path / "base")
    told = {"bos_token_id": 9, "eos_token_id": [0, 7], "pad_token_id": 0}
    for name in ("config.json", "generation_config.json"):
        known = json.loads((base / name).read_text()) if name == "config.json" else {}
        (base / name).write_text(json.dumps(known | told | {"max_new_tokens": 3}))
    (base / "chat_template.jinja").write_text("{{ messages[0].content }}")
    monkeypatch.setitem(folders, "told", base)
    folder = trained("told", {"kind": kind}, task)
    export(folder, "hf", tmp_path / "out")
    for out in (tmp_path / "out", *([folder / "model"] if kind == "full" else [])):
        config = transformers.AutoConfig.from_pretrained(out)
        assert {field: getattr(config, field) for field in told} == told
        assert config.dtype == torch.float32
        assert json.loads((out / "config.json").read_text())["torch_dtype"] == "float32"
        written = transformers.GenerationConfig.from_pretrained(out)
        assert (written.max_new_tokens, written.eos_token_id) == (3, [0, 7])
        theirs = transformers.AutoTokenizer.from_pretrained(out)
        assert theirs.apply_chat_template([{"content": "x"}], tokenize=False) == "x"
        assert (theirs.pad_token_id, theirs.model_max_length) == (0, 48)
        assert Tokenizer.load(out).ends == {0, 7}


# PEFT asks transformers by a name that transformers is about to retire.
@pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")
@pytest.mark.parametrize(
    ("form", "kind"),
    [(form, kind) for form, holds in HOLDS.items() for kind in METHODS if kind not in holds],
)
def test_a_format_that_cannot_hold_a_method_says_so_by_name_and_which_one_can(
    form: str, kind: str, trained: Trained, tmp_path: Path
) -> None:
    with pytest.raises(TunewiseError) as caught:
        export(trained("gpt2", {"kind": kind}), form, tmp_path / "out")
    message = str(caught.value)
    assert message.startswith(f"--format {form}: ")
    assert f"not {kind}" in message or f"not for {kind}" in message
    for other in HOLDS.keys() - {form}:
        assert message.endswith(f"; use --format {other}") == (kind in HOLDS[other])
    assert not (tmp_path / "out").exists()


def test_what_cannot_be_exported_is_refused_in_one_line(trained: Trained, tmp_path: Path) -> None:
    folder = trained("gpt2", {"kind": "soft_prompt", "tokens": 2})
    out = tmp_path / "out"
    with pytest.raises(TunewiseError, match="--format peft"):
        export(folder, "hf", out)
    with pytest.raises(TunewiseError, match="did you mean 'peft'"):
        export(folder, "pef", out)
    assert not out.exists()
    out.mkdir()
    (out / "mine").touch()
    with pytest.raises(TunewiseError, match="holds something already"):
        export(folder, "peft", out)
    (folder / "result.json").unlink()
    with pytest.raises(TunewiseError, match="has not finished"):
        export(folder, "peft", tmp_path / "other")


def test_the_command_exports_and_tells_a_mistake_in_one_line(
    trained: Trained,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    def command(*words: str | Path) -> tuple[Any, str, str]:
        monkeypatch.setattr(sys, "argv", ["tunewise", "export", *map(str, words)])
        with pytest.raises(SystemExit) as caught:
            cli.main()
        return caught.value.code or 0, *capfd.readouterr()

    folder, out = trained("gpt2", {"kind": "lora"}), tmp_path / "out"
    capfd.readouterr()
    code, printed, _ = command(folder, "--format", "peft", "--out", out)
    assert not code
    assert printed == f"{out}\n"
    assert {path.name for path in out.iterdir()} == {
        *("adapter_config.json", "adapter_model.safetensors", "README.md"),
        *("tokenizer.json", "tokenizer_config.json", "vocab.json", "merges.txt"),
    }
    code, _, error = command(folder, "--format", "hf", "--out", out)
    assert code == 2
    assert error.startswith("error: --out") and error.count("\n") == 1
