"""Compiled training: whole graphs for every preset, few of them, and the numbers of training without a compiler."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from tintype.config import PRESETS, Config, TextConfig
from tintype.data.order import Order
from tintype.errors import ConfigError
from tintype.model.denoiser import Denoiser
from tintype.training.core.compiled import MAX_GRAPHS, Batch, CompiledErrors, padded_length
from tintype.training.core.optim import Optimizers, make_optimizers
from tintype.training.core.trainer import Trainer

CPU = torch.device("cpu")
LAYOUTS = [(name, side) for name in PRESETS for side in (32, 64, 128, 256)]


class Counting:
    """A compiler that changes nothing, and counts its graphs."""

    def __init__(self) -> None:
        self.num = 0

    def __call__(self, module: torch.fx.GraphModule, examples: list[Any]) -> Callable[..., Any]:
        self.num += 1
        return module.forward


class Sized:
    """Pictures of the given sizes in turn, with captions of 1 to `longest` tokens."""

    def __init__(self, sizes: list[tuple[int, int]], dim: int, longest: int = 9) -> None:
        self._sizes, self._dim, self._longest = sizes, dim, longest
        self._indices = torch.arange(120)

    def order(self, seed: int, indices: Tensor) -> Order:
        return Order(seed, len(indices))

    def by_shape(self, indices: Tensor) -> list[Tensor]:
        groups = [(indices % len(self._sizes) == number).nonzero()[:, 0] for number in range(len(self._sizes))]
        return [group for group in groups if len(group)]

    def pictures(self, indices: Tensor) -> Tensor:
        width, height = self._sizes[int(indices[0]) % len(self._sizes)]
        rows = torch.arange(3 * height * width).reshape(1, 3, height, width)
        return ((rows * (indices[:, None, None, None] + 3)) % 251).to(torch.uint8)

    def text_embeddings(self, indices: Tensor, choice: Tensor) -> list[Tensor]:
        return [torch.full((1 + i % self._longest, self._dim), 0.01 * i).half() for i in indices.tolist()]

    def mirrorable(self, indices: Tensor) -> Tensor:
        return indices % 2 == 0

    def split(self, share: float) -> tuple[Tensor, Tensor]:
        return self._indices, self._indices[:0]


@pytest.fixture(autouse=True)
def fresh_compiler() -> Iterator[None]:
    yield
    if "torch._dynamo" in sys.modules:
        torch._dynamo.reset()


def thin(name: str, side: int, batch_size: int = 4, half_size: float | None = None) -> Config:
    """A preset with all its parts, but fewer blocks and channels."""
    config = PRESETS[name](side)
    net = config.net
    slim = replace(net, width=32, heads=2, depth=1, text_depth=1, stem_width=16, head_width=min(net.head_width, 8))
    train = replace(config.train, batch_size=batch_size, warmup_images=0, images=400)
    if half_size is not None:
        train = replace(train, half_size=half_size)
    return replace(config, net=slim, text=TextConfig(embedding_dim=8), train=train)


def trainer_of(config: Config, samples: Sized, compiler: Any = None, bf16: bool = False) -> Trainer:
    torch.manual_seed(0)
    denoiser = Denoiser(config)
    with torch.no_grad():
        for weight in denoiser.parameters():  # a fresh network says 0 whatever it is asked
            weight.add_(0.02 * torch.randn_like(weight))
    return Trainer(denoiser, samples, config, CPU, compiler=compiler, bf16=bf16)


def losses(trainer: Trainer, num_steps: int) -> list[float]:
    until = trainer.images_seen + num_steps * trainer.config.train.batch_size
    return [report.loss for report in trainer.steps(until)]


@pytest.mark.slow
@pytest.mark.parametrize(("name", "side"), LAYOUTS)
def test_every_preset_is_one_graph_and_learns_the_same(name: str, side: int) -> None:
    config = thin(name, side, batch_size=2)
    samples, compiler = Sized([(side, side)], 8), Counting()
    compiled = trainer_of(config, samples, compiler)
    plain = trainer_of(config, samples)
    assert losses(compiled, 2) == pytest.approx(losses(plain, 2), rel=1e-4)
    assert compiler.num == compiled.num_graphs <= 2  # from 128 pixels on nano has two sizes
    for (key, weight), other in zip(compiled.weights().items(), plain.weights().values(), strict=True):
        torch.testing.assert_close(weight, other, atol=2e-4, rtol=0.0, msg=key)


@pytest.mark.slow
def test_dropout_and_augmentation_are_in_the_graph() -> None:
    config, samples, compiler = thin("nano", 32), Sized([(32, 32), (48, 16)], 8), Counting()
    train = replace(config.train, dropout=0.2, augment=0.5)
    config = replace(config, train=train)
    compiled, plain = trainer_of(config, samples, compiler), trainer_of(config, samples)
    assert losses(compiled, 3) == pytest.approx(losses(plain, 3), rel=1e-4)
    assert compiler.num == compiled.num_graphs == 2


@pytest.mark.slow
def test_in_bfloat16_it_is_one_graph_too() -> None:
    config, samples, compiler = thin("nano", 32), Sized([(32, 32)], 8), Counting()
    compiled, plain = trainer_of(config, samples, compiler, bf16=True), trainer_of(config, samples, bf16=True)
    assert losses(compiled, 2) == pytest.approx(losses(plain, 2), rel=0.02)
    assert compiler.num == 1


@pytest.mark.slow
def test_every_weight_is_cast_once_and_nothing_is_left_that_cannot_be_fused() -> None:
    from torch._dynamo.backends.common import aot_autograd
    from torch._functorch.aot_autograd import make_boxed_func

    graphs: list[torch.fx.GraphModule] = []

    def keep(module: torch.fx.GraphModule, examples: list[Any]) -> Any:
        graphs.append(module)
        return make_boxed_func(module.forward)

    compiler = aot_autograd(fw_compiler=keep, bw_compiler=keep)
    config = thin("nano", 128, half_size=0.0)
    trainer = trainer_of(config, Sized([(128, 128)], 8), compiler, bf16=True)
    losses(trainer, 1)
    forward, backward = ([node for node in graph.graph.nodes if node.op == "call_function"] for graph in graphs)
    casts: dict[str, int] = {}
    for node in (*forward, *backward):
        source = node.args[0] if node.args else None
        is_input = isinstance(source, torch.fx.Node) and source.op == "placeholder" and "primals" in source.name
        if is_input and "_to_copy" in str(node.target) and node.meta["val"].dtype == torch.bfloat16:
            casts[source.name] = casts.get(source.name, 0) + 1
    assert len(casts) > 20
    assert set(casts.values()) == {1}
    names = {str(node.target) for node in (*forward, *backward)}
    assert not {name for name in names if "complex" in name or "group_norm" in name or "polar" in name}


@pytest.mark.slow
def test_many_sizes_make_few_graphs_and_the_same_losses() -> None:
    sizes = [(16 + 8 * number, 16) for number in range(10)]
    config, compiler = thin("nano", 32, batch_size=15), Counting()
    compiled, plain = trainer_of(config, Sized(sizes, 8), compiler), trainer_of(config, Sized(sizes, 8))
    assert losses(compiled, 6) == pytest.approx(losses(plain, 6), rel=1e-3)
    assert compiler.num == compiled.num_graphs == MAX_GRAPHS
    losses(compiled, 6)
    assert compiler.num == MAX_GRAPHS


@pytest.mark.slow
def test_half_sizes_are_two_graphs_for_any_number_of_pictures() -> None:
    config, compiler = thin("nano", 128, batch_size=4, half_size=0.5), Counting()
    trainer = trainer_of(config, Sized([(128, 128)], 8), compiler)
    losses(trainer, 8)
    assert compiler.num == trainer.num_graphs == 2


@pytest.mark.slow
def test_the_plan_compiles_for_the_run() -> None:
    config, samples, compiler = thin("nano", 32), Sized([(32, 32)], 8), Counting()
    losses(trainer_of(config, samples, compiler), 1)
    losses(trainer_of(config, samples, compiler), 1)
    assert compiler.num == 1


@pytest.mark.slow
def test_equal_compiled_trainers_go_on_bit_for_bit_alike() -> None:
    config, samples = thin("nano", 32), Sized([(32, 32), (48, 16)], 8)
    first = trainer_of(config, samples, "eager")
    rows = losses(first, 2)
    tensors = {part: {key: t.clone() for key, t in own.items()} for part, own in first.tensors().items()}
    rows += losses(first, 2)
    second = trainer_of(config, samples, "eager")
    second.load(tensors, {"images_seen": 8, "num_skipped": 0, "skipped_in_a_row": 0})
    assert losses(second, 2) == rows[2:]
    assert all(torch.equal(weight, second.weights()[key]) for key, weight in first.weights().items())


@pytest.mark.slow
def test_a_step_of_muon_is_one_graph_whatever_the_learning_rate() -> None:
    denoiser, compiler = Denoiser(thin("nano", 32)), Counting()
    optimizers = make_optimizers(denoiser, denoiser.config.train)
    assert isinstance(optimizers, Optimizers)
    muon = optimizers.optimizers[-1]
    for weight in denoiser.parameters():
        weight.grad = torch.ones_like(weight)
    step = torch.compile(muon.step, fullgraph=True, backend=compiler)
    for lr in (1e-3, 2e-3, 3e-3):
        optimizers.set_lr(lr)
        step()
    assert compiler.num <= 2  # the first learning rate is taken for a constant


@pytest.mark.slow
def test_a_compiler_that_fails_is_an_error_with_a_remedy() -> None:
    def broken(module: torch.fx.GraphModule, examples: list[Any]) -> Callable[..., Any]:
        raise RuntimeError("no C++ compiler found")

    trainer = trainer_of(thin("nano", 32), Sized([(32, 32)], 8), broken)
    with pytest.raises(ConfigError, match=r"no C\+\+ compiler found.*--compile off"):
        losses(trainer, 1)


@pytest.mark.slow
def test_a_compiler_that_fails_on_the_way_back_is_one_too() -> None:
    from torch._dynamo.backends.common import aot_autograd
    from torch._dynamo.exc import BackendCompilerFailed
    from torch._functorch.aot_autograd import make_boxed_func

    def broken(module: torch.fx.GraphModule, examples: list[Any]) -> Any:
        raise BackendCompilerFailed(broken, RuntimeError("no ptxas"), None)

    compiler = aot_autograd(fw_compiler=lambda module, _: make_boxed_func(module.forward), bw_compiler=broken)
    trainer = trainer_of(thin("nano", 32), Sized([(32, 32), (48, 16)], 8), compiler)
    with pytest.raises(ConfigError, match=r"no ptxas.*--compile off"):
        losses(trainer, 1)


@pytest.mark.slow
def test_sizes_beyond_the_limit_are_computed_without_the_compiler() -> None:
    compiler = Counting()
    errors = CompiledErrors(
        lambda batch: batch.x.flatten(1).sum(1) * batch.weight, fixed_batch=False, backend=compiler, max_graphs=2
    )
    for side, num in ((4, 3), (4, 1), (8, 2), (8, 7), (12, 2), (16, 1), (4, 9)):
        ones = torch.ones(num)
        pictures = torch.ones(num, 3, side, side)
        batch = Batch(pictures, pictures.clone(), ones, ones.clone(), torch.ones(num, 2, 4), torch.ones(num, 2) > 0)
        assert errors(batch).tolist() == [3 * side**2] * num
    assert compiler.num == errors.num_graphs == 2


def test_captions_have_few_lengths() -> None:
    lengths = {padded_length(longest, 64) for longest in range(65)}
    assert lengths == {15, 31, 71}
    assert all(padded_length(longest, 64) >= longest for longest in range(65))
    assert {padded_length(longest, 8) for longest in range(9)} == {15}


PROCESSES = """
import json, os, socket, sys, traceback, warnings
sys.path.insert(0, {tests!r})
import torch, torch._dynamo, torch.distributed.fsdp
from dataclasses import replace
from pathlib import Path
from test_compiled import Counting, Sized, thin
from tintype.model.denoiser import Denoiser
from tintype.training.core.trainer import Trainer
from tintype.training.parallel.world import full_tensor, init_processes

