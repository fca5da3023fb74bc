"""A choice among texts is the one that a plain loop over transformers' logits finds likeliest."""

from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from tiny import bpe_tokenizer, draw_weights, tiny_config
from transformers import GPT2LMHeadModel

from tunewise.data.encode import encode_prompts
from tunewise.data.example import Example
from tunewise.data.layout import Layout
from tunewise.data.tokenizer import Tokenizer
from tunewise.evaluation.answers import ChoiceAnswer, Inference, choice
from tunewise.methods.soft_prompt import SoftPrompt
from tunewise.metrics import Prediction
from tunewise.models import LanguageModel
from tunewise.models.folder import build_model, load_model, save_model

MAX_LENGTH = 40
CUE = " good?"
WORDS = ["the film is not good at all", "yes no yes no", "a good film, and a very good cast", "bad"]

ANSWERS = {
    "one token each": (" yes", " no"),
    "one token each, three": (" good", " film", " bad"),
    "several tokens": (" surely", " never", " it may be"),
    "the same first token": (" no idea", " no way"),
    "one token and several": (" yes", " never"),
}
both_paths = pytest.mark.parametrize("answers", ANSWERS.values(), ids=ANSWERS)


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return bpe_tokenizer(300, ["a yes no good film bad idea way " * 9, *WORDS])


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, tokenizer: Tokenizer) -> Path:
    """Return the folder of a model whose weights are large enough for answers to differ."""
    model = build_model(tiny_config(vocabulary_size=300, num_layers=2), "cpu")
    draw_weights(model, 0.4, torch.Generator().manual_seed(3))
    folder = tmp_path_factory.mktemp("models") / "tiny"
    save_model(model, folder, tokenizer.end_of_text)
    tokenizer.save(folder)
    return folder


@pytest.fixture(scope="module")
def model(folder: Path) -> LanguageModel:
    return load_model(folder).eval()


@pytest.fixture(scope="module")
def reference(folder: Path) -> GPT2LMHeadModel:
    loaded: GPT2LMHeadModel = GPT2LMHeadModel.from_pretrained(folder)
    return loaded.eval()


def examples_of(answers: Sequence[str], cue: str = CUE) -> list[Example]:
    """Return prompts from empty to too long, with each answer expected in turn."""
    texts = ["", *WORDS, " ".join(WORDS), "good " * 60, *(word[::-1] for word in WORDS)]
    return [
        Example(f"rows:{n}", text, answers[n % len(answers)], tuple(answers), cue)
        for n, text in enumerate(texts)
    ]


def chosen(
    model: LanguageModel,
    examples: Sequence[Example],
    tokenizer: Tokenizer,
    tokens_per_pass: int = 64,
    prefix: Sequence[int] = (),
) -> list[Prediction]:
    layout = Layout(MAX_LENGTH, tuple(prefix))
    inference = Inference(model, tokenizer, layout, tokens_per_pass, seed=0)
    answer = ChoiceAnswer(examples[0].choices)
    return answer.evaluate(inference, examples, sequences=(), write_texts=False)


def close(one: Sequence[Prediction], other: Sequence[Prediction]) -> None:
    for first, second in zip(one, other, strict=True):
        assert first.log_likelihood == pytest.approx(second.log_likelihood, rel=1e-4, abs=1e-5)
        for field in ("id", "expected", "predicted", "num_scored"):
            assert getattr(first, field) == getattr(second, field)


@torch.no_grad()
def by_definition(
    reference: GPT2LMHeadModel,
    examples: Sequence[Example],
    tokenizer: Tokenizer,
    virtual: torch.Tensor | None = None,
) -> list[Prediction]:
    """Return what the sum of log p(token) over each answer's tokens says, one pass per answer."""
    embedding = reference.get_input_embeddings()
    predictions = []
    for example in examples:
        answers = tokenizer.tokenize(example.choices)
        reserved = max(map(len, answers))
        room = MAX_LENGTH - (0 if virtual is None else len(virtual))
        (prompt,) = encode_prompts([example], tokenizer, Layout(room), reserved).ids
        sums = []
        for answer in answers:
            ids = torch.tensor([*prompt.tolist(), *answer])
            inputs = embedding(ids)
            if virtual is not None:
                inputs = torch.cat([virtual, inputs])
            logs = reference(inputs_embeds=inputs[None]).logits[0].log_softmax(-1)
            ends = logs[-len(answer) - 1 : -1]
            sums.append(sum(float(row[token]) for row, token in zip(ends, answer, strict=True)))
        shares = torch.tensor(sums, dtype=torch.float64).log_softmax(-1)
        best = example.choices[int(shares.argmax())]
        share = float(shares[example.choices.index(example.target)])
        predictions.append(
            Prediction(example.id, example.target.strip(), best.strip(), share, num_scored=1)
        )
    return predictions


