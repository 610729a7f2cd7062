"""Errors a user can act on: each message says what is wrong and what to do, in one line.

TintypeError
├── ConfigError        a setting that cannot work
├── DataError          captioned pictures that cannot be trained on
├── CheckpointError    a model or run folder that cannot be used
├── TrainingError      a run that cannot go on
│   └── NotFiniteError     its numbers are infinite or not numbers
└── MissingExtraError  an optional package that is not installed
"""

from __future__ import annotations


class TintypeWarning(UserWarning):
    """Something that Tintype could do, but not as asked; the command line prints it as one line."""


class TintypeError(Exception):
    """Base of every error that Tintype raises on purpose; the command line prints it as one line."""


class ConfigError(TintypeError):
    """A setting is out of range, unknown, or at odds with another one."""


class DataError(TintypeError):
    """The captioned pictures are missing, unreadable or too few."""


class CheckpointError(TintypeError):
    """A model folder, run folder or checkpoint is missing, damaged or of another configuration."""


class TrainingError(TintypeError):
    """A run cannot go on: its numbers are no longer finite, or its folder is in use."""


class NotFiniteError(TrainingError):
    """Weights, or gradients step after step, are infinite or not numbers."""


class MissingExtraError(TintypeError):
    """A package that this feature needs is not installed."""

    def __init__(self, package: str, install: str) -> None:
        super().__init__(f"this needs the package {package}: pip install '{install}'")


_OUT_OF_MEMORY = (  # in the messages of RuntimeErrors
    "out of memory",  # torch on CUDA, and CUDA itself
    "allocate memory",  # torch on the CPU and on MPS
    "CUBLAS_STATUS_ALLOC_FAILED",
    "CUDNN_STATUS_ALLOC_FAILED",
    "std::bad_alloc",  # C++
    "could not create a primitive",  # oneDNN
    "can't start new thread",  # its stack found no room
)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error means that memory ran out, on a GPU or on the CPU, whichever library raised it."""
    if isinstance(error, MemoryError):
        return True
    return isinstance(error, RuntimeError) and any(text in str(error) for text in _OUT_OF_MEMORY)
