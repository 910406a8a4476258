"""Which resource a path names. Under /api/v4 upper and lower case are the same, and one slash at the end is no matter.

Clients of AppScan on Cloud's API write `/api/V4/webhooks` and the like. The path is brought into the form of the
document before anything else looks at it; what stands for an id stays as it is.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass

API = "/api/v4"


@dataclass(frozen=True, slots=True)
class Found:
    """`template`: as in the document. `path`: the path in its form."""

    template: str
    path: str
    methods: frozenset[str]


class Paths:
    """`templates`: the resources, with their methods."""

    def __init__(self, templates: Mapping[str, Collection[str]]) -> None:
        self._exact: dict[str, Found] = {}
        self._parts: dict[int, list[tuple[list[str], Found]]] = {}
        # Literal parts come before those that stand for something.
        for template, methods in sorted(templates.items(), key=lambda item: item[0].count("{")):
            found = Found(template, template, frozenset(methods))
            if template.startswith(API):
                parts = template.split("/")
                self._parts.setdefault(len(parts), []).append((parts, found))
            else:
                self._exact[template] = found

    def find(self, path: str) -> Found | None:
        if path[: len(API)].lower() != API:
            return self._exact.get(path)
        given = path.removesuffix("/").split("/")
        for parts, found in self._parts.get(len(given), ()):
            if all(_fits(part, text) for part, text in zip(parts, given, strict=True)):
                written = "/".join(
                    text if _is_variable(part) else part for part, text in zip(parts, given, strict=True)
                )
                return Found(found.template, written, found.methods)
        return None


def _is_variable(part: str) -> bool:
    return part.startswith("{")


def _fits(part: str, text: str) -> bool:
    return bool(text) if _is_variable(part) else part.lower() == text.lower()
