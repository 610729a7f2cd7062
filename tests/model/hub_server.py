"""A Hugging Face Hub on this machine: what huggingface_hub asks of it to read public models."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

SHA = "a" * 40  # the one commit of every repository


class Handler(BaseHTTPRequestHandler):
    """Answers for the repositories that lie as folders OWNER/NAME in `root`."""

    root = Path()
    asked: list[str]  # the files whose content was asked for

    def do_HEAD(self) -> None:
        self.answer(body=False)

    def do_GET(self) -> None:
        self.answer(body=True)

    def answer(self, *, body: bool) -> None:
        parts = self.path.partition("?")[0].strip("/").split("/")
        content, headers = b"{}", {}
        if parts[:2] == ["api", "models"] and (folder := self.root / "/".join(parts[2:4])).is_dir():
            names = [file.relative_to(folder).as_posix() for file in sorted(folder.rglob("*")) if file.is_file()]
            siblings = [{"rfilename": name, "size": (folder / name).stat().st_size} for name in names]
            content = json.dumps({"id": "/".join(parts[2:4]), "sha": SHA, "siblings": siblings, "tags": []}).encode()
        elif (
            len(parts) > 4
            and parts[2] == "resolve"
            and parts[3] in ("main", SHA)
            and (file := self.file(parts)).is_file()
        ):
            content = file.read_bytes()
            headers = {"X-Repo-Commit": SHA, "ETag": f'"{hashlib.sha256(content).hexdigest()}"'}
            if body:
                self.asked.append(file.name)
        else:
            self.send_response(404)
            self.send_header("X-Error-Code", "RepoNotFound")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        self.send_response(200)
        for name, value in {**headers, "Content-Length": str(len(content))}.items():
            self.send_header(name, value)
        self.end_headers()
        if body:
            self.wfile.write(content)

    def file(self, parts: list[str]) -> Path:
        return self.root / "/".join(parts[:2]) / "/".join(parts[4:])

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def local_hub(root: Path) -> Iterator[tuple[str, list[str]]]:
    """Serve the repositories in `root`. Yields the address, and the list of the files that are asked for."""
    asked: list[str] = []
    handler = type("Hub", (Handler,), {"root": root, "asked": asked})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", asked
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
