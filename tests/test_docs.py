"""Laws of the documents: what they show is what the code does."""

import importlib.util
import re
import shlex
from inspect import isabstract
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import pytest
import torch
from typer.testing import CliRunner, Result

from tunewise.cli import main as cli
from tunewise.config import RunConfig, make_config
from tunewise.errors import TunewiseError
from tunewise.methods import METHODS, Method
from tunewise.metrics import Metric, Prediction
from tunewise.models.catalog import POCKET_CONFIG
from tunewise.models.folder import build_model
from tunewise.studies.study import Study
from tunewise.tasks import TASKS, Task
from tunewise.tasks.classification import Classification
from tunewise.tasks.named import task_names
from tunewise.yaml import load_yaml

ROOT = Path(__file__).parent.parent
DOCS = sorted((ROOT / "docs").rglob("*.md"))
PAGES = [*DOCS, ROOT / "README.md", ROOT / "CONTRIBUTING.md"]
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")


class Code(NamedTuple):
    """A fenced block of a page."""

    page: Path
    language: str
    text: str
    output: str | None
    """The ```text block after it, with nothing but blank lines between them."""


class ConfigMadeError(Exception):
    """Raised in place of a run."""


def blocks(pages: list[Path], *languages: str) -> list[Code]:
    found = []
    for page in pages:
        text = page.read_text("utf-8")
        fences = list(FENCE.finditer(text))
        for number, fence in enumerate(fences, start=1):
            after = fences[number] if number < len(fences) else None
            shown = None
            if after and after[1] == "text" and not text[fence.end() : after.start()].strip():
                shown = after[2]
            if fence[1] in languages:
                found.append(Code(page, fence[1], fence[2], shown))
    return found


def commands(code: Code) -> list[list[str]]:
    """Return the arguments of each `tunewise ...` line."""
    lines = code.text.replace("\\\n", " ").splitlines()
    words = [shlex.split(line, comments=True) for line in lines]
    return [line[1:] for line in words if line and Path(line[0]).name == "tunewise"]


def names(code: Code) -> str:
    return f"{code.page.relative_to(ROOT)}: {code.text.splitlines()[0] if code.text else ''}"


def invoke(arguments: list[str]) -> Result:
    """Run a command in this process, without the reader's own files, which are not there."""
    here = [word for word in arguments if not word.endswith(".yaml") or (ROOT / word).is_file()]
    return CliRunner().invoke(cli.app, here)


