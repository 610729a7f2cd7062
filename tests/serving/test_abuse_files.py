"""Bad requests of every kind: paths, files, pages of other sites, markup, the log."""

from __future__ import annotations

import base64
import io
import json
import logging
import struct
import zlib

import httpx
import pytest
from PIL import Image
from tests.serving.abuse import MAKE, check, raw
from tests.serving.conftest import Live, until

from tintype.serving.api.app import PAGE
from tintype.serving.logs import JsonLines

pytestmark = pytest.mark.usefixtures("still_alive")


# --- 24 to 26: files ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", ["../../etc/passwd", "..%2f..%2fetc%2fpasswd", "%2e%2e/config.json", "a\x00b", "x" * 3000]
)
def test_24_paths_in_names(name: str, http: httpx.Client) -> None:
    for folder in ("/page/", "/api/jobs/", "/api/runs/", "/api/runs/tiny/samples/", "/v1/models/"):
        answer = http.get(folder + name.replace("\x00", "%00"))
        assert answer.status_code == 404, folder
        assert b"root:" not in answer.content


def test_24_a_path_as_the_name_of_an_upload(http: httpx.Client) -> None:
    files = {"image": ("../../etc/passwd", png(Image.new("RGB", (16, 16))), "image/png")}
    assert http.post("/v1/images/edits", data={"prompt": "a"}, files=files).status_code == 200


def png(picture: Image.Image) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    return buffer.getvalue()


def bomb(side: int) -> bytes:
    """A small PNG that unfolds into side x side pixels."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0)
    rows = zlib.compress(b"\0" * (side // 8 + 1) * 1000)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


UPLOADS = {
    "bomb": (bomb(60_000), 413),
    "large": (bomb(9_000), 413),
    "svg": (b"<svg xmlns='http://www.w3.org/2000/svg'/>", 400),
    "empty": (b"", 400),
    "text": (b"hello", 400),
    "cut short": (png(Image.effect_noise((64, 64), 90))[:800], 400),
    "eps": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", 400),
    "pickle": (b"\x80\x04\x95\x10\x00\x00\x00", 400),
}


@pytest.mark.parametrize("kind", list(UPLOADS))
def test_25_uploads_that_are_no_pictures(kind: str, http: httpx.Client) -> None:
    content, status = UPLOADS[kind]
    check(http.post("/v1/images/edits", data={"prompt": "a"}, files={"image": ("a.png", content)}), status, "image")
    text = base64.b64encode(content).decode()
    check(http.post("/api/jobs", json={"prompt": "a", "init_image": text}), status, "init_image")
    check(http.post("/api/look", json={"image": text}), status, "image")


def test_25_a_mask_of_another_size_and_forms_of_many_parts(http: httpx.Client) -> None:
    image, mask = png(Image.new("RGB", (16, 16))), png(Image.new("L", (8, 16)))
    check(http.post("/v1/images/edits", data={"prompt": "a"}, files={"image": image, "mask": mask}), 400, "mask")
    check(http.post("/v1/images/edits", data={f"f{i}": "x" for i in range(1000)}, files={"image": image}), 400)
    many = [("image", ("a.png", image))] * 1000
    check(http.post("/v1/images/edits", data={"prompt": "a"}, files=many), 400)
    check(http.post("/v1/images/edits", files={"image": image}), 400, "prompt")
    check(http.post("/v1/images/edits", data={"prompt": "a"}, files={"other": image}), 400, "image")
    check(http.post("/v1/images/edits", data={"prompt": "a", "n": "two"}, files={"image": image}), 400, "n")
    broken = {"Content-Type": "multipart/form-data; boundary=x"}
    check(http.post("/v1/images/edits", content=b"--y\r\nnonsense", headers=broken), 400)
    check(http.post("/v1/images/edits", content=b"--y\r\n", headers={"Content-Type": "multipart/form-data"}), 400)
    check(http.post("/v1/images/edits", files={"image": b"\0" * (25 * 2**20)}), 413)


@pytest.mark.parametrize("url", ["http://169.254.169.254/latest", "file:///etc/passwd", "https://example.com/a.png",
                                 "data:image/png,notbase64", "data:text/html;base64,AAAA", "not base64 !"])  # fmt: skip
def test_26_addresses_of_pictures_are_not_fetched(url: str, http: httpx.Client) -> None:
    check(http.post("/api/jobs", json={"prompt": "a", "init_image": url}), 400, "init_image", "invalid_image")
    check(http.post("/v1/images/edits", data={"prompt": "a", "image": url}, files={"x": b"a"}), 400, "image")


# --- 28 to 31: pages of others, markup, logs, habits of clients -------------------------------------------------------


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors"},
        {"Host": "evil.example"},
        {"Host": "127.0.0.1.evil.example:8000", "Origin": "http://127.0.0.1.evil.example:8000"},
        {"Host": ""},
    ],
)
def test_28_pages_of_other_sites(headers: dict[str, str], http: httpx.Client) -> None:
    check(http.post(MAKE, json={"prompt": "a"}, headers=headers), 403)
    check(http.get("/api/models", headers=headers), 403)


def test_28_its_own_page_and_a_link_to_it_are_fine(server: Live, http: httpx.Client) -> None:
    headers = {"Origin": server.url, "Sec-Fetch-Site": "same-origin"}
    assert http.post(MAKE, json={"prompt": "a", "steps": 1}, headers=headers).status_code == 200
    link = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"}
    assert http.get("/", headers=link).status_code == 200
    for host in ("localhost", "[::1]:80", "192.168.1.7:8000", "me.localhost"):
        assert http.get("/health", headers={"Host": host}).status_code == 200
    assert "access-control-allow-origin" not in http.get("/").headers


def test_28_the_text_plain_trick(http: httpx.Client) -> None:
    trick = {"Content-Type": "text/plain"}
    check(http.post("/api/jobs", content=b'{"prompt": "a"}', headers=trick), 415)


def test_29_captions_are_never_markup(http: httpx.Client) -> None:
    page = http.get("/")
    assert "script-src 'self'" in page.headers["content-security-policy"]
    assert "unsafe" not in page.headers["content-security-policy"]
    assert page.headers["x-content-type-options"] == "nosniff"
    for name in (name for name in PAGE if name.endswith(".js")):
        code = http.get(f"/page/{name}").text
        assert not [
            word for word in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(") if word in code
        ]


def test_30_nothing_that_is_sent_breaks_a_line_of_the_log(http: httpx.Client) -> None:
    lines: list[str] = []

    class Lines(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            lines.append(self.format(record))

    handler = Lines()
    handler.setFormatter(JsonLines())
    logger = logging.getLogger("tintype.serving")
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel("INFO")
    try:
        secret = 'my secret\n{"event": "forged"}\r\n'
        http.post(
            MAKE, json={"prompt": secret, "user": secret, "steps": 1}, headers={"x-stainless-retry-count": "1" * 5000}
        )
        http.get("/v1/models/a%0Ab")
        until(lambda: len(lines) >= 3)
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)
    assert all(isinstance(json.loads(line), dict) and "\n" not in line for line in lines)
    assert "secret" not in "".join(lines)
    assert max(map(len, lines)) < 2000


def test_31_keys_that_are_unknown_or_come_twice(http: httpx.Client) -> None:
    body = (
        '{"prompt": "a", "prompt": "b", "seed": 1, "steps": 1, "moderation": "low", "new_thing": {"x": [1]}, "n": null}'
    )
    assert raw(http, body).status_code == 200
