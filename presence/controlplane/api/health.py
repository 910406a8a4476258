"""For whoever watches over the service. No log-in: the answers tell nothing about anybody's data."""

from ipaddress import ip_address
from typing import Annotated

from fastapi import APIRouter, Depends
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from presence.controlplane.api.schemas import ErrorMessage, Output
from presence.controlplane.services.refusal import Key, Refusal
from presence.controlplane.services.watch import Watch

router = APIRouter(tags=["Health"])


async def _watch(request: Request) -> Watch:
    watch: Watch = request.app.state.watch
    return watch


Watching = Annotated[Watch, Depends(_watch)]


class Health(Output):
    status: str = "ok"


class Readiness(Output):
    """`Faults`: why it is not ready."""

    status: str
    faults: list[str]


@router.get("/healthz")
async def healthz() -> Health:
    """The process answers."""
    return Health()


@router.get("/readyz", responses={503: {"model": Readiness, "description": "Not ready"}}, response_model=Readiness)
async def readyz(watch: Watching) -> Response:
    """Whether it can work: the database can be written, and what fires deliveries is alive."""
    faults = await watch.faults()
    body = Readiness(status="not ready" if faults else "ok", faults=faults)
    return JSONResponse(body.model_dump(by_alias=True), 503 if faults else 200)


@router.get(
    "/metrics",
    response_class=Response,
    responses={
        200: {"description": "Metrics", "content": {"text/plain": {}}},
        404: {"model": ErrorMessage, "description": "Not for you"},
        503: {"model": ErrorMessage, "description": "The database cannot be used now"},
    },
)
async def metrics(watch: Watching, request: Request) -> Response:
    """What is counted and measured, for Prometheus. By default only clients on the same machine may read it; the
    setting `[server] metrics` says who, and for all others it does not exist."""
    if not _may_read(request):
        raise Refusal(Key.RESOURCE_NOT_FOUND, "there is no such thing")
    content_type, text = await watch.page(request.headers.get("accept", ""))
    return Response(text, media_type=content_type)


def _may_read(request: Request) -> bool:
    match request.app.state.metrics_for:
        case "everybody":
            return True
        case "loopback":
            try:
                return request.client is not None and ip_address(request.client.host).is_loopback
            except ValueError:
                return False
        case _:
            return False
