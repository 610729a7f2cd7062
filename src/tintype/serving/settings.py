"""Settings of a server: addresses, limits and times. Every default of serving lives here."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tintype.config import Config
from tintype.errors import ConfigError
from tintype.pipeline.limits import MAX_SIDE

PATH_PREFIX = re.compile(r"(/[A-Za-z0-9._~-]{1,100}){1,10}", re.ASCII)
ALIAS = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/-]{0,99}", re.ASCII)
MAX_PICTURES = 10  # in one request, as in the OpenAI API


@dataclass(frozen=True, kw_only=True, slots=True)
class Settings:
    """Settings of a server. Times in seconds, sizes in bytes."""

    host: str = "127.0.0.1"
    port: int = 8000
    allowed_hosts: tuple[str, ...] = ()  # names of the server beside this machine's own and IP addresses
    root_path: str = ""  # of the server in its public addresses, such as /tintype, for a proxy that serves more
    api_keys: tuple[str, ...] = ()  # empty: no key is needed
    api_key_file: Path | None = None  # of these keys; read again while the server runs
    log_prompts: bool = False
    aliases: tuple[tuple[str, str], ...] = ()  # other name, model
    a1111: bool = False  # also the API of A1111's web UI
    allow_export: bool = False  # to every client; otherwise on this machine only

    max_waiting: int = 64  # requests
    max_waiting_cost: float = 0.0  # see `cost_of`; 0: eight times the largest request
    max_open_per_key: int = 16  # waiting and running requests of one key; no limit without keys
    max_batch: int | None = None  # pictures in one network call; None: measured at start
    cuda_graphs: bool = True  # where they are possible
    max_steps: int = 200
    max_pixels: int | None = None  # of one picture; None: sixteen times the model's resolution
    max_enlarged_pixels: int = MAX_SIDE**2  # of all enlarged pictures of a request together
    max_cost: float | None = None  # of one request; None: ten pictures at twice the model's side with `max_steps`

    deadline: float = 600.0  # for waiting and running; the OpenAI client times out then too
    head_seconds: float = 30.0  # to receive the head of a request
    body_seconds: float = 30.0  # to receive the body
    write_seconds: float = 30.0  # to take a piece of a response
    shutdown_seconds: float = 20.0  # for running jobs to finish
    keep_alive: float = 10.0  # between comments on a quiet stream
    max_connections: int = 1000
    max_connections_per_client: int = 250  # of one key, or of one address that sends no key
    max_json: int = 256 * 1024
    max_json_values: int = 2**17  # brackets and commas of JSON: more would hold the event loop
    max_form: int = 24 * 2**20  # of a form with images
    max_chunk: int = 0  # of a file that is sent in chunks; 0: none are taken
    max_base64: int = 8 * 2**20  # of JSON with images, which the event loop parses at once

    kept_jobs: int = 200  # finished jobs that clients can still read
    kept_minutes: float = 60.0

    def pixel_limit(self, config: Config) -> int:
        """Pixels of one picture."""
        return self.max_pixels or min(MAX_SIDE**2, 16 * config.net.resolution**2)

    def cost_limit(self, config: Config) -> float:
        """Cost of one request."""
        return self.max_cost or cost_of(MAX_PICTURES, 4 * config.net.resolution**2, self.max_steps, True)


def cost_of(num: int, pixels: int, evaluations: int, guided: bool) -> float:
    """Cost of a request: the pixels that the network processes for it.

    evaluations: of the network per picture; a step of heun needs two, one of reference four.
    """
    return float(num * pixels * evaluations * (2 if guided else 1))


def checked_aliases(texts: Sequence[str]) -> tuple[tuple[str, str], ...]:
    """Pairs of another name and a model, from texts such as `dall-e-3=emoji`. Raises ConfigError."""
    aliases: dict[str, str] = {}
    for text in texts:
        alias, _, model = text.partition("=")
        if not ALIAS.fullmatch(alias) or not model:
            raise ConfigError(f"--alias must be NAME=MODEL, such as dall-e-3=emoji, not {text[:100]}")
        if aliases.setdefault(alias, model) != model:
            raise ConfigError(f"--alias {alias} is given for {aliases[alias]} and for {model}; choose one")
    return tuple(aliases.items())


def checked_root_path(text: str) -> str:
    """A path prefix with a slash before it and none after it; empty for none. Raises ConfigError."""
    path = "/" + text.strip("/") if text.strip("/") else ""
    if path and not PATH_PREFIX.fullmatch(path):
        raise ConfigError("--root-path must be a path, such as /tintype")
    return path
