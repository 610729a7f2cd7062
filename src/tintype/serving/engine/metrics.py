"""Numbers for Prometheus. Labels are from short fixed lists: never a request, a caption or a path."""

from __future__ import annotations

import sys

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from tintype.serving.engine.job import Work

try:
    from resource import RUSAGE_SELF, getrusage
except ImportError:  # Windows does not tell
    getrusage = None  # type: ignore[assignment]

SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600, 1200)
STEP_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
LAG_SECONDS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1)
BATCH = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512)


class Metrics:
    """One server's numbers."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()

        def counter(name: str, text: str, *labels: str) -> Counter:
            return Counter(f"tintype_{name}", text, labels, registry=self.registry)

        def histogram(name: str, text: str, buckets: tuple[float, ...] = SECONDS) -> Histogram:
            return Histogram(f"tintype_{name}", text, registry=self.registry, buckets=buckets)

        def gauge(name: str, text: str) -> Gauge:
            return Gauge(f"tintype_{name}", text, registry=self.registry)

        self.running = gauge("num_requests_running", "Requests that pictures are made for now")
        self.waiting = gauge("num_requests_waiting", "Requests in the queue")
        self.success = counter("requests_success", "Requests that ended well", "finished_reason")
        self.failed = counter("requests_failed", "Requests that failed", "reason")
        self.rejected = counter("requests_rejected", "Requests that were not taken", "reason")
        self.cancelled = counter("requests_cancelled", "Requests given up by who made them", "phase")
        self.latency = histogram("e2e_request_latency_seconds", "From arrival to the last picture")
        self.queue_wait = histogram("request_queue_wait_seconds", "From arrival to the first step")
        self.first_preview = histogram("image_ttfp_seconds", "From arrival to the first preview")
        self.step_latency = histogram("denoise_step_latency_seconds", "One call of the network", STEP_SECONDS)
        self.batch_size = histogram("generation_batch_size", "Pictures in one call of the network", BATCH)
        self.images = counter("image_count", "Pictures made")
        self.pixels = counter("image_pixels", "Pixels of pictures made")
        self.steps = counter("num_inference_steps", "Calls of the network, times the pictures in them")
        self.lag = histogram("event_loop_lag_seconds", "How late the event loop comes to what is due", LAG_SECONDS)
        self.http = counter("http_responses", "Answers by status", "status")
        if getrusage is not None:
            peak = gauge("peak_memory_bytes", "Most memory this process ever had")
            peak.set_function(lambda: float(getrusage(RUSAGE_SELF).ru_maxrss * _RSS_UNIT))

    def step(self, num: int, seconds: float) -> None:
        """One call of the network with `num` pictures."""
        self.step_latency.observe(seconds)
        self.batch_size.observe(num)
        self.steps.inc(num)

    def ended(self, work: Work) -> None:
        """A work is over."""
        if work.status == "done":
            width, height = work.task.size
            self.success.labels("stop").inc()
            self.latency.observe(work.ended - work.created)
            self.images.inc(work.task.num)
            self.pixels.inc(work.task.num * width * height)
        elif work.status == "cancelled":
            self.cancelled.labels("running" if work.started else "waiting").inc()
        else:
            self.failed.labels(work.reason or "error").inc()

    def text(self) -> bytes:
        return generate_latest(self.registry)


_RSS_UNIT = 1 if sys.platform == "darwin" else 1024
