"""Failures of jobs: the reason and the message that a client may read for any error."""

from __future__ import annotations

from tintype.errors import ConfigError, TintypeError, is_out_of_memory
from tintype.serving import logs
from tintype.serving.engine.job import Reason

IN_LOG = "the server's log has the details"


def failure_of(job: str, model: str, error: BaseException) -> tuple[Reason, str]:
    """The reason and the message for an error of a job, by its id. Logs what the message leaves out.

    Only the text of an error about the request is for clients: errors about models and data name places on the disk.
    """
    if is_out_of_memory(error):
        return "memory", "not enough memory for this request; ask for fewer or smaller pictures"
    if isinstance(error, ConfigError) or type(error) is TintypeError:
        return "error", str(error)
    logs.log.error("job failed", exc_info=error, extra={"fields": {"job": job, "model": model}})
    if isinstance(error, TintypeError):
        return "error", f"the model cannot make this; {IN_LOG}"
    return "error", f"unexpected {type(error).__name__}; {IN_LOG}"
