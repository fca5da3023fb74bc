"""A finished run, or a model as it came, put to use: rows are answered, prompts are continued."""

import json
import logging
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from tunewise.config import RunConfig, make_config
from tunewise.data.cache import Ids
from tunewise.data.encode import Encoded, encode_prompts, joined
from tunewise.data.example import Example
from tunewise.data.rows import Row, stream_rows
from tunewise.data.tokenizer import Tokenizer
from tunewise.device import choose_device, choose_dtype
from tunewise.errors import ConfigError
from tunewise.evaluation.choices import log_shares_of
from tunewise.evaluation.evaluate import scored_states
from tunewise.files import writing_whole
from tunewise.generation.config import DecodingConfig
from tunewise.generation.generate import generate, stream
from tunewise.generation.stop import text_of
from tunewise.models import LanguageModel
from tunewise.models.folder import find_folder
from tunewise.runs.answer import room, virtual_tokens
from tunewise.runs.folder import CONFIG_FILE
from tunewise.runs.model import adapted_model, load_trained
from tunewise.settings import validate
from tunewise.tasks import Answered

logger = logging.getLogger(__name__)

ROWS, CHARACTERS = 256, 500_000
"""The most that is read before it is answered: this many rows, or so much text."""

Answer = dict[str, Any]
"""`id`, and `label` and `probabilities`, or `text`."""


@dataclass(frozen=True)
class Predictor:
    """A model that answers as its run did."""

    config: RunConfig
    model: LanguageModel
    tokenizer: Tokenizer

    def predict(self, rows: Iterable[Mapping[str, Any]]) -> list[Answer]:
        """Return the answer to each row, a mapping with the columns that the task reads.

        Raises:
            DataError: if a row lacks one, or it does not hold text.
            ConfigError: if the task answers nothing.
        """
        numbered = enumerate(rows, start=1)
        return list(self.answers(Row(dict(row), f"rows:{number}") for number, row in numbered))

    def answers(self, rows: Iterable[Row]) -> Iterator[Answer]:
        """Yield the answer to each row, in their order; few rows are in memory at once."""
        cut = count = 0
        for examples in _chunks(map(self.config.task.given, rows)):
            answers, num_cut = self._answer(examples, self.config.seed + count)
            cut, count = cut + num_cut, count + len(examples)
            yield from answers
        if cut:
            logger.warning("%d of %d prompts are too long and were cut", cut, count)

    def generate(self, prompt: str, **decoding: Any) -> str:
        """Return what the model writes after a prompt; see `stream`."""
        return "".join(self.stream(prompt, **decoding))

    def stream(self, prompt: str, **decoding: Any) -> Iterator[str]:
        """Yield what the model writes after a prompt, piece by piece.

        Args:
            decoding: fields of `DecodingConfig`; the others are as the task has them.

        Raises:
            ConfigError: if the model answers with labels, or a field is wrong.
            ModelError: if the prompt leaves no room.
        """
        given, settings = self.given(prompt), self.decoding(decoding)
        return stream(self.model, given, self.tokenizer, settings, self.config.seed)

    def given(self, prompt: str | Sequence[int], cue: str = "") -> Ids:
        """Return the ids of a prompt, a text or ids already, and its cue, behind virtual tokens."""
        text, after = self.tokenizer.encode([prompt if isinstance(prompt, str) else "", cue])
        ids = joined(text if isinstance(prompt, str) else prompt, after)
        # Nothing at all still needs a token to go on from.
        ids = ids if len(ids) else joined([self.tokenizer.end_of_text])
        return joined(virtual_tokens(self.config, self.model.config), ids)

    def decoding(self, fields: Mapping[str, Any]) -> DecodingConfig:
        """Return how the model writes, as its task has it but for some fields.

        Raises:
            ConfigError: if the model answers with labels, or a field is wrong.
        """
        if self.model.num_labels is not None:
            raise ConfigError("the model has a label layer and writes nothing; use predict")
        task = self.config.task
        known = task.decoding.model_dump() if isinstance(task, Answered) else {}
        return validate(DecodingConfig, {**known, **fields}, "generate")

    def _answer(self, examples: list[Example], seed: int) -> tuple[list[Answer], int]:
        """Return the answers to some examples, and how many had to be cut."""
        task, shape = self.config.task, self.model.config
        choices = self.tokenizer.encode(examples[0].choices) if task.answer == "choice" else []
        reserved = max(map(len, choices), default=0)
        if isinstance(task, Answered):
            reserved = task.decoding.max_new_tokens
        limits = room(self.config, shape), virtual_tokens(self.config, shape)
        prompts = encode_prompts(examples, self.tokenizer, *limits, reserved)
        if isinstance(task, Answered):
            answers = self._texts(task, examples, prompts.ids, seed)
        elif task.answer == "choice":
            passes = self.config.train.tokens_per_pass
            log_shares = log_shares_of(self.model, prompts.ids, choices, passes)
            answers = _shared_out(examples, log_shares.exp().tolist())
        else:
            answers = _shared_out(examples, self._label_shares(prompts.ids))
        return answers, sum(number > 0 for number in prompts.cut)

    def _texts(
        self, task: Answered, examples: list[Example], prompts: list[Ids], seed: int
    ) -> list[Answer]:
        passes = self.config.train.tokens_per_pass
        written = generate(self.model, prompts, self.tokenizer, task.decoding, seed, passes)
        texts = (text_of(ids, self.tokenizer, task.decoding) for ids in written)
        return [
            {"id": example.id, "text": task.judged(example, text)[1]}
            for example, text in zip(examples, texts, strict=True)
        ]

    @torch.inference_mode()
    def _label_shares(self, prompts: list[Ids]) -> list[list[float]]:
        """Return the probability of every label, for each prompt."""
        shares: list[list[float]] = [[]] * len(prompts)
        # It is the last token of a sequence with a label that is looked at; which label, is not.
        sequences = [Encoded(str(n), ids, len(ids), label=0) for n, ids in enumerate(prompts)]
        passes = self.config.train.tokens_per_pass
        for hidden, _, owners in scored_states(self.model, sequences, passes):
            found = self.model.logits(hidden).float().softmax(-1).tolist()  # (M, labels)
            for owner, values in zip(owners, found, strict=True):
                shares[owner] = values
        return shares


