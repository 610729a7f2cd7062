"""What a server allows: places, limits and times. Every default of serving lives here."""

from __future__ import annotations

from dataclasses import dataclass

MAX_PICTURES = 10  # of one request, as in the OpenAI API


@dataclass(frozen=True, kw_only=True, slots=True)
class Settings:
    """How a server is run. Times in seconds, sizes in bytes."""

    host: str = "127.0.0.1"
    port: int = 8000
    allowed_hosts: tuple[str, ...] = ()  # names it may be called by, besides this machine's own and IP addresses
    api_keys: tuple[str, ...] = ()  # none: whoever reaches the port may use it
    log_prompts: bool = False

    max_waiting: int = 64  # requests
    max_waiting_cost: float = 0.0  # see `cost_of`; 0: eight times what one request may cost
    max_open_per_key: int = 16  # requests of one key, waiting or running; without keys there is no such limit
    max_batch: int | None = None  # pictures in one call of the network; None: measured at start
    max_steps: int = 200
    max_pixels: int | None = None  # of one picture; None: sixteen times the pixels the model was trained on
    max_cost: float | None = None  # of one request; None: ten pictures with most steps at twice the model's side

    deadline: float = 600.0  # waiting and running; the OpenAI client gives up then too
    head_seconds: float = 30.0  # to receive the head of a request
    body_seconds: float = 30.0  # to receive the rest of it
    shutdown_seconds: float = 20.0  # to finish what runs
    keep_alive: float = 10.0  # between comments on a quiet stream
    max_json: int = 256 * 1024
    max_form: int = 24 * 2**20  # of a form with pictures in it
    max_base64: int = 8 * 2**20  # of JSON with pictures in it, which the event loop reads in one go

    kept_jobs: int = 200  # finished jobs that can still be looked at
    kept_minutes: float = 60.0


def cost_of(num: int, pixels: int, steps: int, guided: bool) -> float:
    """What a request asks of the network: pictures shown to it, times their pixels."""
    return float(num * pixels * steps * (2 if guided else 1))
