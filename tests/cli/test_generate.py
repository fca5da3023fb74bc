"""`generate --stop` ends a text at a string; the same `--seed` gives the same text."""

from pathlib import Path

import pytest

from tunewise.predict import load

from .conftest import Tunewise

pytestmark = pytest.mark.slow

WORDS = ("--prompt", "It was a", "--max-new-tokens", "16")


@pytest.fixture(scope="module")
def written() -> str:
    """The lines that pocket writes after the prompt."""
    text = load("pocket").generate("It was a", max_new_tokens=16)
    assert "\n" in text and "." in text
    return text


@pytest.mark.parametrize(
    ("stops", "ends"),
    [
        (["."], ["."]),
        ([r"\n"], ["\n"]),
        (["\n"], ["\n"]),
        ([r"\n", "."], ["\n", "."]),
        (["no such text"], ["no such text"]),
        ([r"\\n"], [r"\n"]),
        ([r"\t"], ["\t"]),
        ([r"\."], [r"\."]),
    ],
)
def test_an_output_ends_before_the_first_stop_string(
    tunewise: Tunewise, written: str, stops: list[str], ends: list[str]
) -> None:
    options = [word for stop in stops for word in ("--stop", stop)]
    answer = tunewise("generate", "pocket", *WORDS, *options)
    shortest = min((written.split(end)[0] for end in ends), key=len)
    assert (answer.code, answer.out) == (0, shortest + "\n")


def test_the_seed_decides_what_is_sampled_and_nothing_else(tunewise: Tunewise) -> None:
    def said(*words: str | Path) -> str:
        return tunewise("generate", "pocket", *WORDS, *words).out

    sampled = [said("--temperature", "1", "--seed", seed) for seed in ("0", "1", "1")]
    assert sampled[0] != sampled[1] == sampled[2]
    assert sampled[0] == said("--temperature", "1")  # the seed of a model that is no run
    assert said() == said("--seed", "1")  # greedy
    assert "--seed" in tunewise("generate", "pocket", *WORDS, "--seed", "-1").err
