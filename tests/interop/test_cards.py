"""The card of an exported folder says what it is, and its lines answer as the run does."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import transformers
import yaml

from tunewise.config import make_config
from tunewise.data.example import Example
from tunewise.data.tokenizer import Tokenizer
from tunewise.interop import export
from tunewise.predict import load
from tunewise.run import run
from tunewise.runs.folder import read_result
from tunewise.tasks import Instruction
from tunewise.tasks.chat import Turn
from tunewise.tasks.instruction_row import Format

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("quick")]

LONG = "a long text, " * 40
CHAT = [{"role": "user", "content": "a?"}, {"role": "assistant", "content": "b."}]
KINDS: dict[str, dict[str, Any]] = {
    "labels": {"kind": "classification", "max_length": 40},
    "pairs": {"kind": "classification", "template": "{text*}\n{{{label 2}}}", "lowercase": True},
    "cloze": {
        "kind": "cloze",
        "template": "{text} It is",
        "verbalizers": {"bad": " bad", "good": " good one"},
    },
    "words": {"kind": "generation", "template": "{text}:", "completion": " {label}"},
    "summary": {"kind": "summarization", "template": "{text*}>", "summary": " {label}"},
    "alpaca": {"kind": "instruction", "without_input": "Do {instruction}:"},
    "chats": {
        "kind": "instruction",
        "turns": {
            "user": "U: {content}\n",
            "system": "{content}\n\n",
            "assistant": "A: {content}<|endoftext|>\n",
        },
    },
    "completions": {"kind": "instruction"},
}
FOLDERS = {
    "labels hf lora": "labels",
    "labels peft lora": "labels",
    "labels peft soft_prompt": "labels",
    "pairs peft ia3": "pairs",
    "cloze peft prefix": "cloze",
    "cloze hf full": "cloze",
    "words hf last_layer": "words",
    "words peft soft_prompt": "words",
    "summary peft lora": "summary",
    "alpaca peft lora": "alpaca",
    "chats hf lora": "chats",
    "completions hf bitfit": "completions",
}
"""A kind of task, a format and a method, and the task."""

PROGRAM = """
import contextlib, io, json, os, sys
answers = {}
for folder, code in json.load(sys.stdin).items():
    os.chdir(folder)
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(code, folder, "exec"), {})
    answers[folder] = printed.getvalue()
