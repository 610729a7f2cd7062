"""The form `diffusers`: a model folder with the files by which diffusers runs it."""

from __future__ import annotations

from pathlib import Path

from tintype.errors import ConfigError
from tintype.export.diffusers.layout import write_layout
from tintype.export.folder import write_model_folder
from tintype.export.options import ExportOptions
from tintype.export.record import write_record
from tintype.model import store

USE = """
## Use with diffusers

    pip install tintype diffusers

```python
from diffusers import DiffusionPipeline

pipeline = DiffusionPipeline.from_pretrained(FOLDER, custom_pipeline=FOLDER, trust_remote_code=True)
pipeline({caption!r}, seeds=7).images[0].save("picture.png")
```

FOLDER is this folder, or the name of its repository on the Hugging Face Hub. `trust_remote_code` lets diffusers run
`pipeline.py` and `denoiser/model.py`, which import their classes from the package tintype and do nothing else.
"""


def write_diffusers(model: store.Model, out: Path, options: ExportOptions) -> None:
    """Write the form `diffusers` at `out`, where nothing is. Raises CheckpointError, ConfigError, OSError."""
    components = sorted(store.read_components(model).values())
    if components:
        raise ConfigError(
            f"this model has a part that is a Python object, {components[0]}, which diffusers cannot load; export it "
            "as a folder, and load that with tintype.Pipeline"
        )
    config = store.read_config(model)
    caption = next(iter(options.examples), "a caption like those of its training")
    write_model_folder(model, out, options, USE.format(caption=caption), ("diffusers",))
    write_layout(out, config)
    write_record(out, "diffusers", options)
