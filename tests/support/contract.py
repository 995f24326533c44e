"""Checks every response of the API against the OpenAPI document: status, media type and schema."""

import re
from collections.abc import Mapping
from typing import Any

import httpx
import jsonschema_rs

from service.web.api.openapi import document

DOCUMENT = document()
_ERROR = "application/problem+json"


class Contract:
    """The OpenAPI document as a client sees it."""

    def __init__(self) -> None:
        self.kept: set[tuple[str, str, int]] = set()
        """The observed responses: operation, path and status."""
        self._validators: dict[tuple[str, int, str], Any] = {}

    async def check(self, response: httpx.Response) -> None:
        """Fail when a response is not documented. A hook for httpx."""
        path, operation = _operation(response.request)
        if operation is None:
            return
        await response.aread()
        answer = _answer(operation, response)
        if "content" not in answer:
            assert response.content == b""
            self.kept.add((response.request.method, path, response.status_code))
            return
        if "*/*" in answer["content"]:
            self.kept.add((response.request.method, path, response.status_code))
            return
        stated = response.headers["content-type"]
        media_type = "text/csv" if stated == "text/csv; charset=utf-8" else stated
        assert media_type in answer["content"], response.headers
        content = answer["content"][media_type]
        assert media_type == _ERROR or response.status_code < 400
        body = response.text if media_type in {"text/event-stream", "text/csv"} else response.json()
        found = [error.message for error in self._validator(operation, response, content).iter_errors(body)]
        assert found == [], (path, response.status_code, found)
        self.kept.add((response.request.method, path, response.status_code))

    def _validator(self, operation: Mapping[str, Any], response: httpx.Response, content: Mapping[str, Any]) -> Any:
        key = operation["operationId"], response.status_code, response.headers["content-type"]
        if key not in self._validators:
            schema = {**content["schema"], "components": DOCUMENT["components"]}
            self._validators[key] = jsonschema_rs.Draft202012Validator(schema, validate_formats=True)
        return self._validators[key]


def _operation(request: httpx.Request) -> tuple[str, Mapping[str, Any] | None]:
    for path, methods in DOCUMENT["paths"].items():
        if re.fullmatch(re.sub(r"\{\w+\}", "[^/]+", path), request.url.path):
            return path, methods.get(request.method.lower())
    return "", None


def _answer(operation: Mapping[str, Any], response: httpx.Response) -> Mapping[str, Any]:
    promised = operation["responses"].get(str(response.status_code))
    assert promised is not None, f"{operation['operationId']} does not promise {response.status_code}: {response.text}"
    if "$ref" in promised:
        promised = DOCUMENT["components"]["responses"][promised["$ref"].rpartition("/")[2]]
    return dict(promised)


CONTRACT = Contract()
