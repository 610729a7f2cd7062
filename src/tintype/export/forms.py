"""Exports: a model in one of the forms of options.FORMS. Each has a function here that writes it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from tintype.errors import ConfigError
from tintype.export.diffusers.write import write_diffusers
from tintype.export.folder import write_folder
from tintype.export.onnx.write import write_onnx
from tintype.export.options import FORMS, ExportOptions
from tintype.export.page import write_page, write_site
from tintype.export.record import read_record
from tintype.export.target import filled, require_free
from tintype.model import file_names, store
from tintype.model.read_file import MAX_CONFIG_BYTES, read_text
from tintype.model.sample_captions import sample_captions

# A form gets the model, the path where its folder or file is to appear (nothing is there), and the options.
WriteForm = Callable[[store.Model, Path, ExportOptions], None]
WRITERS: dict[str, WriteForm] = {  # the same names as options.FORMS
    "folder": write_folder,
    "diffusers": write_diffusers,
    "onnx": write_onnx,
    "page": write_page,
    "site": write_site,
}


def export_model(
    model: str | Path,
    out: str | Path,
    *,
    to: str = "folder",
    name: str = "",
    license: str = "",
    precision: str = "",
    examples: bool | Sequence[str] = False,
    card: str | None = None,
    overwrite: bool = False,
) -> Path:
    """Write a model in another form, whole or not at all. Returns where it is.

        tintype.export_model("my-run", "cats", license="CC-BY-4.0", examples=["a cat on a sofa"])

    Args:
        model: what `Pipeline.load` takes; of a run that still trains, its newest checkpoint.
        out: the folder or file to write.
        to: "folder", a model folder with weights in half precision and a card, for other people; "diffusers", the same,
            which Hugging Face's diffusers runs too; "onnx", ONNX graphs for other languages and runtimes; "page", one
            HTML file that opens from a disk and draws by itself; "site", the same as a folder for a static web server.
        name: of the model, in its card; "" takes the name of `out`.
        license: an SPDX identifier, such as "CC-BY-4.0"; "" keeps that of an earlier export.
        precision: of the stored weights, "fp16", "fp32" or "int8"; "" takes that of the form.
        examples: captions to publish with the model, with pictures that it draws for them; True takes sample captions
            of its run. Captions are private otherwise.
        card: text of the model card in place of one that is made from settings and errors.
        overwrite: replace an earlier export.

    Raises ConfigError for an option that cannot work, CheckpointError for a model that cannot be read or a place that
    cannot be written.
    """
    if to not in FORMS:
        raise ConfigError(f"to must be one of {', '.join(FORMS)}, not {to!r}")
    found = store.find(model)
    target = Path(out).resolve()
    earlier = read_record(found.folder)
    is_shipped = found.folder in store.shipped().values()
    if card is None and to == "folder" and (earlier is not None or is_shipped):
        card = _published_card(found.folder)
    if not isinstance(examples, bool):
        captions = tuple(dict.fromkeys(caption.strip() for caption in examples))
    else:
        chosen = earlier is not None or is_shipped
        captions = sample_captions(found.run or found.folder, chosen=chosen) if examples else ()
        if examples and not captions:
            raise ConfigError(f"{found.name} has no sample captions; give captions after --examples")
    options = ExportOptions(
        name=name or target.name.removesuffix(".html"),
        license=license or (earlier.license if earlier else ""),
        precision=precision or FORMS[to].precision,
        examples=captions,
        card=card,
    )
    require_free(target, overwrite=overwrite)
    with filled(target) as temporary:
        WRITERS[to](found, temporary, options)
    return Path(out)


def _published_card(folder: Path) -> str | None:
    """The card of a model that is public already; None without a readable one."""
    try:
        return read_text(folder / file_names.CARD, MAX_CONFIG_BYTES, folder)
    except (OSError, UnicodeDecodeError):
        return None
