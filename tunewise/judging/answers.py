"""Many questions asked at once, each answer kept as it comes."""

import hashlib
import json
import logging
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from itertools import product
from pathlib import Path

from tunewise.files import cache_folder, writing_to_cache
from tunewise.judging.config import JudgeConfig
from tunewise.judging.endpoint import Endpoint, JudgeError, RefusedError
from tunewise.judging.prompts import Form

logger = logging.getLogger(__name__)

NUM_TRIES = 3
"""How often a question is asked for a valid reply, before it counts as unanswered."""

Progress = Callable[[int, int], None]
"""Called with how many answers are there, and how many there will be."""


@dataclass(frozen=True)
class Question:
    """A prompt, and which of the calls with it this is."""

    prompt: str
    call: int


@dataclass(frozen=True)
class Answer:
    """A valid reply, if there was one."""

    value: str | None
    num_invalid: int
    """Replies before it that were not of the right form."""
    trouble: str = ""
    """Why there is no value."""


@dataclass(frozen=True)
class Answers:
    """The answers to all questions, and what they cost."""

    by_question: dict[Question, Answer]
    calls_made: int
    """Replies that came from the endpoint, invalid ones too."""
    calls_cached: int
    """Answers that were on disk already."""

    def values(self, prompt: str, calls: int) -> list[str | None]:
        """Return the replies to a prompt, one per call."""
        return [self.by_question[Question(prompt, call)].value for call in range(calls)]

    @property
    def num_invalid(self) -> int:
        """Replies that were not of the right form, of this and earlier runs."""
        return sum(answer.num_invalid for answer in self.by_question.values())


def ask(prompts: Sequence[str], form: Form, config: JudgeConfig, progress: Progress) -> Answers:
    """Return `config.calls` answers to each prompt, from the cache where it has them.

    Each answer is kept as it arrives, so what is interrupted goes on where it stopped. A question
    without a valid reply is not kept, and is asked again next time.

    Raises:
        JudgeError: if the endpoint cannot be asked, or no question was answered.
    """
    # The same prompt twice is one question: else the second answer would replace the first.
    questions = [Question(*q) for q in product(dict.fromkeys(prompts), range(config.calls))]
    kept = {q: answer for q in questions if (answer := _read(_path(q, config), form)) is not None}
    open_questions = [question for question in questions if question not in kept]
    progress(len(kept), len(questions))
    made: dict[Question, Answer] = {}
    if open_questions:
        endpoint = Endpoint(config)
        pool = ThreadPoolExecutor(config.concurrency)
        try:
            asked = {pool.submit(_ask, q, form, endpoint, config): q for q in open_questions}
            for future in as_completed(asked):
                made[asked[future]] = future.result()
                progress(len(kept) + len(made), len(questions))
        except KeyboardInterrupt:
            logger.info("judge: interrupted; replies under way are waited for, and kept")
            raise
        finally:
            # Those that wait for a retry are not waited for.
            endpoint.stop()
            pool.shutdown(cancel_futures=True)
            endpoint.close()
    answers = kept | made
    troubles = [answer.trouble for answer in made.values() if answer.value is None]
    if troubles and len(troubles) == len(answers):
        raise JudgeError(f"the judge {config.model!r} answered no question: {troubles[-1]}")
    if troubles:
        logger.warning("judge: %d questions without an answer: %s", len(troubles), troubles[-1])
    replies = sum(answer.num_invalid + (answer.value is not None) for answer in made.values())
    return Answers(answers, replies, len(kept))


def _ask(question: Question, form: Form, endpoint: Endpoint, config: JudgeConfig) -> Answer:
    """Return the first valid reply to a question, and keep it."""
    trouble = ""
    for num_invalid in range(NUM_TRIES):
        try:
            reply = endpoint.reply(question.prompt)
        except RefusedError as refusal:
            return Answer(None, num_invalid, str(refusal))
        if form.fits(reply):
            answer = Answer(reply, num_invalid)
            _keep(_path(question, config), answer)
            return answer
        trouble = f"{reply[:40]!r} is not {form.words}"
    return Answer(None, NUM_TRIES, trouble)


def _path(question: Question, config: JudgeConfig) -> Path:
    """Return where an answer is kept: by what was asked, wherever it was asked."""
    content = [config.model, config.temperature, question.prompt, question.call]
    name = hashlib.sha256(json.dumps(content).encode()).hexdigest()
    return cache_folder() / "judge" / name[:2] / f"{name}.json"


def _read(path: Path, form: Form) -> Answer | None:
    try:
        values = json.loads(path.read_text("utf-8"))
        answer = Answer(values["value"], values["num_invalid"])
        return answer if form.fits(values["value"]) else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _keep(path: Path, answer: Answer) -> None:
    """Write a file whole or not at all; a cache that cannot be written only costs calls."""
    values = {"value": answer.value, "num_invalid": answer.num_invalid}
    try:
        with writing_to_cache(path) as temporary:
            temporary.write_text(json.dumps(values), "utf-8")
    except OSError as error:
        logger.warning("a judge's answer is not cached: %s", error)
