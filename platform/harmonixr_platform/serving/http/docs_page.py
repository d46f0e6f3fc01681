"""The OpenAPI document as one page of plain HTML, without scripts or files from elsewhere."""

from __future__ import annotations

import html
import json
from collections.abc import Iterator, Mapping
from typing import Any

_STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; color: #222; }
h2 { margin-top: 2rem; font-size: 1.1rem; } code, pre { font-family: ui-monospace, monospace; font-size: .9em; }
pre { background: #f4f4f2; padding: .8rem; overflow-x: auto; border-radius: 6px; } .m { color: #06c; }
table { border-collapse: collapse; } td { padding: .1rem .8rem .1rem 0; vertical-align: top; } .q { color: #666; }
"""


def docs_page(document: Mapping[str, Any]) -> str:
    """Return the page of an OpenAPI document."""
    info = document["info"]
    parts = [
        "<!doctype html><html lang=en><meta charset=utf-8>",
        f"<title>{html.escape(info['title'])}</title><style>{_STYLE}</style>",
        f"<h1>{html.escape(info['title'])} <small class=q>{html.escape(info['version'])}</small></h1>",
        *(f"<p>{html.escape(part)}</p>" for part in info["description"].split("\n\n")),
        "<p>The same as <a href=openapi.json>an OpenAPI document</a>.</p>",
        *(part for path, methods in document["paths"].items() for part in _path(path, methods)),
        "<h1>Schemas</h1>",
        *(part for name, schema in document["components"]["schemas"].items() for part in _schema(name, schema)),
    ]
    return "\n".join(parts)


def _path(path: str, methods: Mapping[str, Any]) -> Iterator[str]:
    for method, operation in methods.items():
        yield f"<h2><span class=m>{method.upper()}</span> <code>{html.escape(path)}</code></h2>"
        yield f"<p>{html.escape(operation.get('summary', ''))}"
        for kind, content in operation.get("requestBody", {}).get("content", {}).items():
            yield f"<br>takes <code>{kind}</code> {_name(content.get('schema', {}))}"
        for status, response in operation.get("responses", {}).items():
            if status.startswith("2"):
                kinds = ", ".join(
                    f"<code>{kind}</code> {_name(content.get('schema', {}))}"
                    for kind, content in response.get("content", {}).items()
                )
                yield f"<br>gives {status} {kinds}"
        yield "</p>"


def _schema(name: str, schema: Mapping[str, Any]) -> Iterator[str]:
    yield f"<h2 id={html.escape(name)}>{html.escape(name)}</h2><p>{html.escape(schema.get('description', ''))}</p>"
    if "enum" in schema:
        yield f"<p>one of {html.escape(', '.join(map(str, schema['enum'])))}</p>"
    required = schema.get("required", ())
    yield "<table>"
    for field, described in schema.get("properties", {}).items():
        must = "" if field in required else f"default {html.escape(json.dumps(described.get('default')))}"
        text = html.escape(str(described.get("description", "")))
        yield f"<tr><td><code>{field}</code><td>{_name(described)}<td class=q>{must}<td>{text}"
    yield "</table>"


def _name(schema: Mapping[str, Any]) -> str:
    if "$ref" in schema:
        name = schema["$ref"].rsplit("/", 1)[-1]
        return f"<a href=#{name}>{name}</a>"
    choices = schema.get("anyOf") or schema.get("oneOf")
    if choices:
        return " or ".join(_name(choice) for choice in choices)
    if schema.get("type") == "array":
        return f"list of {_name(schema.get('items', {}))}"
    return html.escape(str(schema.get("type", schema.get("const", ""))))
