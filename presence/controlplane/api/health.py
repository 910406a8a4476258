"""For whoever watches over the service."""

from fastapi import APIRouter

from presence.controlplane.api.schemas import Output

router = APIRouter(tags=["Health"])


class Health(Output):
    status: str = "ok"


@router.get("/healthz")
async def healthz() -> Health:
    """The process answers."""
    return Health()
