"""Behind a proxy: another Host than the browser's, another path, and links that still lead to the right place."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from tests.serving.conftest import Live, live, until

from tintype.errors import ConfigError
from tintype.serving.api.app import PAGE
from tintype.serving.settings import checked_root_path

NAME = "pics.example.com"
JOB = {"prompt": "a red circle", "steps": 1}


@pytest.fixture(scope="module")
def proxied(tiny_model: Path) -> Iterator[httpx.Client]:
    with (
        live(tiny_model, allowed_hosts=(f"https://{NAME.upper()}/",), root_path="/tintype") as server,
        httpx.Client(base_url=server.url, timeout=30, trust_env=False) as http,
    ):
        yield http


@pytest.mark.parametrize("origin", [f"https://{NAME}", f"http://{NAME}:8443"])
def test_a_page_at_an_allowed_name_is_the_server_s_own_whatever_the_host(origin: str, proxied: httpx.Client) -> None:
    headers = {"Origin": origin, "Sec-Fetch-Site": "same-origin"}
    assert proxied.get("/page/app.js", headers=headers).status_code == 200
    assert proxied.post("/api/jobs", json=JOB, headers=headers).status_code == 202
    assert proxied.get("/", headers={"Host": NAME}).status_code == 200


@pytest.mark.parametrize(
    "origin", [f"https://evil.{NAME}", f"https://{NAME}.evil.example", "https://evil.example", "null", "https://", ""]
)
def test_another_page_is_refused_with_the_option_that_would_allow_it(origin: str, proxied: httpx.Client) -> None:
    response = proxied.post("/api/jobs", json=JOB, headers={"Origin": origin})
    assert response.status_code == 403
    assert "--allow-host NAME" in response.json()["error"]["message"]


def test_a_proxied_page_whose_name_is_not_allowed_runs_and_learns_why_it_is_refused(http: httpx.Client) -> None:
    headers = {"Origin": f"https://{NAME}", "Sec-Fetch-Site": "same-origin"}
    for name in PAGE:
        assert http.get(f"/page/{name}", headers=headers).status_code == 200
    assert "--allow-host" in http.post("/api/jobs", json=JOB, headers=headers).json()["error"]["message"]
    assert http.get("/page/app.js", headers={"Host": NAME}).status_code == 403


@pytest.mark.parametrize("prefix", ["", "/tintype"])  # a proxy may remove it
def test_a_server_under_a_path(prefix: str, proxied: httpx.Client) -> None:
    assert proxied.get(f"{prefix}/").text == proxied.get("/").text
    assert proxied.get(f"{prefix}/page/app.js").headers["content-type"].startswith("text/javascript")
    response = proxied.post(f"{prefix}/api/jobs", json=JOB)
    job = response.json()["id"]
    assert response.headers["location"] == f"/tintype/api/jobs/{job}"
    until(lambda: proxied.get(f"{prefix}/api/jobs/{job}").json()["status"] == "done")
    url = proxied.get(f"{prefix}/api/jobs/{job}").json()["pictures"][0]["url"]
    assert url == f"/tintype/api/jobs/{job}/pictures/0.png"
    assert proxied.get(url).content.startswith(b"\x89PNG")
    events = proxied.get(f"{prefix}/api/jobs/{job}/events").text
    assert url in events
    assert proxied.get("/openapi.json").json()["servers"] == [{"url": "/tintype"}]


def test_the_path_without_a_slash_leads_to_the_page(proxied: httpx.Client) -> None:
    response = proxied.get("/tintype")
    assert (response.status_code, response.headers["location"]) == (307, "/tintype/")
    assert proxied.get("/tintypes/").status_code == 404


@pytest.mark.parametrize(
    ("forwarded", "prefix"),
    [
        ("/pics", "/pics"),
        ("/pics/", "/pics"),
        ("/a/b", "/a/b"),
        ("//evil.example", ""),
        ("https://evil.example", ""),
        ("/a b", ""),
        ("/" + 1200 * "a", ""),
    ],
)
def test_a_forwarded_prefix_stands_before_paths_in_responses(forwarded: str, prefix: str, http: httpx.Client) -> None:
    response = http.post("/api/jobs", json=JOB, headers={"X-Forwarded-Prefix": forwarded})
    assert response.headers["location"] == f"{prefix}/api/jobs/{response.json()['id']}"
    assert "servers" not in http.get("/openapi.json", headers={"X-Forwarded-Prefix": forwarded}).json()


def test_a_slash_at_the_end_needs_no_redirect_to_an_address_that_a_proxy_hides(http: httpx.Client) -> None:
    assert http.get("/api/models/").json() == http.get("/api/models").json()


def test_addresses_in_the_page_are_relative(http: httpx.Client) -> None:
    for name in PAGE:
        text = http.get(f"/page/{name}").text
        assert re.findall(r"""(?:["'`(]|href=|src=)/(?:page|api|v1)\b""", text) == []


def test_head_answers_at_every_route_of_get(server: Live, http: httpx.Client) -> None:
    job = http.post("/api/jobs", json=JOB).json()["id"]
    until(lambda: http.get(f"/api/jobs/{job}").json()["status"] == "done")
    paths = [path for path, methods in http.get("/openapi.json").json()["paths"].items() if "get" in methods]
    paths = [path.replace("{job}", job).replace("{index}", "0").replace("{row}", "0") for path in paths]
    paths += ["/", "/healthz", "/openapi.json", *(f"/page/{name}" for name in PAGE)]
    assert len(paths) > 25
    for path in paths:
        head = http.head(path)
        assert (head.status_code, head.content) == (404 if "{" in path else 200, b""), path


def test_healthz_answers_like_health(http: httpx.Client) -> None:
    assert http.get("/healthz").json() == http.get("/health").json()


@pytest.mark.parametrize(
    ("text", "path"), [("", ""), ("/", ""), ("tintype", "/tintype"), ("/tintype/", "/tintype"), ("/a/b", "/a/b")]
)
def test_a_root_path_as_people_write_it(text: str, path: str) -> None:
    assert checked_root_path(text) == path


@pytest.mark.parametrize("text", ["https://pics.example.com/x", "/a b", "/a//b"])
def test_a_root_path_that_is_no_path(text: str) -> None:
    with pytest.raises(ConfigError, match="--root-path must be a path"):
        checked_root_path(text)
