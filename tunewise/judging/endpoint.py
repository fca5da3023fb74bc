"""An OpenAI-compatible endpoint that is asked until it replies."""

import logging
import os
import random
import threading
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from itertools import count
from typing import TYPE_CHECKING, Literal

from pydantic import SecretStr

from tunewise.errors import TunewiseError
from tunewise.judging.config import JudgeConfig

if TYPE_CHECKING:
    import openai

logger = logging.getLogger(__name__)

BASE_DELAY = 1.0
"""Seconds before the first retry; each further one waits twice as long."""
LONGEST_DELAY = 60.0
"""Seconds after which waiting grows no longer: most quotas are per minute."""
LONGEST_WAIT = 600.0
"""Seconds that an endpoint may ask us to wait; beyond, it is better to come back later."""
TALKATIVE = ("openai", "httpx", "httpx2", "httpcore", "httpcore2")
"""Loggers of libraries that tell of every request; they may print headers that echo the key."""
LONGEST_TEXT = 200
"""Characters of a foreign message that are shown."""


class JudgeError(TunewiseError):
    """A judge that cannot be asked, or a run that cannot be judged."""


class RefusedError(Exception):
    """A prompt that the endpoint does not take, such as one that is too long for the model."""


@dataclass(frozen=True)
class Failure:
    """A request without a reply, and what to do about it."""

    reason: str
    then: Literal["retry", "refuse", "stop"]
    wait: float = 0.0
    """Seconds that the endpoint asks to wait."""


class Endpoint:
    """Asks the judge, again where a request fails. Threads may share it.

    Retries are ours and not the client library's: that gives up after some 30 seconds, and quotas
    are per minute; and it cannot be woken when the user interrupts.
    """

    def __init__(self, config: JudgeConfig) -> None:
        try:
            import openai
        except ImportError as error:
            raise JudgeError("judging needs an extra: pip install 'tunewise[judge]'") from error
        for name in TALKATIVE:
            logging.getLogger(name).setLevel(logging.WARNING)
        self._config = config
        self._key = _key(config)
        self._stopped = threading.Event()
        self._client = openai.OpenAI(
            # A server without keys takes any, and the library insists on one.
            api_key=self._key.get_secret_value() or "none",
            base_url=config.base_url or None,
            timeout=config.timeout,
            max_retries=0,
        )

    def reply(self, prompt: str) -> str:
        """Return what the judge replies, without spaces at the ends.

        Raises:
            RefusedError: if the endpoint does not take this prompt.
            JudgeError: if it takes none, or has failed `max_retries` times more than once.
        """
        for attempt in count():
            reply = self._request(prompt)
            if isinstance(reply, str):
                return reply
            if reply.then == "refuse":
                raise RefusedError(reply.reason)
            if reply.then == "stop" or attempt == self._config.max_retries:
                tries = f", in {attempt + 1} tries" if attempt else ""
                raise JudgeError(
                    f"the judge {self._config.model!r} cannot be asked: {reply.reason}{tries}; "
                    f"scores so far are kept, and the same command goes on from there"
                )
            self._wait(attempt, reply)
        raise AssertionError  # count() has no end

    def stop(self) -> None:
        """Wake those who wait, and let them fail."""
        self._stopped.set()

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def _wait(self, attempt: int, failure: Failure) -> None:
        """Wait twice as long each time, not less than was asked for, and not all at one moment."""
        seconds = max(failure.wait, min(BASE_DELAY * 2**attempt, LONGEST_DELAY))
        seconds *= random.uniform(1.0, 1.25)
        if attempt > 0:  # one failure is no news
            logger.info("judge: %s; trying again in %.0f s", failure.reason, seconds)
        if self._stopped.wait(seconds):
            raise JudgeError("interrupted")

    def _request(self, prompt: str) -> str | Failure:
        # Failures are returned: raised here, they would drag along the library's exception, which
        # may hold the key.
        import openai

        temperature = self._config.temperature
        try:
            completion = self._client.chat.completions.create(
                model=self._config.model,
                messages=[{"role": "user", "content": prompt}],
                extra_body={} if temperature is None else {"temperature": temperature},
            )
            reply = completion.choices[0].message.content or ""
        except openai.APIStatusError as error:
            return self._failure(error)
        except openai.APITimeoutError:
            return Failure(f"no reply within {self._config.timeout:g} s", "retry")
        except openai.APIConnectionError as error:
            reason = self._shown(str(error.__cause__ or error))
            return Failure(f"no connection to {self._client.base_url}: {reason}", "retry")
        except (openai.OpenAIError, ValueError, AttributeError, IndexError, TypeError):
            reason = f"what {self._client.base_url} sends is no chat completion"
            return Failure(f"{reason} (most base_urls end in /v1)", "retry")
        return self._scrubbed(reply).strip()

    def _failure(self, error: "openai.APIStatusError") -> Failure:
        """Return what a status of 400 or more means."""
        status = error.status_code
        body = error.body
        said = body.get("message") or body if isinstance(body, dict) else body
        reason = f"{status} {self._shown(str(said or error.response.reason_phrase))}"
        if status in (401, 403):
            key = self._config.key_variable
            return Failure(f"{reason} (the key is that of {key} in the environment)", "stop")
        if status in (400, 413, 422):
            return Failure(reason, "refuse")
        if error.code == "insufficient_quota" or (status < 500 and status not in (408, 409, 429)):
            return Failure(reason, "stop")
        wait = _seconds(error.response.headers.get("retry-after", ""))
        if wait > LONGEST_WAIT:
            return Failure(f"{reason}; it asks to come back in {wait:,.0f} s", "stop")
        return Failure(reason, "retry", wait)

    def _shown(self, text: str) -> str:
        # Without the key first: the end of a longer text may cut the key in two.
        text = " ".join(self._scrubbed(text).split())
        return text if len(text) <= LONGEST_TEXT else f"{text[:LONGEST_TEXT]}..."

    def _scrubbed(self, text: str) -> str:
        key = self._key.get_secret_value()
        return text.replace(key, "[key]") if key else text


def _key(config: JudgeConfig) -> SecretStr:
    """Return the key in the environment; empty for a server of one's own that needs none."""
    key = os.environ.get(config.key_variable, "").strip()
    if not key and not config.base_url:
        raise JudgeError(
            f"the judge needs a key: set {config.key_variable} in the environment, or base_url to "
            f"a server that needs none"
        )
    if not (key.isascii() and key.isprintable()):
        raise JudgeError(f"{config.key_variable}: holds characters that no key has")
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
