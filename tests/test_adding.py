"""What docs/adding says is true: its files and lines, put into a copy of the package, work.

Each page shows whole files (`# new file: PATH`) and changed lines (a `diff` that names its file).
They are written into a copy of the package, nothing else is, and the copy runs as a user would run
it.
"""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import transformers
from copies import PROGRAM, QUICK, ROOT, Run, Words, apply, check_life, life, result_of, updates

from tunewise.data.rows import SPLITS
from tunewise.data.tokenizer import Tokenizer

pytestmark = pytest.mark.slow


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """A copy of the package that may be changed."""
    copy = tmp_path / "copy" / "tunewise"
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "tunewise", copy, ignore=ignored)
    return copy


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache that all copies share, so that the machine is measured once."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def commands(package: Path, cache: Path, tmp_path: Path) -> Run:
    """Return a function that runs commands of the copy and returns what they print."""

    def run(*commands: Words) -> list[str]:
        done = subprocess.run(
            [sys.executable, str(PROGRAM)],
            input=json.dumps([[str(word) for word in words] for words in commands]),
            capture_output=True,
            text=True,
            cwd=tmp_path,
            env=os.environ
            | {"PYTHONPATH": str(package.parent), "TUNEWISE_CACHE": str(cache), "COLUMNS": "200"},
        )
        assert done.returncode == 0, done.stderr
        outputs = json.loads(done.stdout)
        for words, output in zip(commands, outputs, strict=True):
            print(*words, output[:300], sep=" ")
        return [str(output) for output in outputs]

    return run


def texts(rows: Path) -> Words:
    """Return the settings of a task with texts as answers, which measures how likely they are."""
    return [
        "task.kind=generation",
        f"task.path={rows}",
        "task.template='{instruction}'",
        "task.completion='{output}'",
        "task.metrics=[loss, perplexity]",
        "task.decoding.max_new_tokens=4",
    ]


def test_a_family(
    package: Path, commands: Run, tokenizer: Tokenizer, rows: Path, tmp_path: Path
) -> None:
    changes = apply("model.md", package)
    assert changes.new == ["tunewise/models/toy.py"]
    assert changes.lines.keys() == {"tunewise/models/__init__.py", "tunewise/models/catalog.py"}
    assert changes.lines["tunewise/models/__init__.py"] == ["Toy,"]
    torch.manual_seed(0)
    config = transformers.LlamaConfig(
        vocab_size=257,
        hidden_size=16,
        num_attention_heads=4,
        num_key_value_heads=2,
        num_hidden_layers=2,
        intermediate_size=24,
        max_position_embeddings=64,
        initializer_range=0.3,
        rope_theta=100.0,
        bos_token_id=0,
        eos_token_id=0,
        pad_token_id=0,
    )
    theirs = transformers.LlamaForCausalLM(config).eval()
    theirs.save_pretrained(tmp_path / "llama")
    tokenizer.save(tmp_path / "llama")
    ids = [5, 9, 200, 7, 7, 31]
    words = ["model=llama", "task.kind=classification", f"task.path={rows}", *QUICK]
    others = ("prefix", "ia3", "adapter")
    estimate, *_, logits, params, peft, hf = commands(
        ["estimate", *words, "--json"],
        *life([*words, "method=lora"]),
        *(["run", *words, f"method={method}", "--out", method] for method in others),
        ["logits", "llama", *ids],
        ["params", "--model", "toy", "--method", "full", "--json"],
        ["export", "run", "--format", "peft", "--out", "peft"],
        ["export", "run", "--format", "hf", "--out", "hf"],
    )
    check_life(tmp_path)
    surveyed = [one["name"] for one in json.loads(estimate)["methods"]]
    assert "lora" in surveyed
    assert "bitfit" not in surveyed  # the model has no biases
    assert all((tmp_path / method / "result.json").is_file() for method in others)
    with torch.no_grad():
        expected = theirs(torch.tensor([ids])).logits[0]
    torch.testing.assert_close(torch.tensor(json.loads(logits)), expected, atol=1e-4, rtol=1e-4)
    assert json.loads(params)["total"] == sum(p.numel() for p in theirs.parameters())
    assert (peft, hf) == ("peft\n", "hf\n")
    exported = json.loads((tmp_path / "peft" / "adapter_config.json").read_text("utf-8"))
    assert "mlp.gate_proj" in exported["target_modules"]
    whole = transformers.AutoModelForSequenceClassification.from_pretrained(tmp_path / "hf")
    assert type(whole).__name__ == "LlamaForSequenceClassification"


