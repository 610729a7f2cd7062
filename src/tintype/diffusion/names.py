"""Names of samplers and schedules, for help and checks that must not wait for PyTorch.

`samplers.SAMPLERS` and `sigmas.SCHEDULES` have the functions of these names. Aliases of predictions are here too;
predictions and loss weights themselves are named where they are defined, in parameterization.py and loss.py.
"""

SAMPLERS = (
    "unipc",
    "dpmpp_2m",
    "deis_2",
    "deis_3",
    "deis_4",
    "euler",
    "ddim",
    "heun",
    "reference",
    "etdrk4",
    "ddpm",
    "euler_ancestral",
    "dpmpp_2m_sde",
    "heun_churn",
)
SCHEDULES = ("logistic", "log_snr", "karras", "flow")
PREDICTION_ALIASES = {"epsilon": "noise", "x0": "image", "flow": "velocity"}  # other names -> the name that is stored
