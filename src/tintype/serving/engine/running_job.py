"""A running job: its sampler and denoiser, and the network calls that its open query needs."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from tintype.diffusion.samplers import Query, Step
from tintype.serving.engine.job import Job
from tintype.serving.engine.network_batch import CallRecorder, DenoiseCall


class RunningJob:
    """A job whose task has started. Raises the task's errors: TintypeError, or any error of the network."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self._recorder = CallRecorder()
        self._sampling = job.task.start(self._recorder.conditioned)
        self._query: Query = next(self._sampling.coroutine)
        job.num_cut = job.task.pipeline.num_cut(job.task.texts)
        job.illegible = job.task.pipeline.illegible(job.task.texts)
        mask = self._recorder.conds[0].mask
        job.text_tokens = int(mask.sum()) - len(mask)  # without the token that starts every caption

    @property
    def total(self) -> int:
        """Number of steps."""
        return self._sampling.total

    def calls(self) -> list[DenoiseCall]:
        """The network calls that answer the open query."""
        return self._recorder.record(self._sampling.denoise, self._query)

    def step(self, results: Sequence[Tensor]) -> Step:
        """The open query with its answer, from the results of `calls`."""
        query = self._query
        denoised = self._recorder.replay(self._sampling.denoise, query, results)
        denoised = self._sampling.steered(query.sigma, denoised)
        index = self.job.index + 1 if self._sampling.index is None else self._sampling.index()
        return Step(index, self.total, float(query.sigma[0]), query.x, denoised)

    def send(self, denoised: Tensor) -> Tensor | None:
        """Answer the open query. Returns None if another query follows, else the result x0 [B, C, H, W]."""
        try:
            self._query = self._sampling.coroutine.send(denoised)
        except StopIteration as finished:
            result: Tensor = finished.value
            return result
        return None

    def close(self) -> None:
        """Free the sampler's state."""
        self._sampling.coroutine.close()
