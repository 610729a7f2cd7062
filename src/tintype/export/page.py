"""The forms `page` and `site`: a model as a web page that draws by itself.

A page is one file: it opens from a disk, without a network, and can neither fetch nor send anything. A site is the same
for a static web server, with the packed model as a file of its own. Both read the files in page/: the network, the
samplers and the tokenizers in JavaScript, and matrix products in WebAssembly.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import struct
from importlib.resources import files
from pathlib import Path
from typing import Any

from markdown_it import MarkdownIt

from tintype._version import __version__
from tintype.export import wat
from tintype.export.card import export_card, read_metrics, without_front_matter
from tintype.export.description import describe
from tintype.export.folder import images_seen
from tintype.export.options import ExportOptions
from tintype.export.payload import PART, text_parts
from tintype.export.record import write_record
from tintype.model import checkpoint, store
from tintype.printable import html_text

SHARED = ("style.css", "icon.svg")  # files of the served page, which looks the same
WORKER = (
    "plain",
    "attention",
    "heap",
    "webgpu",
    "layers",
    "stem",
    "network",
    "text",
    "noise",
    "tokenizers",
    "unpack",
    "sampler",
    "engine",
    "png",
    "worker",
)
PACKED = "model.bin"  # of a site
SOFTWARE = "The page was made with Tintype {version}, under the Apache License 2.0."
MINILM = (
    " Captions are read by all-MiniLM-L6-v2 of the Sentence Transformers project, made from MiniLM of Microsoft, under "
    "the Apache License 2.0; its weights are rounded here."
)
_STYLE = re.compile(r' style="[^"]*"')  # of columns of tables; the policy of the page forbids it
_USE = re.compile(r"^## Use\n.*?(?=^## |\Z)", re.MULTILINE | re.DOTALL)


def write_page(model: store.Model, out: Path, options: ExportOptions) -> None:
    """Write a model as one HTML file. Raises CheckpointError, ConfigError, OSError."""
    content, packed = _packed(model, options)
    parts = "\n".join(f'<script type="text/plain" class="part">{part}</script>' for part in text_parts(packed))
    checkpoint.write_bytes(out, _page(model, options, content, len(packed), parts).encode())


def write_site(model: store.Model, out: Path, options: ExportOptions) -> None:
    """Write a model as a folder for a static web server. Raises CheckpointError, ConfigError, OSError."""
    content, packed = _packed(model, options)
    out.mkdir()
    checkpoint.write_bytes(out / PACKED, packed)
    checkpoint.write_bytes(out / "index.html", _page(model, options, content, len(packed), "").encode())
    write_record(out, "site", options)


def read_page_file(name: str) -> str:
    """A file of page/, or one that it shares with the served page."""
    return (files("tintype.serving" if name in SHARED else "tintype.export") / "page" / name).read_text("utf-8")


def worker_script() -> str:
    """All that draws, as one script: the files share one scope."""
    return "\n".join(read_page_file(f"{name}.js") for name in WORKER)


def kernels() -> list[bytes]:
    """The modules of page/kernel.wat, the better one first."""
    text = read_page_file("kernel.wat")
    return [wat.assemble(text, relaxed=relaxed) for relaxed in (True, False)]


def _packed(model: store.Model, options: ExportOptions) -> tuple[dict[str, Any], bytes]:
    """The description of a model, and it with all weights as the page unpacks them."""
    description, payload = describe(model, options)
    description["licenses"] = read_page_file("apache-2.0.txt")
    return description, payload.compressed(with_head(description))


def with_head(description: dict[str, Any]) -> bytes:
    """A description as the beginning of a payload: its length, and itself as JSON, to a multiple of four bytes."""
    text = json.dumps(description, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 4)
    return struct.pack("<I", len(text)) + text


def _page(model: store.Model, options: ExportOptions, description: dict[str, Any], num_packed: int, parts: str) -> str:
    config = store.read_config(model)
    script, style = read_page_file("ui.js"), read_page_file("style.css") + read_page_file("page.css")
    page = {
        "pixels": description["size"],
        "steps": description["steps"],
        "usual": {"steps": config.sample.steps, "guidance": config.sample.guidance},
        "limits": description["limits"],
        "examples": options.examples,
        "kernels": [base64.b64encode(module).decode() for module in kernels()],
        "size": len(with_head(description)) + description["unpacked"],
        "packed": num_packed,
        "part": PART,
        "file": PACKED,
    }
    terms = f"Its license is {options.license}." if options.license else "Its author has given it no license."
    values = {
        "version": __version__,
        "policy": _policy(script, style, connects="'none'" if parts else "'self'"),
        "name": html_text(options.name),
        "icon": "data:image/svg+xml;base64," + base64.b64encode(read_page_file("icon.svg").encode()).decode(),
        "style": style,
        "terms": html_text(
            f"{options.name} makes pictures of {' x '.join(map(str, config.default_size))} pixels. {terms}"
        ),
        "card": _card(model, options),
        "credits": html_text(SOFTWARE.format(version=__version__) + (MINILM if description["encoder"] else "")),
        "page": json.dumps(page).replace("<", "\\u003c"),
        "worker": worker_script(),
        "script": script,
        "parts": parts,
    }
    return re.sub(r"\{(\w+)\}", lambda match: values[match[1]], read_page_file("page.html"))


def _policy(script: str, style: str, *, connects: str) -> str:
    """The Content-Security-Policy: this script, this style and its worker may run, and nothing else may be loaded."""
    hashes = [base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in (script, style)]
    rules = [
        "default-src 'none'",
        f"script-src 'sha256-{hashes[0]}' 'wasm-unsafe-eval'",
        f"style-src 'sha256-{hashes[1]}'",
        "worker-src blob:",
        "img-src data:",
        f"connect-src {connects}",
        "base-uri 'none'",
        "form-action 'none'",
    ]
    return "; ".join(rules)


def _card(model: store.Model, options: ExportOptions) -> str:
    """The model card as HTML. It may come from a stranger: tags are text, and pictures are left out."""
    card = options.card
    if card is None:
        config = store.read_config(model)
        num_weights = sum(weight.numel() for weight in store.read_weights(model).values())
        card = export_card(
            config, options, num_weights=num_weights, images_seen=images_seen(model), metrics=read_metrics(model.folder)
        )
    card = _USE.sub("", without_front_matter(card))
    for elsewhere in ("<Gallery />\n", "config.json holds every setting.\n"):
        card = card.replace(elsewhere, "")
    markdown = MarkdownIt("commonmark", {"html": False}).enable("table").disable("image")
    rendered: str = markdown.render(re.sub(r"<!--.*?-->", "", card, flags=re.DOTALL))
    return _STYLE.sub("", rendered)
