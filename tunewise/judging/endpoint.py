"""An OpenAI-compatible endpoint: requests are retried until it replies."""

import json
import logging
import os
import random
import threading
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import partial
from itertools import count
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Literal

from pydantic import SecretStr

from tunewise.errors import TunewiseError
from tunewise.judging.config import JudgeConfig

if TYPE_CHECKING:
    import openai

logger = logging.getLogger(__name__)

BASE_DELAY = 1.0
"""Seconds before the first retry; each further retry waits twice as long."""
MAX_DELAY = 60.0
"""Longest delay between retries, in seconds: most quotas are per minute."""
MAX_WAIT = 600.0
"""Longest wait that an endpoint may ask for, in seconds; beyond it the command ends."""
NOISY_LOGGERS = ("openai", "httpx", "httpx2", "httpcore", "httpcore2")
"""Loggers of libraries that log every request; they may print headers that echo the key."""
MAX_BYTES = 2**22
"""Largest reply that is read; a judgement has a few hundred bytes."""
MAX_WORDS = 16
"""Most words of an endpoint's message that are shown."""
MAX_WORD, PART = 24, 5
"""Longest word that is shown, and shortest part of the key that is recognised."""
MAX_READ = 2000
"""Most characters of a message that are looked at."""


class JudgeError(TunewiseError):
    """The judge cannot be asked, or the run cannot be judged."""


class RefusedError(Exception):
    """The endpoint refuses a prompt, such as one that is too long for the model."""


@dataclass(frozen=True)
class FailedRequest:
    """A request without a reply, and the action to take."""

    reason: str
    action: Literal["retry", "refuse", "stop"]
    wait: float = 0.0
    """Seconds that the endpoint asks to wait before a retry."""