json.dump(answers, sys.stdout)
"""


class Exported(NamedTuple):
    """An exported run: its folder and that of the run."""

    folder: Path
    run: Path

    @property
    def card(self) -> str:
        return (self.folder / "README.md").read_text("utf-8")

    @property
    def code(self) -> str:
        return self.card.partition("```python\n")[2].partition("```")[0]


def rows_of(kind: str) -> list[dict[str, Any]]:
    if kind == "alpaca":
        return [{"instruction": "a?", "input": "", "output": "b."}] * 12
    if kind == "chats":
        return [{"messages": CHAT}] * 12
    if kind == "completions":
        return [{"prompt": "a?", "completion": " b."}] * 12
    return [
        {"text": f"Text {n}", "label": ("bad", "good")[n % 2], "label 2": "X"} for n in range(12)
    ]


@pytest.fixture(scope="module")
def exported(
    tmp_path_factory: pytest.TempPathFactory, model_folder: Path
) -> Callable[[str], Exported]:
    """Return a function that trains and exports what `FOLDERS` names."""
    made: dict[str, Exported] = {}

    def make(name: str) -> Exported:
        if name not in made:
            kind, form, method = name.split()
            place = tmp_path_factory.mktemp("card")
            (place / "rows.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows_of(kind)))
            task = {"path": str(place / "rows.jsonl"), **KINDS[kind]}
            if kind not in ("labels", "pairs", "cloze"):
                task["decoding"] = {"max_new_tokens": 5}
            train = {"epochs": 3, "learning_rate": 0.05, "batch_size": 4, "precision": "fp32"}
            fields = {"model": str(model_folder), "task": task, "method": method, "train": train}
            run(make_config(fields=fields), out=place / "run")
            export(place / "run", form, place / "out")
            made[name] = Exported(place / "out", place / "run")
        return made[name]

    return make


def asked_of(kind: str, text: str) -> tuple[str, dict[str, Any]]:
    """Return what stands for a text in the code of a card, and a row that asks the same."""
    if kind == "alpaca":
        return repr(text), {"instruction": text}
    if kind == "chats":
        return repr(text), {"messages": [{"role": "user", "content": text}]}
    if kind == "completions":
        return repr(text), {"prompt": text}
    return repr(text), {"text": text, "label 2": text}


def test_the_lines_of_every_card_answer_as_the_run_does(
    exported: Callable[[str], Exported], model_folder: Path
) -> None:
    codes, expected = {}, {}
    for name, kind in FOLDERS.items():
        found = exported(name)
        text = LONG if name.startswith("labels") else "What is Is?"
        shown, row = asked_of(kind, text)
        assert "'...'" in found.code or '"..."' in found.code
        code = found.code.replace("'...'", shown)
        codes[str(found.folder)] = code.replace("base = 'tiny'", f"base = {str(model_folder)!r}")
        (expected[str(found.folder)],) = load(found.run).predict([row])
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], input=json.dumps(codes), capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    answers = json.loads(done.stdout)
    for name in FOLDERS:
        folder = str(exported(name).folder)
        answer, wanted = answers[folder], expected[folder]
        if "probabilities" in wanted:
            found_by_label = eval(answer)
            assert found_by_label == pytest.approx(wanted["probabilities"], abs=1e-4), name
        else:
            assert answer.strip() == wanted["predicted"].strip(), name


@pytest.mark.parametrize("name", ["labels hf lora", "labels peft lora", "alpaca peft lora"])
def test_a_card_says_what_the_folder_is(
    name: str, exported: Callable[[str], Exported], model_folder: Path
) -> None:
    found = exported(name)
    result = read_result(found.run)
    assert result is not None
    _, front, body = found.card.split("---\n", 2)
    labels = name.startswith("labels")
    assert yaml.safe_load(front) == {
        "library_name": "peft" if "peft" in name else "transformers",
        "pipeline_tag": "text-classification" if labels else "text-generation",
        "tags": ["tunewise", "lora", "custom"],
    }
    for metric, value in result.metrics["test"].items():
        low, high = result.intervals["test"][metric]
        assert f"| test | {metric} | {value:.4g} | {low:.4g} to {high:.4g} |" in body
    assert "dtype=torch.float32" in found.code
    assert ("Texts of over 40 tokens were cut" in body) == labels


@pytest.mark.parametrize("name", FOLDERS)
def test_a_folder_names_no_place_of_this_machine_and_is_readable_by_all(
    name: str, exported: Callable[[str], Exported], model_folder: Path
) -> None:
    found = exported(name)
    for path in found.folder.iterdir():
        assert str(model_folder.parent).encode() not in path.read_bytes(), path
        assert str(found.run.parent).encode() not in path.read_bytes(), path
        assert path.stat().st_mode == (found.folder / "README.md").stat().st_mode, path
    assert (found.folder / "tokenizer.json").is_file()


def test_a_known_base_has_its_public_name() -> None:
    from tunewise.interop.card import _front_matter
    from tunewise.interop.usage import usage_code

    config = make_config(fields={"model": "gpt2", "task": "alpaca"})
    assert _front_matter(config, "openai-community/gpt2", "peft")["base_model"].endswith("/gpt2")
    assert "base = 'openai-community/gpt2'" in usage_code(config, "peft")
    embedded = make_config(fields={"task": "alpaca"})
    assert "find_folder('pocket')" in usage_code(embedded, "peft")


@pytest.mark.parametrize("single", ["instructions", "messages", "prompt and completion"])
@pytest.mark.parametrize(("lowercase", "punctuation"), [(False, True), (True, False)])
def test_the_chat_template_renders_what_the_run_reads(
    single: Format, lowercase: bool, punctuation: bool, tokenizer: Tokenizer, tmp_path: Path
) -> None:
    from tunewise.interop.chat_template import chat_template

    task = Instruction(
        single_message=single,
        lowercase=lowercase,
        punctuation=punctuation,
        without_input='Do "this" {{é}}: {instruction}\n\n🎬 \\n ### {{% if %}}\n',
        turns={
            "system": "{content}\n",
            "user": "\n\nU'{content}\"\n",
            "assistant": "A:\n{content}🎬\n",
        },
    )
    tokenizer.save(tmp_path)
    template = chat_template(task)
    assert template is not None
    (tmp_path / "chat_template.jinja").write_text(template, "utf-8")
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path)
    turns = [
        Turn("system", "Be {{kind}}."),
        Turn("user", "  One?\n"),
        Turn("assistant", "Two"),
        Turn("user", "É"),
    ]
    for chosen in (turns, turns[:2], turns[1:2], turns[1:]):
        messages = [{"role": turn.role, "content": turn.content} for turn in chosen]
        rendered = theirs.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
        example: Example = task.prompt_of_chat(chosen, "chat")
        if single == "prompt and completion" and len(chosen) == 1:
            continue  # a prompt is no chat: nothing is around it
        assert rendered == example.prompt + example.cue