def load(name: str | Path) -> Predictor:
    """Return a finished run by its folder, or a model by its name or folder, ready to answer.

    Raises:
        ConfigError: if a run's configuration cannot be read.
        ModelError: if there is no such model, or it cannot be read.
    """
    device = choose_device()
    if (Path(name) / CONFIG_FILE).is_file():
        config, model, tokenizer = load_trained(Path(name))
    else:
        task = {"kind": "language_modeling"}
        config = make_config(fields={"model": str(name), "task": task, "method": "full"})
        source = find_folder(config.model)
        tokenizer = Tokenizer.load(source)
        model = adapted_model(config, source, tokenizer).requires_grad_(False).eval()
        model.set_precision(choose_dtype(config.train.precision, device))
    return Predictor(config, model.to(device), tokenizer)


def predict_file(run: Path, source: Path, output: Path | None) -> int:
    """Answer every row of a file, in order, one JSON line each; return how many there are.

    Args:
        output: a new file, which is there when all is answered; None prints.

    Raises:
        ConfigError: if `output` is there already, or the run is none that answers.
        DataError: if a row cannot be used; the message names it.
    """
    if output is not None and output.exists():
        raise ConfigError(f"--output {output}: is there already, and nothing is overwritten")
    lines = (
        json.dumps(answer, ensure_ascii=False) + "\n"
        for answer in load(run).answers(stream_rows(source))
    )
    if output is None:
        return sum(1 for line in lines if sys.stdout.write(line))
    try:
        with writing_whole(output) as unfinished, unfinished.open("w", encoding="utf-8") as file:
            return sum(1 for line in lines if file.write(line))
    except OSError as error:
        raise ConfigError(f"--output {output}: cannot be written: {error.strerror}") from error


def _chunks(examples: Iterable[Example]) -> Iterator[list[Example]]:
    """Yield the examples, as many at once as may be in memory."""
    chunk: list[Example] = []
    characters = 0
    for example in examples:
        chunk.append(example)
        characters += len(example.prompt)
        if len(chunk) == ROWS or characters >= CHARACTERS:
            yield chunk
            chunk, characters = [], 0
    if chunk:
        yield chunk


def _shared_out(examples: list[Example], shares: list[list[float]]) -> list[Answer]:
    """Return the likeliest choice of each example, and the probabilities of all."""
    answers = []
    for example, values in zip(examples, shares, strict=True):
        names = [choice.strip() for choice in example.choices]
        label = names[values.index(max(values))]
        probabilities = dict(zip(names, values, strict=True))
        answers.append({"id": example.id, "label": label, "probabilities": probabilities})
    return answers