def imported(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(autouse=True)
def no_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let `tunewise run` come as far as its configuration, and a study as far as its plan."""

    def stop(config: RunConfig, *_: Any, **__: Any) -> None:
        raise ConfigMadeError(config.model)

    monkeypatch.setattr("tunewise.studies.runner.open_folder", lambda *_: None)
    # The folder of real data may not be there.
    monkeypatch.setattr("tunewise.cli.train.used_data", lambda context, data, tasks: data)
    monkeypatch.setattr("tunewise.studies.check.check_rows", lambda *_: None)
    monkeypatch.setattr("tunewise.studies.runner.run_study", lambda *_: [])
    # Last, since the module above imports the real one, and keeps it for later tests.
    monkeypatch.setattr("tunewise.run.run", stop)
    monkeypatch.chdir(ROOT)


def test_the_settings_reference_is_what_the_code_says() -> None:
    script = imported(ROOT / "scripts" / "settings_reference.py")
    written = script.REFERENCE.read_text("utf-8")
    assert written == script.settings_reference(), "run: python scripts/settings_reference.py"


@pytest.mark.parametrize("kind", METHODS)
def test_every_method_has_a_page_with_its_settings_and_learning_rate(kind: str) -> None:
    script = imported(ROOT / "scripts" / "settings_reference.py")
    page = (ROOT / "docs" / "methods" / f"{kind}.md").read_text("utf-8")
    assert page == script.method_page(kind), "run: python scripts/settings_reference.py"
    if len(METHODS[kind].model_fields) > 1:  # more than `kind`
        assert f"{script.SETTINGS_HEADING}\n{script.table(METHODS[kind])}" in page
    assert f"`{METHODS[kind].default_learning_rate:g}`" in page


def test_every_kind_of_task_has_a_section_and_every_named_task_a_row_with_its_kind() -> None:
    page = (ROOT / "docs" / "tasks.md").read_text("utf-8")
    for kind in TASKS:
        section = page.partition(f"\n### {kind}\n")[2].partition("\n#")[0]
        (example, *_) = FENCE.findall(section)
        assert load_yaml(example[1])["kind"] == kind
    for name in task_names():
        kind = make_config(fields={"task": name}).task.kind
        assert f"\n| `{name}` | {kind} | " in page


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_relative_link_leads_to_a_file(page: Path) -> None:
    prose = FENCE.sub("", page.read_text("utf-8"))
    for target in LINK.findall(prose):
        path, _, _ = target.partition("#")
        if "://" not in target and not target.startswith("mailto:") and path:
            assert (page.parent / path).exists(), target


def test_every_page_is_reached_from_the_index() -> None:
    index = ROOT / "docs" / "index.md"
    linked = {(index.parent / target).resolve() for target in LINK.findall(index.read_text())}
    assert set(DOCS) - {index} <= linked


@pytest.mark.parametrize("code", blocks(PAGES, "sh"), ids=names)
def test_every_command_shown_is_one_that_works(code: Code) -> None:
    for arguments in commands(code):
        result = invoke(arguments)
        is_dry_run = "--dry-run" in arguments
        if is_dry_run and "--data" in arguments:
            folder = Path(arguments[arguments.index("--data") + 1])
            if not folder.is_dir():
                pytest.skip(f"no {folder}")
        if arguments and arguments[0] == "run" and not is_dry_run:
            assert isinstance(result.exception, ConfigMadeError), (arguments, result.exception)
        else:
            assert result.exit_code == 0, (arguments, result.exception, result.output)


SHOWN = [code for code in blocks(DOCS, "sh") if code.output is not None]


@pytest.mark.parametrize("code", SHOWN, ids=names)
def test_the_output_shown_is_the_output_printed(code: Code) -> None:
    printed = "".join(invoke(arguments).stdout for arguments in commands(code))
    lines = [line.rstrip() for line in printed.splitlines()]  # a table's last column is padded
    assert lines == (code.output or "").splitlines()


@pytest.mark.parametrize("code", blocks(PAGES, "yaml"), ids=names)
def test_every_yaml_shown_is_a_configuration_a_task_or_a_study(code: Code, tmp_path: Path) -> None:
    values = load_yaml(code.text)
    if "kind" in values:
        TASKS[values["kind"]].model_validate(values)
    elif values.keys() & (Study.model_fields.keys() - RunConfig.model_fields.keys()):
        assert Study.model_validate({"name": "part", **values}).cells()
    else:
        path = tmp_path / "config.yaml"
        path.write_text(code.text, "utf-8")
        make_config(path)


WRONG = [c for c in blocks(DOCS, "jsonl", "csv", "xlsx") if c.output and c.output[:6] == "error:"]


@pytest.mark.parametrize("code", WRONG, ids=lambda code: (code.output or "").strip())
def test_the_error_shown_for_a_bad_file_is_the_error_raised(code: Code, tmp_path: Path) -> None:
    match = re.match(r"error: ([\w.]+):", code.output or "")
    assert match
    path = tmp_path / match[1]
    path.write_text(code.text, "utf-8")
    with pytest.raises(TunewiseError) as caught:
        Classification(path=path).examples("train")
    message = str(caught.value).replace(f"{tmp_path.as_posix()}/", "")
    assert f"error: {message}\n" == code.output


@pytest.mark.parametrize("code", blocks(DOCS, "python"), ids=names)
def test_every_example_of_code_is_in_the_package_or_fits_it(code: Code, tmp_path: Path) -> None:
    first, *lines = code.text.splitlines()
    if first.startswith("# new file: "):
        return  # `test_adding.py` runs it
    if first.startswith("# "):
        source = (ROOT / first.removeprefix("# ")).read_text("utf-8").splitlines()
        for line in lines:
            assert not line or line.strip() == "..." or line in source
        return
    path = tmp_path / "example.py"
    path.write_text(code.text, "utf-8")
    for value in list(vars(imported(path)).values()):
        if isinstance(value, type) and issubclass(value, Method) and value is not Method:
            model = build_model(POCKET_CONFIG)
            value().adapt(model, torch.Generator())  # type: ignore[call-arg]
            total, trainable = model.count_parameters()
            assert 0 < trainable < total
        if isinstance(value, type) and issubclass(value, Task) and not isabstract(value):
            rows = tmp_path / "rows.jsonl"
            rows.write_text('{"prompt": "1 + 1 =", "completion": " 2"}\n' * 10, "utf-8")
            examples = value(path=rows).examples("train")  # type: ignore[call-arg]
            assert {example.target for example in examples} == {" 2"}
        if isinstance(value, Metric):
            right, wrong = Prediction("a", "x", "x", -0.1, 1), Prediction("b", "y", "x", -2.0, 1)
            assert all(abs(value.compute(part)) <= 1 for part in ([right, wrong], [right] * 3))
