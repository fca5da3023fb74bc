"""Laws of a batch that others join and leave: each text is what it would be alone."""

from collections.abc import Callable
from typing import Any

import torch
from tiny import every_family

import tunewise as tw
from tunewise.generation.continuation import Draw, new_text
from tunewise.generation.generate import generate
from tunewise.generation.stop import text_of
from tunewise.predict import Predictor
from tunewise.serving.batch import TextBatch, TextJob, TextPiece
from tunewise.serving.mixing import Mix
from tunewise.serving.server import load_all

RunOf = Callable[..., str]
DECODINGS: list[dict[str, Any]] = [
    {"max_new_tokens": 30},
    {"max_new_tokens": 4},
    {"max_new_tokens": 25, "temperature": 1.0, "top_p": 0.9},
    {"max_new_tokens": 1},
    {"max_new_tokens": 18, "temperature": 0.7, "top_k": 20, "repetition_penalty": 1.5},
    {"max_new_tokens": 60},  # the context ends first
    {"max_new_tokens": 30, "repetition_penalty": 1.2},
    {"max_new_tokens": 12, "temperature": 1.5},
]
PROMPTS = ["A", "A much longer one, so it goes", "So", "x" * 40, "One", "No", "A film", "Yes"]


class Asked:
    """A text that joins a batch, and what comes of it."""

    def __init__(
        self, predictor: Predictor, owner: int, number: int, stop: tuple[str, ...] = ()
    ) -> None:
        self.predictor = predictor
        self.decoding = predictor.decoding({**DECODINGS[number], "stop": stop})
        self.prompt = predictor.prompt_ids(PROMPTS[number])
        self.pieces: list[TextPiece] = []
        text = new_text(predictor.model, self.prompt, self.decoding, Draw(number, 0))
        self.job = TextJob(text, owner, self.decoding, predictor.tokenizer, self.pieces.append)
        self.expected = self.alone(number)

    def alone(self, seed: int) -> str:
        (ids,) = generate(
            self.predictor.model, [self.prompt], self.predictor.tokenizer, self.decoding, seed
        )
        return text_of(ids, self.predictor.tokenizer, self.decoding)

    @property
    def found(self) -> str:
        return "".join(piece.text for piece in self.pieces)


def written(batch: TextBatch, joining: list[list[Asked]]) -> None:
    """Have some texts join before each step, and go on to the end of all."""
    for some in joining:
        if some:
            batch.join([asked.job for asked in some])
        if batch.jobs:
            batch.step()
    while batch.jobs:
        batch.step()


@every_family
def test_texts_that_join_at_any_step_are_what_each_run_writes_alone(
    run_of: RunOf, family: str
) -> None:
    methods = ["lora", "other lora", "soft_prompt", "full"]
    predictors = list(load_all([run_of(method, on=family) for method in methods]).values())
    asked = [Asked(predictors[n % 4], n % 4, n) for n in range(len(DECODINGS))]
    batch = TextBatch(Mix([predictor.model for predictor in predictors]))
    written(batch, [asked[:2], [], asked[2:5], [asked[5]], [], [], asked[6:]])
    assert [a.found for a in asked] == [a.expected for a in asked]
    assert len({a.found for a in asked}) == len(asked)
    for one in asked:
        assert [piece.finish for piece in one.pieces[:-1]] == [None] * (len(one.pieces) - 1)
        last = one.pieces[-1]
        room = min(one.decoding.max_new_tokens, 64 - len(one.prompt))
        assert last.finish == ("length" if last.num_tokens == room else "stop")


def test_a_run_with_a_prefix_is_joined_too(run_of: RunOf) -> None:
    predictor = tw.load(run_of("prefix"))
    asked = [Asked(predictor, 0, number) for number in range(5)]
    written(TextBatch(Mix([predictor.model])), [asked[:1], [], asked[1:3], [], asked[3:]])
    assert [a.found for a in asked] == [a.expected for a in asked]


def test_what_nobody_waits_for_is_dropped_and_the_others_go_on(run_of: RunOf) -> None:
    predictor = tw.load(run_of())
    asked = [Asked(predictor, 0, number) for number in (0, 6, 2, 4)]
    batch = TextBatch(Mix([predictor.model]))
    batch.join([a.job for a in asked])
    batch.step()
    asked[0].job.cancelled = asked[2].job.cancelled = True
    batch.drop_cancelled()
    assert len(batch.jobs) == 2
    written(batch, [])
    assert asked[0].pieces[-1].finish is None
    for one in (asked[1], asked[3]):
        assert one.found == one.expected


def test_a_text_ends_before_its_stop_string_and_says_why(run_of: RunOf) -> None:
    predictor = tw.load(run_of())
    whole = Asked(predictor, 0, 0).expected
    stop = whole[4:6]
    one = Asked(predictor, 0, 0, (stop,))
    written(TextBatch(Mix([predictor.model])), [[one]])
    assert one.found == one.expected == whole[: whole.index(stop)]
    assert one.pieces[-1].finish == "stop"


def test_the_end_of_the_text_is_not_shown(run_of: RunOf) -> None:
    predictor = tw.load(run_of())
    one = Asked(predictor, 0, 0)
    with torch.no_grad():  # an end that is always the likeliest
        predictor.model.final_norm.bias.copy_(predictor.model.token_embedding.weight[0] * 50)
    written(TextBatch(Mix([predictor.model])), [[one]])
    assert (one.found, len(one.pieces)) == ("", 1)
    assert (one.pieces[0].finish, one.pieces[0].num_tokens) == ("stop", 1)
