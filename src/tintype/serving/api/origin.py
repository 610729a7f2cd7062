"""Origins: the host names of this server, the pages that may use it, and the path prefix of a proxy before it."""

from __future__ import annotations

import ipaddress
import re
import socket
from collections.abc import Iterable

from starlette.datastructures import Headers
from starlette.types import Scope

from tintype.serving.api.errors import ApiError
from tintype.serving.settings import PATH_PREFIX

PAGE_FILES = "/page/"  # scripts of the page: the same for everybody


class Origins:
    """Which hosts and origins may use the server.

    Args:
        allowed_hosts: host names of the server beside `localhost` and this machine's own. A page at one of them is the
            server's own, whatever Host a proxy sends.
    """

    def __init__(self, allowed_hosts: Iterable[str]) -> None:
        self._allowed = {_name_of(text) for text in allowed_hosts} - {""}
        self._hosts = {"localhost", socket.gethostname().lower(), *self._allowed}

    def check(self, scope: Scope, headers: Headers) -> None:
        """Refuse host names that are not this server's (DNS rebinding), and pages from other origins. Raises ApiError.

        The page's scripts are for any origin, so that a page behind a proxy runs and can show why it is refused.
        """
        host = headers.get("host", "")
        name = _host_name(host)
        if not (name in self._hosts or name.endswith(".localhost") or _is_address(name)):
            message = (
                "unknown host name; start the server with --allow-host NAME, the name in the address bar of the browser"
            )
            raise ApiError(403, message, "host_not_allowed")
        is_read = scope["method"] in ("GET", "HEAD")
        if is_read and scope["path"].startswith(PAGE_FILES):
            return
        origin = headers.get("origin")
        is_link = is_read and headers.get("sec-fetch-mode") == "navigate"
        cross_site = headers.get("sec-fetch-site") == "cross-site" and not is_link
        if (origin is not None and not self._is_own(origin, host)) or cross_site:
            message = (
                "pages from another site may not use this server; if this page is the server's own, behind a proxy, "
                "start the server with --allow-host NAME, the name in the address bar of the browser"
            )
            raise ApiError(403, message, "origin_not_allowed")

    def _is_own(self, origin: str, host: str) -> bool:
        authority = origin.partition("://")[2].lower()
        return authority == host.lower() or _host_name(authority) in self._allowed


def prefix_of(headers: Headers, root_path: str) -> str:
    """The path of the server in its public addresses: `--root-path`, or else a proxy's X-Forwarded-Prefix; or ""."""
    if root_path:
        return root_path
    forwarded = headers.get("x-forwarded-prefix", "").rstrip("/")
    return forwarded if PATH_PREFIX.fullmatch(forwarded) else ""


def inner_path(path: str, root_path: str) -> str | None:
    """The path of a route, without the prefix, which a proxy may have removed, and without a slash at its end.

    None for the prefix itself without a slash, from which relative addresses would lead astray.
    """
    if root_path and path == root_path:
        return None
    inner = path.removeprefix(root_path) if path.startswith(root_path + "/") else path
    return inner.rstrip("/") or "/"


def _host_name(authority: str) -> str:
    """The name in NAME:PORT, in small letters."""
    return re.sub(r":\d*$", "", authority.lower()).strip("[]")


def _name_of(text: str) -> str:
    """The name in an option, which may be a whole address as the browser shows it."""
    return _host_name(text.rpartition("://")[2].partition("/")[0])


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