@both_paths
@pytest.mark.parametrize("cue", [CUE, ""])
def test_the_choice_is_that_of_a_plain_loop_over_another_implementations_logits(
    model: LanguageModel,
    reference: GPT2LMHeadModel,
    tokenizer: Tokenizer,
    answers: tuple[str, ...],
    cue: str,
) -> None:
    examples = examples_of(answers, cue)
    expected = by_definition(reference, examples, tokenizer)
    assert len({round(p.log_likelihood, 2) for p in expected}) > 5  # else this would show little
    close(chosen(model, examples, tokenizer), expected)


@pytest.mark.parametrize("name", [name for name in ANSWERS if name.startswith("one token each")])
def test_one_pass_for_all_answers_finds_what_one_pass_for_each_finds(
    model: LanguageModel, tokenizer: Tokenizer, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = ANSWERS[name]
    assert all(len(ids) == 1 for ids in tokenizer.tokenize(answers))  # else both are the slow path
    examples = examples_of(answers)
    fast = chosen(model, examples, tokenizer)
    monkeypatch.setattr(
        choice,
        "_score_next_token",
        lambda model, prompts, answers, tokens_per_pass: choice._score_whole_texts(
            model, prompts, [[answer] for answer in answers], tokens_per_pass
        ),
    )
    close(fast, chosen(model, examples, tokenizer))


@pytest.mark.parametrize("name", ["several tokens", "the same first token"])
def test_answers_of_several_tokens_are_read_whole(
    model: LanguageModel, tokenizer: Tokenizer, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = tokenizer.tokenize(ANSWERS[name])
    assert max(map(len, ids)) > 1
    if name == "the same first token":
        assert len({first for first, *_ in ids}) == 1

    def refuse(*_: object) -> None:
        raise AssertionError("asked for the next token alone")

    monkeypatch.setattr(choice, "_score_next_token", refuse)
    chosen(model, examples_of(ANSWERS[name]), tokenizer)


@both_paths
def test_the_choice_does_not_depend_on_how_much_goes_in_one_pass(
    model: LanguageModel, tokenizer: Tokenizer, answers: tuple[str, ...]
) -> None:
    examples = examples_of(answers)
    whole = chosen(model, examples, tokenizer, 10_000)
    for tokens_per_pass in (1, 45, 130):
        close(chosen(model, examples, tokenizer, tokens_per_pass), whole)
    close(chosen(model, examples[::-1], tokenizer), whole[::-1])


@both_paths
def test_the_shares_of_all_answers_to_a_question_add_up_to_one(
    model: LanguageModel, tokenizer: Tokenizer, answers: tuple[str, ...]
) -> None:
    totals = torch.zeros(len(examples_of(answers)), dtype=torch.float64)
    for answer in answers:
        examples = [Example(e.id, e.prompt, answer, e.choices, e.cue) for e in examples_of(answers)]
        logs = [p.log_likelihood for p in chosen(model, examples, tokenizer)]
        totals += torch.tensor(logs, dtype=torch.float64).exp()
    assert torch.allclose(totals, torch.ones_like(totals))


@both_paths
def test_a_soft_prompt_stands_in_front_of_every_question(
    folder: Path,
    reference: GPT2LMHeadModel,
    tokenizer: Tokenizer,
    answers: tuple[str, ...],
) -> None:
    model = load_model(folder)
    SoftPrompt(tokens=5, init="gaussian").adapt(model, torch.Generator().manual_seed(1))
    with torch.no_grad():
        for _, parameter in model.trainable():
            parameter.normal_(generator=torch.Generator().manual_seed(2))
    prefix = range(300, 305)
    virtual = model.token_embedding(torch.tensor(prefix)).detach()
    examples = examples_of(answers)
    expected = by_definition(reference, examples, tokenizer, virtual)
    close(chosen(model.eval(), examples, tokenizer, prefix=prefix), expected)
    assert expected != by_definition(reference, examples, tokenizer)


@both_paths
def test_choosing_leaves_mode_weights_and_chance_as_they_were(
    folder: Path, tokenizer: Tokenizer, answers: tuple[str, ...]
) -> None:
    model = load_model(folder).train()
    model.set_dropout(0.5)
    chance, examples = torch.get_rng_state(), examples_of(answers)
    weights = {name: p.detach().clone() for name, p in model.named_parameters()}
    predictions = chosen(model, examples, tokenizer)
    assert model.training
    assert torch.equal(torch.get_rng_state(), chance)
    assert all(torch.equal(p, weights[name]) for name, p in model.named_parameters())
    assert chosen(model, examples, tokenizer) == predictions  # dropout plays no part
