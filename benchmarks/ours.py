"""The tunewise side: what `tunewise run` does, by the same functions."""

from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.worker import Clock, Measured, Work, main
from tunewise.config import RunConfig
from tunewise.data.encode import Encoded, join_ids
from tunewise.data.tokenizer import Tokenizer
from tunewise.device import choose_device
from tunewise.generation.config import DecodingConfig
from tunewise.generation.generate import generate
from tunewise.models.folder import load_model
from tunewise.run import run
from tunewise.runs.model import adapted_model
from tunewise.runs.prepare import layout_of
from tunewise.runs.progress import Progress
from tunewise.training.loop import Step, train


def updates(work: Work) -> Measured:
    """Return the seconds of steady updates."""
    steps = training(work)
    clock = Clock(choose_device())
    losses = []
    for step in steps:
        losses.append(step.loss)
        clock.start() if step.number == work.warm_up else clock.lap()
    return Measured(clock.laps, clock.processor, losses)


def training(work: Work) -> Iterator[Step]:
    """Return the updates to come, on a model that is loaded and adapted."""
    config = RunConfig.model_validate(work.config)
    source = Path(config.model)
    model = adapted_model(config, source, Tokenizer.load(source))
    model.set_precision(work.dtype)
    model.to(choose_device())
    prefix = layout_of(config, model.config).virtual_ids
    sequences = []
    for number, row in enumerate(work.rows):
        ids = join_ids(prefix, row.ids)
        given = len(prefix) + 1 if row.label is None else len(ids)
        sequences.append(Encoded(str(number), ids, given, row.label))
    return train(model, sequences, config.train, config.seed)


class Watch(Progress):
    """Takes the time when an update ends; the last is the end of training."""

    def __init__(self, clock: Clock) -> None:
        super().__init__()
        self._clock = clock

    def step(self, step: Step) -> None:
        """End a lap."""
        self._clock.lap()


def whole_run(work: Work) -> Measured:
    """Return the seconds of `run` from its start to the last update; the evaluation comes after."""
    config = RunConfig.model_validate(work.config)
    with TemporaryDirectory() as folder:
        clock = Clock(choose_device())
        record = run(config, Path(work.data), Path(folder) / "run", Watch(clock))
    losses = [step.loss for step in record.steps]
    return Measured([sum(clock.laps)], [sum(clock.processor)], losses)


def decode(work: Work) -> Measured:
    """Return the seconds of writing on from all prompts."""
    config = RunConfig.model_validate(work.config)
    source = Path(config.model)
    model, tokenizer = load_model(source).requires_grad_(False), Tokenizer.load(source)
    model.set_precision(work.dtype)
    model.to(choose_device()).eval()
    prompts = [row.ids for row in work.rows]
    per_pass = config.train.tokens_per_pass
    generate(model, prompts[:4], tokenizer, DecodingConfig(max_new_tokens=2), config.seed, per_pass)
    clock = Clock(choose_device())
    decoding = DecodingConfig(max_new_tokens=work.new_tokens)
    outputs = generate(model, prompts, tokenizer, decoding, config.seed, per_pass)
    clock.lap()
    return Measured(clock.laps, clock.processor, outputs=outputs)


if __name__ == "__main__":
    main({"updates": updates, "run": whole_run, "decode": decode})
