"""Names of samplers and schedulers in A1111's web UI, and the samplers and schedules that they stand for here."""

from __future__ import annotations

from typing import NamedTuple

from tintype.diffusion.names import SAMPLERS, SCHEDULES
from tintype.printable import one_line
from tintype.serving.api.errors import bad_request

# The same methods under A1111's names, with its short names; the first is what clients choose that choose none.
SAME: dict[str, tuple[str, tuple[str, ...]]] = {
    "UniPC": ("unipc", ("unipc",)),
    "DPM++ 2M": ("dpmpp_2m", ("k_dpmpp_2m",)),
    "Euler": ("euler", ("k_euler",)),
    "Euler a": ("euler_ancestral", ("k_euler_a", "k_euler_ancestral")),
    "Heun": ("heun", ("k_heun",)),
    "DPM++ 2M SDE": ("dpmpp_2m_sde", ("k_dpmpp_2m_sde",)),
    "DDIM": ("ddim", ("ddim",)),
    "DDPM": ("ddpm", ("ddpm",)),
    "DEIS": ("deis_3", ("deis",)),
}
# Methods that are not here, and the nearest one of the same kind: deterministic or not, of one evaluation or two.
NEAREST = {
    "LMS": "deis_3",
    "PLMS": "deis_3",
    "IPNDM": "deis_3",
    "IPNDM_V": "deis_3",
    "DPM2": "heun",
    "DPM2 a": "euler_ancestral",
    "DPM++ 2S a": "euler_ancestral",
    "DPM++ SDE": "dpmpp_2m_sde",
    "DPM++ 3M SDE": "dpmpp_2m_sde",
    "DPM++ 2M SDE Heun": "dpmpp_2m_sde",
    "DPM fast": "dpmpp_2m",
    "DPM adaptive": "unipc",
    "Restart": "heun_churn",
    "LCM": "euler_ancestral",
    "DDIM CFG++": "ddim",
}
OWN = tuple(name for name in SAMPLERS if name not in {ours for ours, _ in SAME.values()})  # which A1111 has not
# A1111's schedulers that are here, with their labels; "automatic" is the model's own schedule.
SCHEDULERS = {"automatic": "Automatic", "karras": "Karras", "exponential": "Exponential"}
_SCHEDULES = {"karras": "karras", "exponential": "log_snr", **{name: name for name in SCHEDULES}}
_SUFFIXES = ("karras", "exponential", "automatic")  # of names in which the scheduler stands behind the sampler
MAX_SHOWN = 40  # characters of a client's name in a note

_SAMPLERS = {
    **{name.lower(): ours for name, (ours, _) in SAME.items()},
    **{alias: ours for ours, aliases in SAME.values() for alias in aliases},
    **{name: name for name in SAMPLERS},
}
_NEAREST = {name.lower(): ours for name, ours in NEAREST.items()}


class Method(NamedTuple):
    """A sampler and a schedule of the pipeline; None is the model's own."""

    sampler: str | None
    schedule: str | None
    notes: tuple[str, ...]


def method(sampler: str | None, scheduler: str | None) -> Method:
    """What the names of a request stand for, in any case of letters; "DPM++ 2M Karras" has both. Raises ApiError.

    A sampler that A1111 has and this server has not is replaced by the nearest one, and a scheduler by the model's own
    schedule, each with a note. A sampler that nobody knows is refused.
    """
    notes: list[str] = []
    name = " ".join((sampler or "").lower().split())
    words, _, suffix = name.rpartition(" ")
    if suffix in _SUFFIXES and words:
        name = words
        scheduler = suffix if (scheduler or "automatic").lower() == "automatic" else scheduler
    ours = _SAMPLERS.get(name)
    if ours is None and name in _NEAREST:
        ours = _NEAREST[name]
        notes.append(f"the sampler {_shown(sampler)} is not here: {ours} was used, which is the nearest")
    if ours is None and name not in ("", "automatic"):
        raise bad_request("sampler_name is unknown; GET /sdapi/v1/samplers lists them", "sampler_name")
    wanted = (scheduler or "").strip().lower()
    schedule = _SCHEDULES.get(wanted)
    if schedule is None and wanted not in ("", "automatic"):
        notes.append(f"the scheduler {_shown(scheduler)} is not here: the model's own schedule was used")
    return Method(ours, schedule, tuple(notes))


def sampler_label(name: str) -> str:
    """A1111's name of a sampler, or ours where it has none."""
    return next((label for label, (ours, _) in SAME.items() if ours == name), name)


def _shown(text: str | None) -> str:
    return one_line(text or "")[:MAX_SHOWN]
