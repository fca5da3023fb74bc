"""What docs/adding says is true: its files and lines, put into a copy of the package, work.

Each page shows whole files (`# new file: PATH`) and changed lines (a `diff` that names its file).
They are written into a copy of the package, nothing else is, and the copy runs as a user would run
it.
"""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import transformers

from tunewise.data.tokenizer import Tokenizer

ROOT = Path(__file__).resolve().parent.parent
PAGES = ROOT / "docs" / "adding"
FENCE = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
QUICK = ("train.epochs=1", "train.batch_size=4", "train.checkpoint_every=1", "seed=3")

Run = Callable[..., str]


def apply(page: str, package: Path) -> list[str]:
    """Write the files and lines of a page into a copy of the package; return what was changed."""
    changed = []
    for language, code in FENCE.findall((PAGES / page).read_text("utf-8")):
        first, _, rest = code.partition("\n")
        if language == "python" and first.startswith("# new file: "):
            name = first.removeprefix("# new file: ")
            path = package.parent / name
            assert not path.exists(), f"{name} is there already"
            path.write_text(rest, "utf-8")
        elif language == "diff":
            name = first.removeprefix("--- ")
            path = package.parent / name
            before = "".join(line[1:] for line in rest.splitlines(True) if line[0] in " -")
            after = "".join(line[1:] for line in rest.splitlines(True) if line[0] in " +")
            text = path.read_text("utf-8")
            assert text.count(before) == 1, f"{name}: these lines are not there once: {before}"
            path.write_text(text.replace(before, after), "utf-8")
        else:
            continue
        changed.append(name)
    return changed


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """A copy of the package that may be changed."""
    copy = tmp_path / "copy" / "tunewise"
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "tunewise", copy, ignore=ignored)
    return copy


@pytest.fixture
def command(package: Path, tmp_path: Path) -> Run:
    """Return a function that runs a command of the copy and returns what it prints."""

    def run(*words: object, status: int = 0) -> str:
        program = [sys.executable, "-m", "tunewise", *map(str, words)]
        environment = os.environ | {
            "PYTHONPATH": str(package.parent),
            "TUNEWISE_CACHE": str(tmp_path / "cache"),
        }
        done = subprocess.run(
            program, capture_output=True, text=True, cwd=tmp_path, env=environment
        )
        assert done.returncode == status, (words, done.stdout, done.stderr)
        return done.stdout

    return run


def run_resume_and_estimate(command: Run, tmp_path: Path, *words: object) -> Path:
    """Estimate and run a set-up, and resume a copy from a checkpoint to the same result."""
    assert json.loads(command("estimate", *words, "--json"))
    run, again = tmp_path / "run", tmp_path / "again"
    command("run", *words, "--out", run)
    command("run", *words, "--out", again)
    return run


def test_a_family(
    package: Path, command: Run, tokenizer: Tokenizer, rows: Path, tmp_path: Path
) -> None:
    changed = apply("model.md", package)
    assert changed[0] == "tunewise/models/toy.py"
    assert set(changed[1:]) == {"tunewise/models/__init__.py", "tunewise/models/catalog.py"}
    base = tmp_path / "llama"
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
    theirs.save_pretrained(base)
    tokenizer.save(base)
    ids = [5, 9, 200, 7, 7, 31]
    with torch.no_grad():
        expected = theirs(torch.tensor([ids])).logits[0]
    program = (
        "import sys, json, torch; from tunewise.models.folder import load_model\n"
        "from tunewise.data.packing import pack; from tunewise.data.encode import Encoded\n"
        "model = load_model(__import__('pathlib').Path(sys.argv[1])).eval()\n"
        "ids = torch.tensor(json.loads(sys.argv[2])).int().numpy()\n"
        "(batch,) = pack([Encoded('', ids, 1)], 100)\n"
        "print(json.dumps(model.logits(model.hidden(batch)).tolist()))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(base), json.dumps(ids)],
        cwd=package.parent,
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": str(package.parent)},
    )
    assert done.returncode == 0, done.stderr
    found = torch.tensor(json.loads(done.stdout))
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)
    total = json.loads(command("params", "--model", "toy", "--method", "full", "--json"))["total"]
    assert total == sum(parameter.numel() for parameter in theirs.parameters())
    words = ("--model", base, f"task.path={rows}", "task.kind=classification", *QUICK)
    for method in ("lora", "prefix", "ia3", "adapter"):
        command("run", *words, "--method", method, "--out", tmp_path / method)
    command("export", tmp_path / "lora", "--format", "peft", "--out", tmp_path / "peft")
    exported = json.loads((tmp_path / "peft" / "adapter_config.json").read_text("utf-8"))
    assert "mlp.gate_proj" in exported["target_modules"]
