"""/docs: the document as a page for people, made here: nothing of it comes from the internet, and none is a script."""

import json
import re
from collections.abc import Iterable, Mapping
from html import escape
from typing import Any, Final

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response

router = APIRouter(include_in_schema=False)

_HEADERS: Final = {
    "Content-Security-Policy": "default-src 'none'; style-src 'self'; base-uri 'none'; form-action 'none';"
    " frame-ancestors 'none'"
}
_CODE: Final = re.compile("`([^`]*)`")
_AS_CODE: Final = r"<code>\1</code>"
_STYLE: Final = """\
body { font: 15px/1.5 system-ui, sans-serif; color: #1c2330; margin: 0 auto; max-width: 62rem; padding: 1rem }
h1, h2, h3 { line-height: 1.25 } h2 { margin-top: 3rem; border-bottom: 1px solid #c9d1dc }
h3 { margin: 2rem 0 .3rem; font: bold 15px/1.4 ui-monospace, monospace; overflow-wrap: anywhere }
code, pre { font: 13px/1.4 ui-monospace, monospace; background: #f1f4f8; border-radius: 3px }
code { padding: 0 .2em } pre { padding: .6rem; overflow-x: auto }
table { border-collapse: collapse; width: 100%; margin: .5rem 0 } td { vertical-align: top }
th, td { text-align: left; padding: .2rem .6rem .2rem 0; border-bottom: 1px solid #e4e8ee }
nav a { margin-right: .8rem } a { color: #0b5cad } .method { color: #0b5cad }
@media (prefers-color-scheme: dark) { body { background: #12161d; color: #dce3ee } code, pre { background: #1d2430 }
  a, .method { color: #7db8f5 } h2, th, td { border-color: #333d4d } }
"""


@router.get("/docs")
async def docs(request: Request) -> Response:
    state = request.app.state
    if not hasattr(state, "docs_page"):
        state.docs_page = page(request.app.openapi())
    return HTMLResponse(state.docs_page, headers=_HEADERS)


@router.get("/docs/style.css")
async def style() -> Response:
    return Response(_STYLE, media_type="text/css")


def page(document: Mapping[str, Any]) -> str:
    """The page of an OpenAPI document."""
    tags: dict[str, list[str]] = {}
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            tags.setdefault(operation.get("tags", ["Other"])[0], []).append(_operation(method, path, operation))
    title = f"{document['info']['title']} {document['info']['version']}"
    models = [_model(name, model) for name, model in sorted(document["components"]["schemas"].items())]
    links = "".join(f'<a href="#{escape(name)}">{escape(name)}</a>' for name in [*tags, "Models"])
    parts = [f'<h2 id="{escape(tag)}">{escape(tag)}</h2>{"".join(texts)}' for tag, texts in tags.items()]
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>'
        '<meta name="viewport" content="width=device-width"><link rel="stylesheet" href="/docs/style.css"></head><body>'
        f"<h1>{escape(title)}</h1>{_prose(document['info'].get('description', ''))}"
        f'<p>For programs: <a href="/openapi.json">/openapi.json</a></p><nav>{links}</nav>'
        f'{"".join(parts)}<h2 id="Models">Models</h2>{"".join(models)}</body></html>'
    )


def _operation(method: str, path: str, operation: Mapping[str, Any]) -> str:
    parts = [f'<h3><span class="method">{method.upper()}</span> {escape(path)}</h3>']
    parts.append(_prose(operation.get("description", operation.get("summary", ""))))
    parameters = [
        (
            f"<code>{escape(item['name'])}</code>",
            escape(item["in"]),
            _type(item["schema"]),
            _prose(item.get("description", "")),
        )
        for item in operation.get("parameters", ())
    ]
    parts.append(_table(("Parameter", "In", "Type", ""), parameters))
    for kind, body in operation.get("requestBody", {}).get("content", {}).items():
        parts.append(f"<p>Body, <code>{escape(kind)}</code>: {_type(body.get('schema', {}))}</p>")
    answers = [
        (
            escape(status),
            escape(answer.get("description", "")),
            ", ".join(map(_content, answer.get("content", {}).values())),
        )
        for status, answer in sorted(operation["responses"].items())
    ]
    parts.append(_table(("Status", "", "Answer"), answers))
    return "".join(parts)


def _model(name: str, model: Mapping[str, Any]) -> str:
    required = model.get("required", ())
    fields = [
        (f"<code>{escape(field)}</code>", _type(schema), "required" if field in required else "", _bounds(schema))
        for field, schema in model.get("properties", {}).items()
    ]
    values = f"<p>{escape(', '.join(map(str, model['enum'])))}</p>" if "enum" in model else ""
    examples = "".join(f"<pre>{escape(json.dumps(item, indent=2))}</pre>" for item in model.get("examples", ()))
    table = _table(("Field", "Type", "", ""), fields)
    head = f'<h3 id="model-{escape(name)}">{escape(name)}</h3>'
    return head + _prose(model.get("description", "")) + values + table + examples


def _content(content: Mapping[str, Any]) -> str:
    return _type(content.get("schema", {}))


def _type(schema: Mapping[str, Any]) -> str:
    """A schema in few words, with a link to the model that it names."""
    if "$ref" in schema:
        name = escape(schema["$ref"].rpartition("/")[2])
        return f'<a href="#model-{name}">{name}</a>'
    for several in ("anyOf", "oneOf", "allOf"):
        if several in schema:
            return " or ".join(_type(one) for one in schema[several])
    if "const" in schema:
        return f"<code>{escape(json.dumps(schema['const']))}</code>"
    if "items" in schema:
        return f"array of {_type(schema['items'])}"
    if "enum" in schema:
        return escape(", ".join(map(str, schema["enum"])))
    kind = schema.get("type", "any")
    return escape(f"{kind if isinstance(kind, str) else ' or '.join(kind)} {schema.get('format', '')}".strip())


def _bounds(schema: Mapping[str, Any]) -> str:
    names = ("minLength", "maxLength", "minimum", "maximum", "minItems", "maxItems", "default")
    found = [one for one in (schema, *schema.get("anyOf", ())) if isinstance(one, Mapping)]
    return escape(", ".join(f"{name} {json.dumps(one[name])}" for one in found for name in names if name in one))


def _table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    lines = ["".join(f"<td>{cell}</td>" for cell in row) for row in rows]
    if not lines:
        return ""
    return f"<table><tr>{''.join(f'<th>{cell}</th>' for cell in head)}</tr><tr>{'</tr><tr>'.join(lines)}</tr></table>"


def _prose(text: str) -> str:
    """Paragraphs, with what is between backquotes as code."""
    paragraphs = [part.strip() for part in re.split(r"\n\s*\n", text) if part.strip()]
    return "".join(f"<p>{_CODE.sub(_AS_CODE, escape(part))}</p>" for part in paragraphs)
