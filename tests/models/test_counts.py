"""Parameter counts come from shapes alone, and are those of the papers to the last digit."""

import pytest

from tunewise.config import make_config
from tunewise.models.catalog import KNOWN_MODELS
from tunewise.runs.parameters import count_parameters

EVERYWHERE = "method.targets=[query, key, value, out, up, down, head]"


@pytest.mark.parametrize(
    ("model", "total"),
    [
        ("gpt2", 124_439_808),
        ("gpt2-medium", 354_823_168),
        ("gpt2-large", 774_030_080),
        ("gpt2-xl", 1_557_611_200),
        ("gpt-neo-125m", 125_198_592),
    ],
)
def test_known_models_have_as_many_parameters_as_published(model: str, total: int) -> None:
    counts = count_parameters(make_config(overrides=[f"model={model}", "method=full"]), None)
    assert (counts.total, counts.trainable, counts.percent) == (total, total, 100)


@pytest.mark.parametrize(
    ("model", "rank", "trainable"),
    [
        ("gpt2-medium", 2, 987_298),
        ("gpt2-medium", 4, 1_974_596),
        ("gpt2-medium", 8, 3_949_192),
        ("gpt2-medium", 16, 7_898_384),
        ("gpt2-medium", 32, 15_796_768),
        ("gpt2-large", 8, 7_047_816),
        ("gpt2-large", 16, 14_095_632),
        ("gpt2-large", 32, 28_191_264),
    ],
)
def test_lora_on_every_layer_trains_as_many_as_published(
    model: str, rank: int, trainable: int
) -> None:
    words = [f"model={model}", "method=lora", f"method.rank={rank}", EVERYWHERE]
    counts = count_parameters(make_config(overrides=words), None)
    base = count_parameters(make_config(overrides=[f"model={model}", "method=full"]), None)
    assert counts.trainable == trainable
    assert counts.total == base.total + trainable
    assert counts.percent == pytest.approx(100 * trainable / counts.total)


@pytest.mark.parametrize(
    ("blocks", "trainable"), [(22, 7_308_560), (20, 6_718_736), (18, 6_128_912)]
)
def test_lora_on_the_last_blocks_trains_as_many_as_published(blocks: int, trainable: int) -> None:
    words = ["model=gpt2-medium", "method=lora", "method.rank=16", EVERYWHERE]
    named = make_config(overrides=[*words, f"method.blocks=last-{blocks}"])
    assert count_parameters(named, None).trainable == trainable
    listed = make_config(overrides=[*words, f"method.blocks={list(range(24 - blocks, 24))}"])
    assert count_parameters(listed, None).trainable == trainable


def test_an_output_layer_trained_alone_is_a_copy_of_the_embedding() -> None:
    medium = count_parameters(
        make_config(overrides=["model=gpt2-medium", "method=last_layer"]), None
    )
    assert (medium.total, medium.trainable) == (406_286_336, 50_257 * 1024)
    neo = count_parameters(make_config(overrides=["model=gpt-neo-125m", "method=last_layer"]), None)
    assert neo.trainable == 38_597_376


@pytest.mark.parametrize("model", ["gpt2", "gpt-neo-125m"])
def test_a_soft_prompt_trains_tokens_times_width(model: str) -> None:
    words = [f"model={model}", "method=soft_prompt", "method.tokens=12"]
    assert count_parameters(make_config(overrides=words), None).trainable == 9_216


@pytest.mark.parametrize("method", ["last_layer", "lora", "soft_prompt"])
def test_a_label_layer_replaces_the_output_layer_and_is_always_trained(method: str) -> None:
    config = make_config(overrides=["model=gpt2", f"method={method}"])
    language = make_config(overrides=["model=gpt2", "method=full"])
    labels = config.task.label_names
    assert labels
    layer = 768 * len(labels)
    counts = count_parameters(config, config.task)
    added = 0 if method == "last_layer" else count_parameters(config, None).trainable
    assert counts.trainable == layer + added
    assert counts.total == count_parameters(language, None).total + layer + added


def test_the_embedded_model_has_under_eight_million_parameters() -> None:
    counts = count_parameters(make_config(overrides=["model=pocket", "method=full"]), None)
    assert counts.total < 8_000_000


@pytest.mark.parametrize("model", KNOWN_MODELS)
def test_every_known_model_is_counted_without_its_weights(model: str) -> None:
    counts = count_parameters(make_config(overrides=[f"model={model}"]), None)
    assert 0 < counts.trainable < counts.total / 10
