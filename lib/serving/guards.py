"""What every request passes before the application sees it: size, key, headers, an id, a place in the house."""

from __future__ import annotations

import base64
import binascii
import json
import re
import secrets
import time
import uuid
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass
from typing import Any

from lib.serving.measures import Measures

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

CSP = "default-src 'self'; img-src 'self' blob:; object-src 'none'; base-uri 'none'; frame-ancestors 'none'"
HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Content-Security-Policy": CSP,
    "Referrer-Policy": "no-referrer",
}
OPEN_PATHS = ("/livez", "/readyz")
"""Answered without a key, so that an orchestrator can ask."""
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
"""Counted by name. Whoever asks may make up others, and each would be kept for good."""
_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")


@dataclass(frozen=True)
class Limits:
    """Bounds of what a request may be.

    Attributes:
        upload_bytes: body of a multipart request.
        json_bytes: any other body.
        in_flight: requests at work at once; one more is told to come back.
    """

    upload_bytes: int = 10 * 10**6
    json_bytes: int = 256 * 10**3
    in_flight: int = 64


class _TooLarge(Exception):
    """Raised out of `receive` when a body passes its limit."""


class Guard:
    """ASGI middleware; see the module.

    Args:
        app: the application.
        limits: bounds.
        api_key: asked for in `X-API-Key`, as a bearer token, or as the password of basic authentication (what a
            browser offers for a page with pictures); None asks for nothing.
        measures: told of every request.
    """

    def __init__(self, app: App, *, limits: Limits, api_key: str | None, measures: Measures) -> None:
        self._app = app
        self._limits = limits
        self._key = None if api_key is None else api_key.encode()
        self._measures = measures
        self._in_flight = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = {name.lower(): value for name, value in scope["headers"]}
        asked = headers.get(b"x-request-id", b"").decode("latin-1")
        request_id = asked if _REQUEST_ID.fullmatch(asked) else uuid.uuid4().hex
        started, status = time.perf_counter(), 500

        async def answer(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = int(message["status"])
                fixed = [(name.lower().encode(), value.encode()) for name, value in HEADERS.items()]
                fixed.append((b"x-request-id", request_id.encode()))
                message["headers"] = [*message.get("headers", []), *fixed]
            await send(message)

        self._in_flight += 1
        self._measures.in_flight.set(self._in_flight)
        try:
            await self._pass(scope, headers, receive, answer)
        finally:
            self._in_flight -= 1
            self._measures.in_flight.set(self._in_flight)
            route = getattr(scope.get("route"), "path", "other")
            method = scope["method"] if scope["method"] in METHODS else "other"
            self._measures.request(route, method, status, time.perf_counter() - started)

    async def _pass(self, scope: Scope, headers: dict[bytes, bytes], receive: Receive, send: Send) -> None:
        path = scope["path"]
        if path not in OPEN_PATHS and not self._has_key(headers):
            ask = [(b"www-authenticate", b'Basic realm="search", charset="UTF-8"')]
            await _say(send, 401, "an API key is needed: X-API-Key, or as the password of basic authentication", ask)
            return
        if path not in OPEN_PATHS and self._in_flight > self._limits.in_flight:
            await _say(send, 503, "too many requests at once; try again in a moment", [(b"retry-after", b"1")])
            return
        multipart = headers.get(b"content-type", b"").lower().startswith(b"multipart/")
        limit = self._limits.upload_bytes if multipart else self._limits.json_bytes
        too_large = f"the body may have {limit} bytes"
        length = headers.get(b"content-length", b"0")
        if not length.isdigit():
            await _say(send, 400, "Content-Length is no number")
            return
        if int(length) > limit:
            await _say(send, 413, too_large, [(b"connection", b"close")])
            return
        taken, begun, exceeded = 0, False, False

        async def bounded() -> Message:
            nonlocal taken, exceeded
            message = await receive()
            taken += len(message.get("body", b""))
            if taken > limit:
                exceeded = True
                raise _TooLarge
            return message

        async def watched(message: Message) -> None:
            nonlocal begun
            if exceeded and not begun:  # what reads the body makes "cannot be parsed" of any error
                raise _TooLarge
            begun = True
            await send(message)

        try:
            await self._app(scope, bounded, watched)
        except _TooLarge:
            if not begun:
                await _say(send, 413, too_large, [(b"connection", b"close")])

    def _has_key(self, headers: dict[bytes, bytes]) -> bool:
        if self._key is None:
            return True
        offered = headers.get(b"x-api-key", b"")
        scheme, _, rest = headers.get(b"authorization", b"").partition(b" ")
        if scheme.lower() == b"bearer":
            offered = rest.strip()
        elif scheme.lower() == b"basic":
            try:
                offered = base64.b64decode(rest.strip(), validate=True).partition(b":")[2]
            except (binascii.Error, ValueError):
                offered = b""
        return secrets.compare_digest(offered, self._key)


async def _say(send: Send, status: int, text: str, headers: list[tuple[bytes, bytes]] | None = None) -> None:
    body = json.dumps({"detail": text}).encode()
    fixed = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": [*fixed, *(headers or [])]})
    await send({"type": "http.response.body", "body": body})
