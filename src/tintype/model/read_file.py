"""Files of models and runs, which may come from strangers: regular files of bounded size, no pipes, no links out."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path
from typing import BinaryIO

from safetensors import SafetensorError, safe_open

from tintype.errors import CheckpointError

MAX_CONFIG_BYTES = 2**20  # of config.json and other JSON of a model; Tintype writes about 2 kB
MAX_TOKENIZER_BYTES = 16 * 2**20  # of tokenizer.json; a vocabulary of 2,048 tokens takes about 50 kB
MAX_CAPTIONS_BYTES = 2**20  # of samples/captions.txt
MAX_SAMPLE_BYTES = 64 * 2**20  # of a sample grid
MAX_LOG_BYTES = 256 * 2**20  # of log.jsonl, from its end; a month of training writes about 80 MB
MAX_RECORD_BYTES = 2**30  # of data.json; a million pictures take about 200 MB


def read_text(path: Path, max_bytes: int, inside: Path | None = None) -> str:
    """Read a UTF-8 text. Raises OSError, also for what `read_bytes` refuses, and UnicodeDecodeError."""
    return read_bytes(path, max_bytes, inside).decode("utf-8")


def read_bytes(path: Path, max_bytes: int, inside: Path | None = None) -> bytes:
    """Read one regular file whole.

    Raises OSError, also for what `open_file` refuses and for a file of more than `max_bytes`.
    """
    with open_file(path, inside) as file:
        content = file.read(min(os.fstat(file.fileno()).st_size, max_bytes) + 1)
    if len(content) > max_bytes:
        raise OSError(errno.EFBIG, f"it is larger than {max_bytes / 2**20:g} MB")
    return content


def open_file(path: Path, inside: Path | None = None) -> BinaryIO:
    """Open one regular file to read bytes.

    Raises OSError, also for a pipe or device, and for a link out of the folder `inside`.
    """
    if inside is not None:
        path = path.resolve(strict=True)
        if not path.is_relative_to(inside.resolve()):
            raise OSError(errno.EINVAL, "it is a link that leads out of its folder")
    if not stat.S_ISREG(os.stat(path).st_mode):
        raise OSError(errno.EINVAL, "it is not a regular file")
    # Should the file have become a pipe since, O_NONBLOCK keeps open() from waiting.
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    if inside is not None:
        flags |= getattr(os, "O_NOFOLLOW", 0)
    file = open(os.open(path, flags), "rb")
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise OSError(errno.EINVAL, "it is not a regular file")
    return file


def read_header(path: Path) -> dict[str, tuple[str, tuple[int, ...]]]:
    """Types and shapes of the weights in a safetensors file, from its header alone: name -> (such as "F32", shape).

    Raises CheckpointError if it is missing or is no such file.
    """
    try:
        if not path.is_file():
            raise CheckpointError(f"cannot read {path}: it is missing or not a regular file; copy the model again")
        with safe_open(path, framework="numpy") as file:
            slices = {name: file.get_slice(name) for name in file.keys()}
            return {name: (tensor.get_dtype(), tuple(tensor.get_shape())) for name, tensor in slices.items()}
    except OSError as error:
        raise CheckpointError(f"cannot read {path}: {error.strerror or error}") from None
    except SafetensorError as error:
        raise CheckpointError(f"{path} is damaged ({error}); use another checkpoint or copy it again") from None
