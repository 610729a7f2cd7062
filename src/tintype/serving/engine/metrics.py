"""Metrics for Prometheus. Labels come from short fixed lists: never a request, a caption or a path."""

from __future__ import annotations

import sys

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from tintype.serving.engine.job import Job

try:
    from resource import RUSAGE_SELF, getrusage
except ImportError:  # Windows
    getrusage = None  # type: ignore[assignment]

SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600, 1200)
STEP_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
LAG_SECONDS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1)
BATCH = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512)


class Metrics:
    """The metrics of one server."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()

        def counter(name: str, text: str, *labels: str) -> Counter:
            return Counter(f"tintype_{name}", text, labels, registry=self.registry)

        def histogram(name: str, text: str, buckets: tuple[float, ...] = SECONDS) -> Histogram:
            return Histogram(f"tintype_{name}", text, registry=self.registry, buckets=buckets)

        def gauge(name: str, text: str) -> Gauge:
            return Gauge(f"tintype_{name}", text, registry=self.registry)

        self.running = gauge("num_requests_running", "Requests running")
        self.waiting = gauge("num_requests_waiting", "Requests in the queue")
        self.success = counter("requests_success", "Requests completed", "finished_reason")
        self.failed = counter("requests_failed", "Requests that failed", "reason")
        self.rejected = counter("requests_rejected", "Requests rejected", "reason")
        self.cancelled = counter("requests_cancelled", "Requests cancelled by their client", "phase")
        self.latency = histogram("e2e_request_latency_seconds", "From arrival to the last picture")
        self.queue_wait = histogram("request_queue_wait_seconds", "From arrival to the first step")
        self.first_preview = histogram("image_ttfp_seconds", "From arrival to the first preview")
        self.step_latency = histogram("denoise_step_latency_seconds", "Duration of a network call", STEP_SECONDS)
        self.batch_size = histogram("generation_batch_size", "Pictures in a network call", BATCH)
        self.images = counter("image_count", "Pictures generated")
        self.pixels = counter("image_pixels", "Pixels generated")
        self.steps = counter("num_inference_steps", "Network calls times the pictures in them")
        self.lag = histogram("event_loop_lag_seconds", "Delay of the event loop", LAG_SECONDS)
        self.http = counter("http_responses", "Responses by status", "status")
        if getrusage is not None:
            peak = gauge("peak_memory_bytes", "Peak memory of the process")
            peak.set_function(lambda: float(getrusage(RUSAGE_SELF).ru_maxrss * _RSS_UNIT))

    def step(self, num: int, seconds: float) -> None:
        """Count a network call with `num` pictures."""
        self.step_latency.observe(seconds)
        self.batch_size.observe(num)
        self.steps.inc(num)

    def ended(self, job: Job) -> None:
        """Count a job that has ended."""
        if job.status == "done":
            width, height = job.task.size
            self.success.labels("stop").inc()
            self.latency.observe(job.ended - job.created)
            self.images.inc(job.task.num)
            self.pixels.inc(job.task.num * width * height)
        elif job.status == "cancelled":
            self.cancelled.labels("running" if job.started else "waiting").inc()
        else:
            self.failed.labels(job.reason or "error").inc()

    def written(self, status: str, reason: str | None, seconds: float) -> None:
        """Count a picture that was written token by token, and took so long from its arrival."""
        if status == "done":
            self.success.labels("stop").inc()
            self.latency.observe(seconds)
            self.images.inc()
        elif status == "cancelled":
            self.cancelled.labels("running").inc()
        else:
            self.failed.labels(reason or "error").inc()

    def text(self) -> bytes:
        return generate_latest(self.registry)


_RSS_UNIT = 1 if sys.platform == "darwin" else 1024
