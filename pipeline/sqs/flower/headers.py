"""Response headers for everything that Flower serves: its pages, its API and its static files."""

from __future__ import annotations

import secrets
from typing import Any

from tornado.httputil import HTTPHeaders, HTTPServerRequest
from tornado.web import OutputTransform

#: The name under which a request carries the nonce of its inline scripts. Templates read it as ``request.csp_nonce``.
NONCE = "csp_nonce"


def content_security_policy(nonce: str) -> str:
    """Scripts and requests go to Flower only, and no other site may put its pages into a frame.

    Styles may be inline: DataTables and Flower's worker page write ``style`` attributes, for which a nonce does not
    count. Bootstrap's icons are ``data:`` images.
    """
    return "; ".join(
        (
            "default-src 'none'",
            f"script-src 'self' 'nonce-{nonce}'",
            "style-src 'self' 'unsafe-inline'",
            "img-src 'self' data:",
            "connect-src 'self'",
            "form-action 'self'",
            "base-uri 'none'",
            "frame-ancestors 'none'",
        )
    )


def headers(nonce: str) -> dict[str, str]:
    return {
        "Content-Security-Policy": content_security_policy(nonce),
        "X-Content-Type-Options": "nosniff",
        "X-Frame-Options": "DENY",  # for browsers that do not know frame-ancestors
        # "no-referrer" would make browsers send "Origin: null" with a form, which Flower refuses.
        "Referrer-Policy": "same-origin",
    }


class SecurityHeaders(OutputTransform):
    """Sets the headers of one response. Tornado creates one for each request, before the handler runs."""

    def __init__(self, request: HTTPServerRequest) -> None:
        super().__init__(request)
        self._nonce = secrets.token_urlsafe(16)
        setattr(request, NONCE, self._nonce)

    def transform_first_chunk(
        self, status_code: int, headers_: HTTPHeaders, chunk: bytes, finishing: bool
    ) -> tuple[int, HTTPHeaders, bytes]:
        for name, value in headers(self._nonce).items():
            headers_[name] = value
        return status_code, headers_, chunk


def install(settings: dict[str, Any]) -> None:
    """``settings``: the settings of Flower's tornado application."""
    settings["transforms"] = [*settings.get("transforms", ()), SecurityHeaders]
