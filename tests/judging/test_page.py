"""docs/judge.md says what the code does."""

import json
from pathlib import Path

import pytest

from tunewise.judging import JudgeConfig
from tunewise.judging.prompts import PAIR_TEMPLATE, SCORE_TEMPLATE

PAGE = (Path(__file__).parents[2] / "docs" / "judge.md").read_text("utf-8")


@pytest.mark.parametrize("name", JudgeConfig.model_fields)
def test_every_setting_is_described_with_its_default(name: str) -> None:
    field = JudgeConfig.model_fields[name]
    default = field.default if isinstance(field.default, str) else json.dumps(field.default)
    shown = f"`{default}`" if default else "empty"
    shown = "below" if name.endswith("template") else shown
    description = " ".join((field.description or "").split())
    assert f"| `{name}` | {shown} | {description} |" in PAGE


@pytest.mark.parametrize("template", [SCORE_TEMPLATE, PAIR_TEMPLATE])
def test_the_questions_shown_are_those_that_are_asked(template: str) -> None:
    assert f"```text\n{template}\n```" in PAGE
