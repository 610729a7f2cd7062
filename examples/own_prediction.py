"""What the network predicts, which noise levels it is trained on and how errors are weighed: three functions.

python examples/own_prediction.py [IMAGES]         default: 8000 for each of two runs; 320 for a first look
"""

import sys

import torch

import tintype
from tintype.diffusion.noise import Purpose, uniform
from tintype.shapes.write import example

IMAGES = int(sys.argv[1]) if len(sys.argv) > 1 else 8000


def v_prediction(sigma, sigma_data):
    """v = alpha noise - sigma' x0 of Salimans and Ho 2022 (arXiv 2202.00512), with alpha = 1 / sqrt(1 + sigma^2).

    x0 = alpha (alpha x) - sigma' v, where sigma' = sigma alpha and alpha x is what their network reads.
    """
    alpha = torch.rsqrt(1 + sigma**2)
    return tintype.Scalings(c_skip=alpha**2, c_out=-sigma * alpha, c_in=alpha, c_noise=sigma.log() / 4)


def log_uniform(positions):
    """ln sigma even between ln 0.02 and ln 80: a function of the position alone, so that a run can resume."""
    u = uniform(0, Purpose.SIGMA, positions, 1)[:, 0]
    return (0.02 * (80 / 0.02) ** u).float()


def min_snr(sigma):
    """Weight of the error of x0: min(SNR, 5) (Hang et al. 2023, arXiv 2303.09556)."""
    return (1 / sigma**2).clamp(max=5)


data = [example(seed=0, index=index, size=32)[:2] for index in range(1000)]
config = tintype.Config.from_preset("nano", resolution=32)
objects = {"prediction": v_prediction, "noise_levels": log_uniform, "loss_weight": min_snr}
for run, components in {"as-configured": {}, "own-prediction": objects}.items():
    for report in tintype.train(data, run, config, images=IMAGES, text="learned", **components):
        validation = report.validation
    # The error of the predicted noise can be compared whatever a network predicts and however errors are weighed.
    errors = {f"sigma {sigma:g}": round(error, 4) for sigma, error in validation.noise_error.items()}
    print(f"{run}: error of the predicted noise {errors}, geometric mean {validation.score:.4f}")

# A prediction has no name that could be stored: whoever loads the model passes it again.
pipeline = tintype.Pipeline.load("own-prediction", prediction=v_prediction)
pipeline.generate("a red circle")[0].resize((256, 256)).save("own-prediction.png")
print("own-prediction.png: a red circle")
