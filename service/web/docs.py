"""The API documentation as one page without scripts and external files: it works offline and under any content policy.

The page that sends requests is `try_page.py`: docs/decisions/0046.
"""

import base64
import hashlib
import html
import json
from collections.abc import Iterator, Mapping
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from service.providers.registry import FAMILIES
from service.web.api.openapi import document
from service.web.problems import TITLES

_STYLE = """
:root{color-scheme:light dark;--line:#8883;--dim:#777}
body{font:16px/1.55 system-ui,sans-serif;max-width:62rem;margin:0 auto;padding:1.5rem}
code,pre{font:14px/1.45 ui-monospace,monospace}pre{overflow:auto;border:1px solid var(--line);padding:.7rem;border-radius:.4rem}
table{border-collapse:collapse;width:100%}td,th{text-align:left;vertical-align:top;padding:.3rem .6rem .3rem 0;border-bottom:1px solid var(--line)}
h1 small{font-weight:400;color:var(--dim)}h2{margin-top:2.5rem;border-bottom:2px solid var(--line)}
details{border:1px solid var(--line);border-radius:.4rem;padding:.5rem .9rem;margin:.6rem 0}summary{cursor:pointer}
summary b{display:inline-block;min-width:3.4rem}.dim{color:var(--dim)}
"""


