"""Who may use the studio: whoever has the token that the command printed, on a page of this server."""

from __future__ import annotations

import ipaddress
import secrets
from http.cookies import CookieError, SimpleCookie

from fastapi import Request as HttpRequest

from tintype.serving.api.errors import ApiError

HEADER = "x-tintype-token"
LOCAL = ("none", "same-origin")  # values of Sec-Fetch-Site of the studio's own page and of links that a person opens


class Access:
    """The token of the studio, new at every start of the server.

    Args:
        any_host: whether a host name that the server's guard has let through will do. Otherwise it must be that of
            this machine to itself.
        allowed_hosts: other names of the server that do.
    """

    def __init__(self, *, any_host: bool = False, allowed_hosts: tuple[str, ...] = (), token: str = "") -> None:
        self.token = token or secrets.token_urlsafe(24)
        self._any_host = any_host
        self._allowed = {name.lower() for name in allowed_hosts}
        self.cookie = f"tintype-studio-{secrets.token_hex(4)}"  # browsers share cookies between ports: a name a server

    def is_token(self, text: str) -> bool:
        """Whether a text is the token, in constant time."""
        return secrets.compare_digest(text.encode("utf-8", "surrogatepass"), self.token.encode())

    async def require(self, request: HttpRequest) -> None:
        """Raise ApiError unless a request comes from this server's own page, or a program, and has the token."""
        self.require_own_page(request)
        given = request.headers.get(HEADER) or self._cookie_of(request)
        if not self.is_token(given):
            message = "the studio needs the link that the command printed: open it again"
            raise ApiError(401, message, "token_needed")

    def require_own_page(self, request: HttpRequest) -> None:
        """Raise ApiError for another host name (DNS rebinding) and for pages of other sites and ports."""
        name = _name(request.headers.get("host", ""))
        if not (self._any_host or name in self._allowed or _is_local(name)):
            raise ApiError(403, "the studio answers on this machine only", "host_not_allowed")
        site = request.headers.get("sec-fetch-site", "none")
        is_link = request.method == "GET" and request.headers.get("sec-fetch-mode") == "navigate"
        if site not in LOCAL and not is_link:
            raise ApiError(403, "pages from another site may not use the studio", "origin_not_allowed")

    def _cookie_of(self, request: HttpRequest) -> str:
        try:
            cookies = SimpleCookie(request.headers.get("cookie", ""))
        except CookieError:
            return ""
        return cookies[self.cookie].value if self.cookie in cookies else ""


def _name(authority: str) -> str:
    """The name in NAME:PORT, in small letters."""
    host = authority.lower()
    return host[1:].partition("]")[0] if host.startswith("[") else host.partition(":")[0]


def _is_local(name: str) -> bool:
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False
