"""Whether a run is compiled: on a GPU, where it is long enough to repay the compiler, measured before the first step.

`torch.compile` makes steps faster and takes its time at the start. So the speed is measured without it at first; a run
that would take MIN_SECONDS so is compiled and measured again, and the faster way is taken. All of this counts as time
of the run. An explicit choice is taken as it is, and a run keeps the way it was started in.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from rich.console import Console

from tintype.errors import ConfigError
from tintype.training.console import duration, say
from tintype.training.parallel.world import World
from tintype.training.setup.plan import Speed, expected_seconds
from tintype.training.setup.prepared import Prepared
from tintype.training.setup.request import TrainRequest

# The compiler took 40 to 50 s for the preset base on an H200, and made steps 1.85 times as fast: repaid in 100 s.
MIN_SECONDS = 300.0


def may_compile(request: TrainRequest, prepared: Prepared, world: World, *, is_new: bool) -> bool:
    """Whether it is open if a run is compiled: on CUDA, in one process, with the network and prediction of Tintype.

    Several processes would wait for the slowest compiler longer than a step may take. Kernels that the compiler chooses
    by their speed may differ between two starts, so a deterministic run has none of them.
    """
    own = prepared.components.net is None and prepared.components.prediction is None
    is_open = is_new and request.compile is None and own and not prepared.deterministic
    return is_open and prepared.device.type == "cuda" and world.size == 1


def with_compiler(
    prepared: Prepared, speed: Speed, minutes: float | None, measure: Callable[[Prepared], Speed], console: Console
) -> tuple[Prepared, Speed]:
    """The run with the compiler if that is faster, and its speed.

    speed: without the compiler. minutes: of a run with --time. measure: measures the speed of what it is given.
    """
    train = prepared.config.train
    seconds = expected_seconds(train.images, speed, train) if minutes is None else 60 * minutes
    if seconds < MIN_SECONDS:
        say(console, f"not compiled: {duration(seconds)} are too short to repay the compiler")
        return prepared, speed
    say(console, "compiling the network, and measuring again")
    try:
        compiled = measure(replace(prepared, compiled=True))
    except (ConfigError, RuntimeError) as error:  # a kernel of the compiler may also fail once it runs
        say(console, f"note: not compiled: {str(error).splitlines()[0] if str(error) else type(error).__name__}")
        return prepared, speed
    gain = compiled.mean_images_per_second(train) / speed.mean_images_per_second(train)
    took = f"the compiler took {duration(compiled.compile_seconds)}; steps are {gain:.2f} times as fast"
    say(console, f"compiled: {took}" if gain > 1 else f"not compiled: {took}")
    return (replace(prepared, compiled=True), compiled) if gain > 1 else (prepared, speed)
