"""The API's description as one HTML page: no script, nothing loaded from anywhere, so it works offline."""

from __future__ import annotations

import re
from base64 import b64encode
from hashlib import sha256
from html import escape

import orjson

from tools.types import JsonObject, JsonValue

STYLE = """
:root { color-scheme: light dark; font: 16px/1.5 system-ui, sans-serif }
body { max-width: 60rem; margin: 2rem auto; padding: 0 1rem }
code, pre { font: .85rem/1.4 ui-monospace, monospace }
pre { overflow: auto; padding: .6rem .8rem; border-radius: .4rem; background: #8882 }
h2 { margin-top: 2.5rem; border-top: 1px solid #8884; padding-top: 1rem }
h2 b { display: inline-block; min-width: 4rem; text-transform: uppercase; font-size: .8em }
table { border-collapse: collapse } td, th { padding: .2rem .8rem .2rem 0; text-align: left; vertical-align: top }
details { margin: .4rem 0 } summary { cursor: pointer }
"""

POLICY = (
    f"default-src 'none'; style-src 'sha256-{b64encode(sha256(STYLE.encode()).digest()).decode()}'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
"""The page's Content-Security-Policy: its own style and nothing else."""

_CODE = re.compile(r"`([^`]+)`")


def docs_page(description: JsonObject) -> str:
    """The page for an OpenAPI description."""
    info = _object(description.get("info"))
    parts = [f"<h1>{_text(info, 'title')} {_text(info, 'version')}</h1>{_paragraphs(_text(info, 'description'))}"]
    parts.append('<p>For programs: <a href="openapi.json">openapi.json</a> (OpenAPI 3.1)</p>')
    for path, methods in _object(description.get("paths")).items():
        parts += [_operation(path, method, _object(what)) for method, what in _object(methods).items()]
    components = _object(description.get("components"))
    for scheme in _object(components.get("securitySchemes")).values():
        parts.append(f"<h2>Access</h2>{_paragraphs(_text(_object(scheme), 'description'))}")
    parts.append("<h2>Shapes</h2>")
    for name, schema in _object(components.get("schemas")).items():
        meaning = _text(_object(schema), "description")
        inside = f"<p>{meaning}</p>{_json(schema)}"
        parts.append(f'<details id="{escape(name)}"><summary><code>{escape(name)}</code></summary>{inside}</details>')
    title = _text(info, "title")
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{title}: the API</title>'
        f'<meta name="viewport" content="width=device-width"><style>{STYLE}</style><body>{"".join(parts)}</body></html>'
    )


def _operation(path: str, method: str, what: JsonObject) -> str:
    html = f"<h2><b>{escape(method)}</b> <code>{escape(path)}</code></h2>"
    html += f"<p><strong>{_text(what, 'summary')}.</strong></p>{_paragraphs(_text(what, 'description'))}"
    html += "<p>Needs a key where one was made.</p>" if what.get("security") else "<p>Open to everyone.</p>"
    html += _parameters(what.get("parameters"))
    body = _object(what.get("requestBody"))
    for kind, content in _object(body.get("content")).items():
        html += f"<h3>Request</h3><p><code>{escape(kind)}</code>: {_shape(_object(content))}</p>"
        html += _examples(_object(content))
    html += "<h3>Responses</h3><table>"
    for status, response in _object(what.get("responses")).items():
        shapes = _object(_object(response).get("content")).items()
        told = "".join(
            f"<div><code>{escape(kind)}</code> {_shape(_object(content))}{_examples(_object(content))}</div>"
            for kind, content in shapes
        )
        html += f"<tr><th>{escape(status)}</th><td>{_text(_object(response), 'description')}{told}</td></tr>"
    return html + "</table>"


def _parameters(parameters: JsonValue) -> str:
    rows = ""
    for one in map(_object, parameters if isinstance(parameters, list) else []):
        must = ", required" if one.get("required") else ""
        rows += f"<tr><th><code>{_text(one, 'name')}</code></th><td>{_text(one, 'in')}{must}: {_limits(one)}</td></tr>"
    return f"<h3>Parameters</h3><table>{rows}</table>" if rows else ""


def _limits(parameter: JsonObject) -> str:
    """What a parameter means, and its type with its bounds."""
    schema = _object(parameter.get("schema"))
    kinds = schema.get("anyOf")
    for kind in map(_object, kinds if isinstance(kinds, list) else []):
        schema = schema | kind if kind.get("type") != "null" else schema
    said = {key: value for key, value in schema.items() if key not in ("title", "description", "anyOf", "examples")}
    bounds = escape(orjson.dumps(said).decode())
    return f"{_text(parameter, 'description')} <code>{bounds}</code>"


def _shape(content: JsonObject) -> str:
    schema = _object(content.get("schema"))
    name = _text(schema, "$ref").rpartition("/")[2]
    return f'<a href="#{name}">{name}</a>' if name else _text(schema, "type")


def _examples(content: JsonObject) -> str:
    examples = {name: _object(example).get("value") for name, example in _object(content.get("examples")).items()}
    if "example" in content:
        examples["example"] = content["example"]
    return "".join(
        f"<details><summary>{escape(name)}</summary>{_json(value)}</details>" for name, value in examples.items()
    )


def _json(value: JsonValue) -> str:
    text = value if isinstance(value, str) else orjson.dumps(value, option=orjson.OPT_INDENT_2).decode()
    return f"<pre>{escape(text)}</pre>"


def _paragraphs(text: str) -> str:
    return "".join(f"<p>{paragraph}</p>" for paragraph in text.split("\n\n") if paragraph)


def _object(value: JsonValue) -> JsonObject:
    return value if isinstance(value, dict) else {}


def _text(value: JsonObject, key: str) -> str:
    """A text of the description, safe to stand in the page, what stands in backticks as code."""
    text = value.get(key)
    return _CODE.sub(r"<code>\1</code>", escape(text)) if isinstance(text, str) else ""