_STYLE_HASH = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()
_POLICY = {
    "Content-Security-Policy": (
        f"default-src 'none'; style-src 'sha256-{_STYLE_HASH}'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
}


def render(openapi: Mapping[str, Any], root: str = "") -> str:
    """Return an OpenAPI document and the catalogue as HTML.

    :param root: the relative address of the server's root, such as ``../``
    """
    parts = [
        "<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport content='width=device-width'>",
        f"<title>Dovecote API</title><style>{_STYLE}</style>",
        f"<h1>Dovecote API <small>{_text(openapi['info']['version'])}</small></h1>",
        f"<p>{_text(openapi['info']['summary'])}</p>",
        f"<p><a href='{root}docs/try'>Try it</a>: send requests from this browser. <a href='{root}openapi.json'>openapi.json</a>: for tools.</p>",
    ]
    parts.append(_AUTHENTICATION)
    for tag in openapi["tags"]:
        parts += [f"<h2>{_text(tag['name'])}</h2><p>{_text(tag['description'])}</p>"]
        parts += [_operation(openapi, *each) for each in _operations(openapi) if tag["name"] in each[2]["tags"]]
    parts.append("<h2>Completion webhook</h2>")
    parts += [_operation(openapi, "POST", "your callback_url", hook["post"]) for hook in openapi["webhooks"].values()]
    parts.append("<h2>Families and operations</h2>")
    parts += list(_families())
    parts.append("<h2>Schemas</h2>")
    parts += [
        _details(name, _about(schema) + _properties(schema))
        for name, schema in openapi["components"]["schemas"].items()
    ]
    rows = "".join(f"<tr><td><code>{_text(code)}</code><td>{_text(title)}" for code, title in TITLES.items())
    parts.append(f"<h2>Problem codes</h2><table>{rows}</table></html>")
    return "\n".join(parts)


_AUTHENTICATION = """<h2 id=authentication>Authentication</h2>
<p>Send an API key with every request to <code>/v1/…</code>, in the header <code>Authorization: Bearer &lt;key&gt;</code>.
The operator of this Dovecote creates keys: <code>dovecote keys create &lt;client&gt;</code>. A key belongs to a client, and a
client sees only its own tasks. Each operation below names the scope that a key needs.</p>
<pre>export DOVECOTE_KEY=dove_…
curl -H "Authorization: Bearer $DOVECOTE_KEY" http://127.0.0.1:8080/v1/tasks</pre>
<p>A missing, unknown, expired or revoked key gets 401; <code>code</code> says which. A key without the scope gets 403. A
Dovecote on loopback for which no key exists accepts requests from this machine without a key.</p>"""


def _operations(openapi: Mapping[str, Any]) -> Iterator[tuple[str, str, Mapping[str, Any]]]:
    for path, methods in openapi["paths"].items():
        for method, operation in methods.items():
            yield method.upper(), path, operation


def _operation(openapi: Mapping[str, Any], method: str, path: str, operation: Mapping[str, Any]) -> str:
    inside = [f"<p>{_prose(operation['description'])}</p>" if operation.get("description") else ""]
    if operation.get("parameters"):
        rows = "".join(
            f"<tr><td><code>{_text(each['name'])}</code> <span class=dim>{_text(each['in'])}</span>"
            f"<td>{_type(each['schema'])}<td>{_prose(each['description'])}"
            for each in operation["parameters"]
        )
        inside.append(f"<table>{rows}</table>")
    if "requestBody" in operation:
        for kind, each in operation["requestBody"]["content"].items():
            schema = each["schema"]
            shown = "" if kind == "application/json" else f" <span class=dim>{_text(kind)}</span>"
            inside.append(f"<p>Body: {_type(schema)}{shown}</p>" + ("" if "$ref" in schema else _properties(schema)))
            if "example" in each:
                inside.append(f"<pre>{_text(json.dumps(each['example'], indent=2, ensure_ascii=False))}</pre>")
    if "security" in operation:
        scopes = ", ".join(f"<code>{_text(scope)}</code>" for each in operation["security"] for scope in each["key"])
        inside.append(f"<p>Scope: {scopes}. <a href='#authentication'>Authentication</a>.</p>")
    rows = "".join(_response_row(status, _resolve(openapi, each)) for status, each in operation["responses"].items())
    inside.append(f"<table>{rows}</table>")
    title = f"<b>{method}</b> <code>{_text(path)}</code> — {_text(operation['summary'])}"
    return f"<details id='{_text(operation['operationId'])}'><summary>{title}</summary>{''.join(inside)}</details>"


def _response_row(status: str, response: Mapping[str, Any]) -> str:
    shown = " or ".join(
        f"{_type(each['schema'])} <span class=dim>{_text(kind)}</span>"
        for kind, each in response.get("content", {}).items()
    )
    return f"<tr><td>{_text(status)}<td>{_prose(response['description'])}<td>{shown}"


def _families() -> Iterator[str]:
    for family in FAMILIES.values():
        yield f"<h3>{_text(family.title)}</h3>"
        for operation in family.operations.values():
            example = {"family": family.name, "operation": operation.name, "input": _example(operation.input)}
            body = (
                f"{_properties(operation.input)}<pre>{_text(json.dumps(example, indent=2, ensure_ascii=False))}</pre>"
            )
            yield _details(f"{family.name} {operation.name}", body, operation.title)


def _example(schema: Mapping[str, Any]) -> dict[str, Any]:
    """Return an input with the required fields, from their examples."""
    fields = schema.get("properties", {})
    return {
        name: next(iter(fields[name].get("examples", ["…"]))) for name in schema.get("required", []) if name in fields
    }


def _details(name: str, inside: str, title: str = "") -> str:
    anchor = _text(name.replace(" ", "-"))
    shown = f" — {_text(title)}" if title else ""
    return f"<details id='{anchor}'><summary><code>{_text(name)}</code>{shown}</summary>{inside}</details>"


def _about(schema: Mapping[str, Any]) -> str:
    return f"<p>{_prose(schema['description'])}</p>" if "description" in schema else ""


def _properties(schema: Mapping[str, Any]) -> str:
    required = set(schema.get("required", ()))
    rows = "".join(
        f"<tr><td><code>{_text(name)}</code>{' *' if name in required else ''}<td>{_type(field)}<td>{_prose(field.get('description', ''))}"
        for name, field in schema.get("properties", {}).items()
    )
    return f"<table>{rows}</table>" if rows else ""


def _type(schema: Mapping[str, Any]) -> str:
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        return f"<a href='#{_text(name)}'>{_text(name)}</a>"
    for several in ("anyOf", "oneOf"):
        if several in schema:
            return " or ".join(_type(each) for each in schema[several])
    kind = schema.get("type", "any")
    name = " or ".join(kind) if isinstance(kind, list) else str(kind)
    if "items" in schema:
        return f"{_text(name)} of {_type(schema['items'])}"
    if "enum" in schema:
        return ", ".join(f"<code>{_text(json.dumps(value))}</code>" for value in schema["enum"])
    limits = [
        f"{limit} {schema[limit]}"
        for limit in ("minimum", "maximum", "maxLength", "maxItems", "default")
        if limit in schema
    ]
    return _text(name) + (f" <span class=dim>({_text(', '.join(limits))})</span>" if limits else "")


def _resolve(openapi: Mapping[str, Any], response: Mapping[str, Any]) -> Mapping[str, Any]:
    if "$ref" not in response:
        return response
    found: Mapping[str, Any] = openapi["components"]["responses"][response["$ref"].rpartition("/")[2]]
    return found


def _prose(text: str) -> str:
    """Return text as HTML, with `code` for text between backticks."""
    parts = _text(text).split("`")
    return "".join(f"<code>{part}</code>" if number % 2 else part for number, part in enumerate(parts))


def _text(text: Any) -> str:
    return html.escape(str(text))


async def serve_document(_: Request) -> Response:
    """Return the OpenAPI document."""
    return Response(json.dumps(document(), ensure_ascii=False), media_type="application/json")


async def serve_page(request: Request) -> Response:
    """Return the page."""
    root = "../" if getattr(request.state, "trailing_slash", False) else ""
    return Response(render(document(), root), headers=_POLICY, media_type="text/html; charset=utf-8")


ROUTES = [Route("/openapi.json", serve_document), Route("/docs", serve_page)]