class Endpoint:
    """Sends prompts to the judge, and retries requests that fail. Threads may share it.

    It does the retries itself. The client library's give up after some 30 seconds, although quotas
    are per minute, and cannot be woken when the user interrupts.
    """

    def __init__(self, config: JudgeConfig) -> None:
        try:
            import openai
        except ImportError as error:
            raise JudgeError("judging needs an extra: pip install 'tunewise[judge]'") from error
        for name in NOISY_LOGGERS:
            logging.getLogger(name).setLevel(logging.WARNING)
        self._config = config
        self._key = _key(config)
        self._stopped = threading.Event()
        self._client = openai.OpenAI(
            # The library insists on a key; a server that needs none accepts any.
            api_key=self._key.get_secret_value() or "none",
            base_url=config.base_url or None,
            timeout=config.timeout,
            max_retries=0,
        )

    def reply(self, prompt: str) -> str:
        """Return the judge's reply to a prompt, without spaces at the ends.

        Raises:
            RefusedError: if the endpoint refuses this prompt.
            JudgeError: if the endpoint cannot be used, or the last of `max_retries` retries failed.
        """
        for attempt in count():
            reply = self._request(prompt)
            if isinstance(reply, str):
                return reply
            if reply.action == "refuse":
                raise RefusedError(reply.reason)
            if reply.action == "stop" or attempt == self._config.max_retries:
                tries = f", in {attempt + 1} tries" if attempt else ""
                raise JudgeError(
                    f"the judge {self._config.model!r} cannot be asked: {reply.reason}{tries}; "
                    f"scores so far are cached, and the same command continues from there"
                )
            self._wait(attempt, reply)
        raise AssertionError  # count() has no end

    def stop(self) -> None:
        """Wake the threads that wait for a retry; each raises JudgeError."""
        self._stopped.set()

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def _wait(self, attempt: int, failure: FailedRequest) -> None:
        """Wait: twice as long each time, at least as asked, and with jitter between threads."""
        seconds = max(failure.wait, min(BASE_DELAY * 2**attempt, MAX_DELAY))
        seconds *= random.uniform(1.0, 1.25)
        if attempt > 0:  # a single failure is common
            logger.info("judge: %s; trying again in %.0f s", failure.reason, seconds)
        if self._stopped.wait(seconds):
            raise JudgeError("interrupted")

    def _request(self, prompt: str) -> str | FailedRequest:
        """Return the reply to one request, which takes no longer than `timeout` in all.

        The library's own time-outs are for each part of an answer, and a part may be a byte. So
        the request is made in a thread, which is left alone when the time is over.
        """
        answers: SimpleQueue[str | FailedRequest] = SimpleQueue()
        is_over = threading.Event()
        work = partial(self._make_request, prompt, is_over)
        threading.Thread(target=lambda: answers.put(work()), daemon=True).start()
        try:
            return answers.get(timeout=self._config.timeout)
        except Empty:
            return FailedRequest(f"no reply within {self._config.timeout:g} s", "retry")
        finally:
            is_over.set()

    def _make_request(self, prompt: str, is_over: threading.Event) -> str | FailedRequest:
        # Failures are returned: one raised here would carry the library's exception as its context,
        # which may hold the key.
        import openai

        temperature = self._config.temperature
        try:
            with self._client.chat.completions.with_streaming_response.create(
                model=self._config.model,
                messages=[{"role": "user", "content": prompt}],
                extra_body={} if temperature is None else {"temperature": temperature},
                extra_headers={"Accept-Encoding": "identity"},
            ) as response:
                body = bytearray()
                for part in response.iter_bytes():
                    body += part
                    if is_over.is_set():
                        return FailedRequest("it took too long", "retry")
                    if len(body) > MAX_BYTES:
                        return FailedRequest(f"a reply of over {MAX_BYTES:,} bytes", "retry")
            reply = json.loads(body)["choices"][0]["message"]["content"] or ""
            if not isinstance(reply, str):
                raise TypeError
        except openai.APIStatusError as error:
            return self._failure(error)
        except openai.APITimeoutError:
            return FailedRequest(f"no reply within {self._config.timeout:g} s", "retry")
        except openai.APIConnectionError as error:
            reason = self._shown(str(error.__cause__ or error))
            return FailedRequest(f"no connection to {self._client.base_url}: {reason}", "retry")
        except (openai.OpenAIError, ValueError, KeyError, IndexError, TypeError):
            reason = f"{self._client.base_url} does not send a chat completion"
            return FailedRequest(f"{reason} (most base_urls end in /v1)", "retry")
        except Exception:  # of the libraries below, in the middle of an answer
            return FailedRequest(f"the connection to {self._client.base_url} broke", "retry")
        return self._without_key(reply).strip()

    def _failure(self, error: "openai.APIStatusError") -> FailedRequest:
        """Return the failure that a status of 400 or more means."""
        status = error.status_code
        body = error.body
        message = body.get("message") or body if isinstance(body, dict) else body
        reason = f"{status} {self._shown(str(message or error.response.reason_phrase))}"
        if status in (401, 403):
            key = self._config.key_variable
            return FailedRequest(
                f"{reason} (the key was read from {key} in the environment)", "stop"
            )
        if status in (400, 413, 422):
            return FailedRequest(reason, "refuse")
        if error.code == "insufficient_quota" or (status < 500 and status not in (408, 409, 429)):
            return FailedRequest(reason, "stop")
        wait = _seconds(error.response.headers.get("retry-after", ""))
        if wait > MAX_WAIT:
            return FailedRequest(f"{reason}; it asks to come back in {wait:,.0f} s", "stop")
        return FailedRequest(reason, "retry", wait)

    def _shown(self, text: str) -> str:
        """Return the first few words of an endpoint's message, without what may be of the key."""
        words = self._without_key(text[:MAX_READ]).split()
        shown = " ".join(map(self._without_secrets, words[:MAX_WORDS]))
        return shown if len(words) <= MAX_WORDS else f"{shown} ..."

    def _without_secrets(self, word: str) -> str:
        """Return a word, or "[...]" if it has a part of the key, or may be an encoded one."""
        key = self._key.get_secret_value()
        parts = {key[start : start + PART] for start in range(len(key) - PART + 1)}
        is_secret = len(word) > MAX_WORD or any(part in word for part in parts)
        return "[...]" if is_secret and word != "[key]" else word

    def _without_key(self, text: str) -> str:
        key = self._key.get_secret_value()
        return text.replace(key, "[key]") if key else text


def _key(config: JudgeConfig) -> SecretStr:
    """Return the key in the environment; empty if there is none and `base_url` is set."""
    key = os.environ.get(config.key_variable, "").strip()
    if not key and not config.base_url:
        raise JudgeError(
            f"the judge needs a key: set {config.key_variable} in the environment, or base_url to "
            f"a server that needs none"
        )
    if not (key.isascii() and key.isprintable()):
        raise JudgeError(f"{config.key_variable}: has characters that are not allowed in a key")
    return SecretStr(key)


def _seconds(header: str) -> float:
    """Return the seconds that a Retry-After header asks for: a number or a date; 0 if neither."""
    try:
        return max(0.0, float(header))
    except ValueError:
        pass
    try:
        return max(0.0, (parsedate_to_datetime(header) - datetime.now(UTC)).total_seconds())
    except (TypeError, ValueError):
        return 0.0
