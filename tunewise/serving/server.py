"""The server: loads runs, opens a port, and answers requests until a signal."""

import logging
import signal
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from pydantic import Field, SecretStr

from tunewise.errors import ConfigError
from tunewise.predict import Predictor, load
from tunewise.serving.mixing import SharedWeights
from tunewise.settings import Settings

logger = logging.getLogger(__name__)


class ServeConfig(Settings):
    """The settings of a server: its address, token and limits."""

    host: str = "127.0.0.1"
    """Address to listen on; 0.0.0.0 is every address of this machine."""
    port: int = Field(default=8000, ge=0, le=65535)
    """Port to listen on; 0 takes a free one."""
    token: SecretStr | None = Field(default=None, min_length=1)
    """Bearer token that requests need."""
    max_batch: int = Field(default=16, gt=0)
    """Maximum number of texts written at once on one base."""
    max_queue: int = Field(default=256, gt=0)
    """Maximum number of texts, or rows to classify, that wait; more are refused."""
    max_length: int | None = Field(default=None, gt=1)
    """Maximum number of tokens of a prompt and its text; None is the model's context."""
    max_body: int = Field(default=2**20, gt=0)
    """Maximum number of bytes in a request's body."""


def serve(names: Sequence[str], config: ServeConfig) -> None:
    """Answer requests until SIGINT or SIGTERM, then answer those that have arrived, and return.

    Args:
        names: folders of runs, or models; a request names one of them.

    Raises:
        ConfigError: if the port cannot be opened, an extra is missing, or a name comes twice.
        ModelError: if there is no such model, or it cannot be read.
    """
    try:
        import uvicorn

        from tunewise.serving.app import make_app
    except ImportError as error:
        raise ConfigError("serving needs an extra: pip install 'tunewise[serve]'") from error
    from tunewise.serving.counters import Counters
    from tunewise.serving.engine import Engine

    if twice := [name for name in names if names.count(name) > 1]:
        raise ConfigError(f"{twice[0]} is named twice")
    # The port comes first: loading models may take a minute, and the port may be in use.
    with _open_port(config) as listener:
        counters = Counters()
        engine = Engine(load_all(names), config.max_batch, config.max_queue, counters)
        token = None if config.token is None else config.token.get_secret_value()
        app = make_app(engine, counters, token, config.max_length, config.max_body)
        settings = uvicorn.Config(app, log_config=None, access_log=False, lifespan="off")
        host, port = listener.getsockname()[:2]
        shown = f"[{host}]" if ":" in host else host
        logger.info("serving %s at http://%s:%d; Ctrl-C ends", ", ".join(names), shown, port)
        engine.start()
        with _ignore_signals_after_uvicorn():
            uvicorn.Server(settings).run(sockets=[listener])
        engine.stop()


def load_all(names: Sequence[str]) -> dict[str, Predictor]:
    """Load runs and models and return them by name; equal weights are in memory once."""
    weights, predictors = SharedWeights(), {}
    for name in names:
        predictors[name] = predictor = load(name)
        weights.share(predictor.model)
        decoding = getattr(predictor.config.task, "decoding", None)
        if decoding is not None and decoding.num_beams > 1:
            logger.warning("%s: texts are written without its %d beams", name, decoding.num_beams)
    return predictors


@contextmanager
def _open_port(config: ServeConfig) -> Iterator[socket.socket]:
    family = socket.AF_INET6 if ":" in config.host else socket.AF_INET
    try:
        listener = socket.create_server((config.host, config.port), family=family)
    except OSError as error:
        place = f"--host {config.host} --port {config.port}"
        raise ConfigError(f"{place}: {error.strerror or error}") from error
    with listener:
        yield listener


@contextmanager
def _ignore_signals_after_uvicorn() -> Iterator[None]:
    """Ignore the signal that uvicorn handles, and raises again when it has ended."""
    numbers = signal.SIGINT, signal.SIGTERM
    before = {number: signal.signal(number, lambda *_: None) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
