"""Lists: the query options of a request, and the answer, `{Items, Count}` or a bare array."""

from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Annotated, Any

from fastapi import Query
from pydantic import WithJsonSchema
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from presence.controlplane.api.schemas import Output
from presence.controlplane.odata import MAX_TOP, Kind, ListQuery, ODataError, parse
from presence.controlplane.services.refusal import Key, Refusal

_Text = str | None
_Number = Annotated[str | None, WithJsonSchema({"type": "integer", "minimum": 0})]
_Truth = Annotated[str | None, WithJsonSchema({"type": "boolean"})]


def asking(
    fields: Mapping[str, Kind], model: type[Output], most: int = MAX_TOP
) -> Callable[..., Coroutine[Any, Any, ListQuery]]:
    """A dependency that gives the request's ListQuery: `Asked = Annotated[ListQuery, Depends(asking(FIELDS, Model))]`.

    `fields`: what may be filtered and ordered by; what `model` shows may be selected. `most`: the limit of `$top`.
    """
    shown = [field.alias or name for name, field in model.model_fields.items()]
    names = ", ".join(f"{name} ({kind})" for name, kind in fields.items())

    # The parameters are here for the document only: `parse` says better what is wrong with one.
    async def asked(
        request: Request,
        _top: Annotated[_Number, Query(alias="$top", description=f"How many, at most {most}.")] = None,
        _skip: Annotated[_Number, Query(alias="$skip", description="How many are left out at first.")] = None,
        _filter: Annotated[_Text, Query(alias="$filter", description=f"By {names}.")] = None,
        _select: Annotated[_Text, Query(alias="$select", description="Only these fields.")] = None,
        _orderby: Annotated[_Text, Query(alias="$orderby", description=f"By {', '.join(fields)}.")] = None,
        _count: Annotated[_Truth, Query(alias="$count", description="With the number of all.")] = None,
    ) -> ListQuery:
        given = request.query_params.multi_items()
        options = dict(given)
        if any(name.startswith("$") and len(request.query_params.getlist(name)) > 1 for name in options):
            raise Refusal(Key.ODATA_QUERY_ERROR, "a query option is given twice")
        try:
            return parse(options, fields, shown, most)
        except ODataError as error:
            raise Refusal(Key.ODATA_QUERY_ERROR, str(error)) from None

    return asked


async def without_options(request: Request) -> None:
    """For what is no list, or always a whole one. Raises Refusal ODATA_QUERY_ERROR."""
    if any(name.startswith("$") for name in request.query_params):
        raise Refusal(Key.ODATA_QUERY_ERROR, "this resource has no query options that begin with $")


def listed(items: Sequence[Output], count: int | None, query: ListQuery) -> Response:
    """The answer, with the selected fields only."""
    return JSONResponse({"Items": _shown(items, query), "Count": count})


def bare(items: Sequence[Output], query: ListQuery) -> Response:
    """The same for a list that is answered as a bare array."""
    return JSONResponse(_shown(items, query))


def _shown(items: Sequence[Output], query: ListQuery) -> list[dict[str, Any]]:
    shown = [item.model_dump(mode="json", by_alias=True) for item in items]
    if query.select is None:
        return shown
    return [{name: value for name, value in item.items() if name in query.select} for item in shown]