def test_a_method(
    package: Path, commands: Run, model_folder: Path, rows: Path, tmp_path: Path
) -> None:
    changes = apply("method.md", package)
    assert changes.new == ["tunewise/methods/gain.py"]
    assert [len(lines) for lines in changes.lines.values()] == [1]
    words = [*texts(rows), *QUICK, "train.learning_rate=0.1"]
    merged = ["model=hf", *words, "train.epochs=0", "method=bitfit"]
    estimate, *_, listed, peft, hf, _ = commands(
        ["estimate", f"model={model_folder}", *words, "method=gain", "--json"],
        *life([f"model={model_folder}", *words, "method=gain"]),
        ["predict", "run", "--input", rows / "test.jsonl", "--output", "answers.jsonl"],
        ["list", "methods"],
        ["export", "run", "--format", "peft", "--out", "peft"],
        ["export", "run", "--format", "hf", "--out", "hf"],
        ["run", *merged, "--out", "merged"],
    )
    result = check_life(tmp_path)
    assert result["parameters"]["trainable"] == 2 * (4 * 16 + 32 + 16)
    assert "gain" in listed
    assert "gain" in [one["name"] for one in json.loads(estimate)["methods"]]
    assert len((tmp_path / "answers.jsonl").read_text().splitlines()) == 12
    assert "PEFT does not have it; use --format hf" in peft
    assert hf == "hf\n"
    loss = result_of(tmp_path / "merged")["metrics"]["test"]["loss"]
    assert loss == pytest.approx(result["metrics"]["test"]["loss"], rel=1e-5)


def test_a_kind_of_task(package: Path, commands: Run, model_folder: Path, tmp_path: Path) -> None:
    changes = apply("task.md", package)
    assert changes.new == ["tunewise/tasks/reading.py"]
    assert [len(lines) for lines in changes.lines.values()] == [1]
    row = {"passage": "One and two are three.", "question": "What is 1 + 2?", "answer": "3"}
    for split in SPLITS:
        lines = [json.dumps({**row, "answer": f"{number}"}) + "\n" for number in range(12)]
        (tmp_path / f"{split}.jsonl").write_text("".join(lines))
    words = [f"model={model_folder}", "task.kind=reading", f"task.path={tmp_path}", *QUICK]
    words += ["method=lora", "task.decoding.max_new_tokens=4"]
    estimate, *_, listed, hf = commands(
        ["estimate", *words, "--json"],
        *life(words),
        ["predict", "run", "--input", "test.jsonl", "--output", "answers.jsonl"],
        ["list", "tasks"],
        ["export", "run", "--format", "hf", "--out", "hf"],
    )
    result = check_life(tmp_path)
    assert result["metrics"]["test"].keys() == {"loss", "perplexity", "rougeL"}
    assert json.loads(estimate)["asked"]["seconds"] > 0
    assert "{kind: reading, path: ...}" in listed
    assert len((tmp_path / "answers.jsonl").read_text().splitlines()) == 12
    assert hf == "hf\n"


def test_an_objective(
    package: Path, commands: Run, model_folder: Path, rows: Path, tmp_path: Path
) -> None:
    changes = apply("objective.md", package)
    assert changes.new == ["tunewise/training/objectives/focal.py"]
    assert list(changes.lines.values()) == [
        ["ALL: tuple[type[Objective], ...] = (CrossEntropy, Focal)"]
    ]
    plain = [f"model={model_folder}", *texts(rows), *QUICK, "method=lora"]
    *_, listed, wrong, peft = commands(
        *life([*plain, "train.objective={kind: focal, gamma: 3}"]),
        ["run", *plain, "--out", "plain"],
        ["list", "objectives"],
        ["run", *plain, "train.objective=focl", "--out", "wrong"],
        ["export", "run", "--format", "peft", "--out", "peft"],
    )
    result = check_life(tmp_path)
    assert result["config"]["train"]["objective"] == {"kind": "focal", "gamma": 3}
    focal, entropy = updates(tmp_path / "run"), updates(tmp_path / "plain")
    assert 0 < focal[0]["loss"] < entropy[0]["loss"]
    assert "gamma=2.0" in listed
    assert "train.objective: no objective 'focl'; did you mean 'focal'?" in wrong
    assert peft == "peft\n"


