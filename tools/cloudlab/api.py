# SPDX-License-Identifier: Apache-2.0
"""Speak to OpenStack's APIs as an administrator, with plain HTTP."""

import json
import urllib.error
import urllib.request
from collections.abc import Mapping
from typing import Any

from labhost.failure import LabError

from cloudlab.layout import LOOPBACK, PASSWORD, USER

ANSWER_LIMIT_S = 180
#: The newest versions that the oldest release in use knows: those that
#: Nova 28 and its time have.
_VERSIONS = {
    "compute": ("OpenStack-API-Version", "compute 2.95"),
    "placement": ("OpenStack-API-Version", "placement 1.38"),
}
#: Nothing is asked by way of a proxy: all is on this machine.
_DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))
_LOGIN = {
    "auth": {
        "identity": {
            "methods": ["password"],
            "password": {
                "user": {
                    "name": USER,
                    "domain": {"id": "default"},
                    "password": PASSWORD,
                }
            },
        },
        "scope": {"project": {"name": USER, "domain": {"id": "default"}}},
    }
}


class ApiError(LabError):
    """A service refused, or did not answer.

    :ivar status: of HTTP; 0 if there was no answer.
    """

    def __init__(self, status: int, text: str) -> None:
        super().__init__(status, text)
        self.status = status
        self.text = text

    def __str__(self) -> str:
        return f"{self.status or 'no answer'}: {self.text}"


class Api:
    """The APIs of the cloud, as its administrator uses them.

    :param ports: by listener.
    """

    def __init__(self, ports: Mapping[str, int]) -> None:
        self._ports = ports
        self._token = ""

    def get(self, service: str, path: str) -> Any:
        """Return what is at a path."""
        return self._call("GET", service, path)

    def post(self, service: str, path: str, body: object = None) -> Any:
        """Send a document and return the answer."""
        return self._call("POST", service, path, body)

    def put(self, service: str, path: str, body: object = None) -> Any:
        """Send a document, or bytes, to be kept at a path."""
        return self._call("PUT", service, path, body)

    def delete(self, service: str, path: str) -> None:
        """Remove what is at a path; harmless if nothing is."""
        try:
            self._call("DELETE", service, path)
        except ApiError as exc:
            if exc.status != 404:
                raise

    def log_in(self) -> None:
        """Get a token.

        :raises ApiError: if there is none.
        """
        _, headers = self._send("POST", "identity", "/v3/auth/tokens", _LOGIN)
        self._token = headers["X-Subject-Token"]

    def _call(
        self, method: str, service: str, path: str, body: object = None
    ) -> Any:
        if not self._token:
            self.log_in()
        try:
            return self._send(method, service, path, body)[0]
        except ApiError as exc:
            if exc.status != 401:
                raise
        self.log_in()
        return self._send(method, service, path, body)[0]

    def _send(
        self, method: str, service: str, path: str, body: object
    ) -> tuple[Any, Mapping[str, str]]:
        raw = isinstance(body, bytes)
        kind = "application/octet-stream" if raw else "application/json"
        headers = {"Content-Type": kind, "X-Auth-Token": self._token}
        headers.update([_VERSIONS[service]] if service in _VERSIONS else [])
        content = body if raw else None if body is None else json.dumps(body)
        request = urllib.request.Request(
            f"http://{LOOPBACK}:{self._ports[service]}{path}",
            content.encode() if isinstance(content, str) else content,
            headers,
            method=method,
        )
        try:
            with _DIRECT.open(request, timeout=ANSWER_LIMIT_S) as answer:
                text = answer.read()
                return json.loads(text) if text else None, answer.headers
        except urllib.error.HTTPError as exc:
            text = exc.read().decode(errors="replace")
            raise ApiError(exc.code, f"{method} {path}: {text}") from exc
        except (OSError, ValueError) as exc:
            raise ApiError(0, f"{method} {path}: {exc}") from exc
