"""JavaScript in tests: what the page computes with runs in Node where it is there, else in Chromium."""

from __future__ import annotations

import base64
import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tintype.export.description import describe
from tintype.export.options import ExportOptions
from tintype.export.page import kernels, worker_script
from tintype.model import store

Run = Callable[[str], Any]  # the body of an async function that returns what JSON can hold -> that

SCOPE = """const fromText = (text) => Uint8Array.from(atob(text), (sign) => sign.charCodeAt(0));
const all = async (steps) => { const found = []; for await (const step of steps) found.push(step); return found; };"""


def in_node(node: str, folder: Path) -> Run:
    """Runs JavaScript in Node."""

    def run(body: str) -> Any:
        file = folder / "script.cjs"
        head = "globalThis.postMessage = () => {};"
        answer = "test().then((answer) => process.stdout.write(JSON.stringify(answer), () => process.exit()));"
        file.write_text(
            f"{head}\n{worker_script()}\n{SCOPE}\nconst test = async () => {{ {body} }};\n{answer}", "utf-8"
        )
        ran = subprocess.run([node, str(file)], capture_output=True, text=True, timeout=300, encoding="utf-8")
        assert ran.returncode == 0, ran.stderr
        return json.loads(ran.stdout)

    return run


def in_browser(browser: Any) -> Run:
    """Runs JavaScript in an empty page."""

    def run(body: str) -> Any:
        page = browser.new_page()
        try:
            return page.evaluate(f"async () => {{ {worker_script()}\n{SCOPE}\n{body} }}")
        finally:
            page.close()

    return run


def drawer(folder: Path, *, precision: str = "fp32", is_fast: bool = True) -> str:
    """Statements that make `model`, the model in a folder as the page has it."""
    description, payload = describe(store.find(str(folder)), ExportOptions(name="drawer", precision=precision))
    modules = [base64.b64encode(module).decode() for module in kernels()] if is_fast else []
    content = base64.b64encode(payload.content()).decode()
    return f"""
const described = {json.dumps(description)};
const weights = new Weights(described.payload, fromText("{content}"));
const model = new Model(described, weights, {json.dumps(modules)}.map(fromText));
if (model.heap.isFast !== {json.dumps(is_fast)}) throw new Error("the kernel does not run");
"""


def find_node() -> str | None:
    return shutil.which("node")
