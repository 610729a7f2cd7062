"""Names for help and checks are those that have an implementation, in the same order, and need no torch."""

import subprocess
import sys

from tintype.diffusion import names
from tintype.diffusion.parameterization import PREDICTIONS
from tintype.diffusion.samplers import SAMPLERS
from tintype.diffusion.sigmas import SCHEDULES


def test_every_name_has_an_implementation_and_every_implementation_a_name() -> None:
    assert names.SAMPLERS == tuple(SAMPLERS)
    assert names.SCHEDULES == tuple(SCHEDULES)
    assert set(names.PREDICTION_ALIASES.values()) <= set(PREDICTIONS)
    assert not set(names.PREDICTION_ALIASES) & set(PREDICTIONS)


def test_names_need_no_torch() -> None:
    code = "import sys; from tintype.diffusion import names; print('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "False\n"
