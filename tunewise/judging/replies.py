"""Replies of a judge to many questions at once; each valid reply is cached as it arrives."""

import hashlib
import json
import logging
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path

from tunewise.files import cache_folder, writing_to_cache
from tunewise.json_text import to_json
from tunewise.judging.config import JudgeConfig
from tunewise.judging.endpoint import Endpoint, JudgeError, RefusedError
from tunewise.judging.prompts import ReplyFormat

logger = logging.getLogger(__name__)

MAX_TRIES = 3
"""Most times that a question is asked for a valid reply."""

OnProgress = Callable[[int, int], None]
"""Takes the number of questions that are done, and the number of all questions."""


@dataclass(frozen=True)
class Question:
    """One of the calls with a prompt."""

    prompt: str
    call: int
    """Number of the call, from 0."""


@dataclass(frozen=True)
class Reply:
    """The judge's reply to a question."""

    value: str | None
    """None without a valid reply."""
    num_invalid: int
    """Number of replies before it that did not have the right format."""
    problem: str = ""
    """The reason why there is no value."""


@dataclass(frozen=True)
class Replies:
    """The replies to all questions, and the number of calls."""

    by_question: dict[Question, Reply]
    calls_made: int
    """Number of replies from the endpoint, invalid ones included."""
    calls_cached: int
    """Number of replies that were in the cache."""

    def values(self, prompt: str, calls: int) -> list[str | None]:
        """Return the values of the replies to a prompt, one per call."""
        return [self.by_question[Question(prompt, call)].value for call in range(calls)]

    @property
    def num_invalid(self) -> int:
        """Number of replies in a wrong format, in this and earlier runs."""
        return sum(reply.num_invalid for reply in self.by_question.values())


def ask(
    prompts: Sequence[str], reply_format: ReplyFormat, config: JudgeConfig, progress: OnProgress
) -> Replies:
    """Return `config.calls` replies to each prompt, from the cache where it has them.

    Each reply is cached as it arrives, so an interrupted command continues where it stopped. A
    question without a valid reply is not cached, and is asked again next time.

    Raises:
        JudgeError: if the endpoint cannot be asked, or no question has a valid reply.
    """
    # A prompt that comes twice is asked once: the second reply would replace the first.
    questions = [
        Question(prompt, call) for prompt in dict.fromkeys(prompts) for call in range(config.calls)
    ]
    cached = {q: reply for q in questions if (reply := _read(_path(q, config), reply_format))}
    missing = [question for question in questions if question not in cached]
    progress(len(cached), len(questions))
    made: dict[Question, Reply] = {}
    if missing:
        endpoint = Endpoint(config)
        pool = ThreadPoolExecutor(config.concurrency)
        try:
            asked = {pool.submit(_ask, q, reply_format, endpoint, config): q for q in missing}
            for future in as_completed(asked):
                made[asked[future]] = future.result()
                progress(len(cached) + len(made), len(questions))
        except KeyboardInterrupt:
            logger.info("judge: interrupted; waiting for open requests, to cache their replies")
            raise
        finally:
            # Requests that wait for a retry end at once.
            endpoint.stop()
            pool.shutdown(cancel_futures=True)
            endpoint.close()
    replies = cached | made
    problems = [reply.problem for reply in made.values() if reply.value is None]
    if problems and len(problems) == len(replies):
        raise JudgeError(f"the judge {config.model!r} answered no question: {problems[-1]}")
    if problems:
        logger.warning("judge: %d questions without an answer: %s", len(problems), problems[-1])
    calls_made = sum(reply.num_invalid + (reply.value is not None) for reply in made.values())
    return Replies(replies, calls_made, len(cached))


def _ask(
    question: Question, reply_format: ReplyFormat, endpoint: Endpoint, config: JudgeConfig
) -> Reply:
    """Return the first valid reply to a question, after caching it."""
    problem = ""
    for num_invalid in range(MAX_TRIES):
        try:
            text = endpoint.reply(question.prompt)
        except RefusedError as refusal:
            return Reply(None, num_invalid, str(refusal))
        if reply_format.fits(text):
            reply = Reply(text, num_invalid)
            _keep(_path(question, config), reply)
            return reply
        problem = f"{text[:40]!r} is not {reply_format.description}"
    return Reply(None, MAX_TRIES, problem)


def _path(question: Question, config: JudgeConfig) -> Path:
    """Return the path of a cached reply: it depends on the question, not on the endpoint."""
    content = [config.model, config.temperature, question.prompt, question.call]
    name = hashlib.sha256(to_json(content).encode()).hexdigest()
    return cache_folder() / "judge" / name[:2] / f"{name}.json"


def _read(path: Path, reply_format: ReplyFormat) -> Reply | None:
    """Return a cached reply; None if there is none, or it cannot be read."""
    try:
        values = json.loads(path.read_text("utf-8"))
        reply = Reply(values["value"], values["num_invalid"])
        return reply if reply_format.fits(values["value"]) else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _keep(path: Path, reply: Reply) -> None:
    """Write a file whole or not at all; a cache that cannot be written only costs calls."""
    values = {"value": reply.value, "num_invalid": reply.num_invalid}
    try:
        with writing_to_cache(path) as temporary:
            temporary.write_text(to_json(values), "utf-8")
    except OSError as error:
        logger.warning("a judge's reply is not cached: %s", error)
