"""Train a model on drawn shapes, watch it learn, and draw with it.

python examples/train_from_python.py [IMAGES]      default: 20000, some minutes on a laptop; 640 for a first look

The same call again continues a run that was stopped with Ctrl-C, bit for bit.
"""

import sys
from statistics import mean

import tintype
from tintype.shapes.judge import check_picture
from tintype.shapes.write import example

IMAGES = int(sys.argv[1]) if len(sys.argv) > 1 else 20_000
RUN = "shapes-run"

# A folder of pictures with captions would do as well: tintype.train("photos", RUN, ...).
drawings = [example(seed=0, index=index, size=32) for index in range(2000)]
data = [(drawing.picture, drawing.caption) for drawing in drawings]

config = tintype.Config.from_preset("nano", resolution=32)
losses: list[float] = []
for report in tintype.train(data, RUN, config, images=IMAGES, text="learned", sample_minutes=1):
    losses.append(report.loss)
    if len(losses) % 100 == 0:
        print(f"{report.images_seen:,} images: loss {mean(losses[-100:]):.4f}")
    if report.validation is not None:  # every sample_minutes, and at the end
        errors = ", ".join(f"{error:.3f} at sigma {sigma:g}" for sigma, error in report.validation.noise_error.items())
        print(f"{report.images_seen:,} images: error of the predicted noise on held-out pictures {errors}")

# How many pictures show what their caption says? These captions were not in the data.
pipeline = tintype.Pipeline.load(RUN)
unseen = [example(seed=1, index=index, size=32) for index in range(16 if IMAGES >= 1000 else 2)]
pictures = pipeline.generate([drawing.caption for drawing in unseen], seeds=0)
right = sum(check_picture(picture, drawing.scene).all for picture, drawing in zip(pictures, unseen, strict=True))
pictures[0].resize((256, 256)).save("shapes.png")
print(f"{right} of {len(unseen)} pictures show what their caption says; shapes.png: {unseen[0].caption}")