def test_an_optimizer(
    package: Path, commands: Run, model_folder: Path, rows: Path, tmp_path: Path
) -> None:
    changes = apply("optimizer.md", package)
    assert changes.new == ["tunewise/training/optimizers/lion.py"]
    assert list(changes.lines.values()) == [["OneOf = AdamW | Adam | SGD | Lion"]]
    words = [f"model={model_folder}", *texts(rows), *QUICK, "method=full"]
    *_, hf = commands(
        *life([*words, "train.optimizer=lion"]),
        ["export", "run", "--format", "hf", "--out", "hf"],
    )
    result = check_life(tmp_path)
    assert result["config"]["train"]["optimizer"] == "lion"
    assert hf == "hf\n"


def test_a_metric(
    package: Path, commands: Run, model_folder: Path, rows: Path, tmp_path: Path
) -> None:
    changes = apply("metric.md", package)
    assert changes.new == ["tunewise/metrics/exact_match.py"]
    assert list(changes.lines.values()) == [["EXACT_MATCH,"]]
    words = [f"model={model_folder}", *texts(rows), "task.metrics=[exact_match, loss]", *QUICK]
    study = {
        "name": "two",
        "base": {"model": str(model_folder), "train": {"epochs": 1, "batch_size": 4}},
        "vary": {"method": ["lora", "ia3"]},
    }
    study["base"] |= {  # type: ignore[operator]
        "task": {
            "kind": "generation",
            "path": str(rows),
            "template": "{instruction}",
            "completion": "{output}",
            "metrics": ["exact_match", "loss"],
            "decoding": {"max_new_tokens": 4},
        }
    }
    (tmp_path / "study.yaml").write_text(json.dumps(study))
    *_, listed, peft, _, compared = commands(
        *life([*words, "method=lora"]),
        ["list", "metrics"],
        ["export", "run", "--format", "peft", "--out", "peft"],
        ["study", "study.yaml", "--out", "study"],
        ["compare", "study"],
    )
    result = check_life(tmp_path)
    assert result["metrics"]["test"].keys() == {"exact_match", "loss"}
    assert result["best"]["metric"] == "exact_match"
    assert "share of answers exactly right" in listed
    assert peft == "peft\n"
    assert compared == "exact_match, McNemar: +0.0 (+0.0 to +0.0), 0.0 %"


def test_a_low_bit_weight(
    package: Path, commands: Run, model_folder: Path, rows: Path, tmp_path: Path
) -> None:
    changes = apply("weight.md", package)
    assert changes == (["tunewise/models/int8.py"], {})
    words = [*texts(rows), *QUICK, "train.learning_rate=0.01"]
    lora = [f"model={model_folder}", *words, "method={kind: lora, targets: [query, up]}"]
    merged = ["model=hf", *words, "train.epochs=0", "method=last_layer"]
    _, _, estimate, *_, full, _, peft, hf, _ = commands(
        ["run", *lora, "--out", "dense"],
        ["store-in-int8"],
        ["estimate", *lora, "--json"],
        *life(lora),
        ["run", f"model={model_folder}", *words, "method=full", "--out", "full"],
        ["predict", "run", "--input", rows / "test.jsonl", "--output", "answers.jsonl"],
        ["export", "run", "--format", "peft", "--out", "peft"],
        ["export", "run", "--format", "hf", "--out", "hf"],
        ["run", *merged, "--out", "merged"],
    )
    result = check_life(tmp_path)
    surveyed = [one["name"] for one in json.loads(estimate)["methods"]]
    assert "lora" in surveyed
    assert "full" not in surveyed
    assert "cannot be trained" in full
    assert (peft, hf) == ("peft\n", "hf\n")
    assert len((tmp_path / "answers.jsonl").read_text().splitlines()) == 12
    dense, exported = result_of(tmp_path / "dense"), result_of(tmp_path / "merged")
    losses = [one["metrics"]["test"]["loss"] for one in (result, dense, exported)]
    assert losses == pytest.approx([losses[0]] * 3, rel=1e-3)
    assert losses[0] != losses[1]  # it was rounded
    num_scales = 2 * (4 * 16 + 32 + 16)
    more = result["parameters"]["total"] - dense["parameters"]["total"]
    assert more == num_scales
    whole = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "hf")
    assert {p.dtype for p in whole.parameters()} == {torch.float32}
