"""Networks on the meta device have shapes, no memory, and do not import the compiler."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tintype.config import Config
from tintype.model.denoiser import Denoiser
from tintype.model.meta_device import meta_device


def test_the_network_has_every_shape_and_no_memory() -> None:
    config = Config()
    with meta_device():
        planned = Denoiser(config).state_dict()
    real = Denoiser(config).state_dict()
    assert {name: t.shape for name, t in planned.items()} == {name: t.shape for name, t in real.items()}
    assert all(t.is_meta for t in planned.values())
    assert not any(t.is_meta for t in real.values())


@pytest.mark.slow
def test_loading_a_model_does_not_import_the_compiler() -> None:
    code = "import sys; from tintype import Pipeline; Pipeline.load('shapes'); print('torch._dynamo' in sys.modules)"
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert printed.strip() == "False"