def work(rank, port, shard, compiles, name, side):
    os.environ |= dict(RANK=str(rank), WORLD_SIZE="2", LOCAL_RANK=str(rank), MASTER_ADDR="127.0.0.1",
        MASTER_PORT=str(port))
    torch.manual_seed(0)
    compiler = Counting() if compiles else None
    with init_processes(torch.device("cpu"), shard=shard) as world:
        config = thin(name, side, batch_size=4)
        trainer = Trainer(Denoiser(config), Sized([(side, side)], 8), config, torch.device("cpu"), world=world,
            compiler=compiler)
        losses = [report.loss for report in trainer.steps(3 * 4)]
        total = float(sum(full_tensor(weight).double().abs().sum() for weight in trainer.weights().values()))
        if rank == 0:
            print(json.dumps([losses, total, compiler.num if compiler else 0]), flush=True)

for name, side in {layouts!r}:
    for compiles in (False, True):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        for rank in range(2):
            if os.fork() == 0:
                try:
                    work(rank, port, {shard!r}, compiles, name, side)
                except BaseException:
                    traceback.print_exc()
                finally:
                    os._exit(0)
        for rank in range(2):
            os.wait()
"""


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="processes are forked")
@pytest.mark.parametrize("shard", [False, True])
def test_processes_compile_too(shard: bool) -> None:

    layouts = [("nano", 128), ("small", 32), ("base", 64), ("large", 128)] if shard else [("nano", 32)]
    code = PROCESSES.format(tests=str(Path(__file__).parent), shard=shard, layouts=layouts)
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=600)
    rows = [json.loads(line) for line in ran.stdout.splitlines() if line.startswith("[[")]
    assert len(rows) == 2 * len(layouts), ran.stderr[-3000:]
    for plain, compiled in zip(rows[::2], rows[1::2], strict=True):
        assert compiled[0] == pytest.approx(plain[0], rel=1e-4)
        assert compiled[1] == pytest.approx(plain[1], rel=1e-5)
        assert plain[2] == 0
        assert compiled[2] > 0
