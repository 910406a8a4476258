"""The composition root: opens what there is, wires it, serves it, and takes it down in order.

Taking down: no new fires, agents are told to come back (`GoAway`, 1012), requests under way end, the
database is closed.
"""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from fastapi import FastAPI
from starlette.routing import WebSocketRoute

from presence import __version__
from presence.clock import Clock, SystemClock
from presence.controlplane.api import paths, problems, router
from presence.controlplane.api.auth import Services
from presence.controlplane.api.document import DESCRIPTION, Documented
from presence.controlplane.api.edge import Edge
from presence.controlplane.api.limiting import Limiter
from presence.controlplane.bus import Bus
from presence.controlplane.connections import Connections
from presence.controlplane.dispatch import Dispatcher
from presence.controlplane.gateway import Gateway
from presence.controlplane.leases import Leases
from presence.controlplane.metrics import Metrics
from presence.controlplane.sealing import read_keys
from presence.controlplane.server import Server, listening, loop_factory, url_of
from presence.controlplane.services.accounts import Accounts
from presence.controlplane.services.applications import Applications
from presence.controlplane.services.asset_groups import AssetGroups
from presence.controlplane.services.associations import Associations
from presence.controlplane.services.audits import Audits
from presence.controlplane.services.deliveries import Deliveries
from presence.controlplane.services.enrollments import Enrollments
from presence.controlplane.services.events import Announcer, Events
from presence.controlplane.services.executions import Executions
from presence.controlplane.services.package import Package
from presence.controlplane.services.presences import Presences
from presence.controlplane.services.reach import EffectiveAccess
from presence.controlplane.services.retention import Keeper
from presence.controlplane.services.roles import Roles
from presence.controlplane.services.scans import Scans
from presence.controlplane.services.secrets_at_rest import SecretsAtRest
from presence.controlplane.services.sessions import Sessions
from presence.controlplane.services.users import Users
from presence.controlplane.services.watch import Watch
from presence.controlplane.services.webhook_actions import WebhookActions
from presence.controlplane.services.webhooks import Webhooks
from presence.controlplane.settings import ControlPlaneSettings
from presence.controlplane.store.engine import Database, open_database
from presence.controlplane.store.lock import served
from presence.controlplane.store.measured import MeasuredDatabase
from presence.controlplane.store.migrations import migrate
from presence.controlplane.upkeep import ensure_keys
from presence.errors import ConfigurationError, DatabaseUnavailable
from presence.logs import get_logger
from presence.protocol import AGENT_PATH
from presence.supervisor import Watchdog, notify, watchdog_seconds
from presence.tracing import Spans, traced

ACTIVE_CANARIES = 3

_log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class InitResult:
    """What `init` made; the secret cannot be shown again."""

    key_id: str
    key_secret: str = field(repr=False)
    organization_id: str


@dataclass(frozen=True, slots=True)
class ControlPlane:
    """The wired parts that somebody must run."""

    app: FastAPI
    gateway: Gateway
    dispatcher: Dispatcher
    sessions: Sessions
    secrets: SecretsAtRest
    keeper: Keeper
    watch: Watch


def assemble(settings: ControlPlaneSettings, database: Database, clock: Clock, spans: Spans) -> ControlPlane:
    """Wires the parts; starts nothing. Raises ConfigurationError."""
    sealer = read_keys(settings.encryption_keys_file)
    metrics = Metrics()
    database = MeasuredDatabase(database, metrics)
    bus, connections, leases = Bus(), Connections(), Leases(settings.dispatch.lease)
    presences = Presences(database, clock, connections, leases, settings.auth.key_lifetime)
    dispatcher = Dispatcher(database, clock, bus, connections, leases, sealer, metrics, spans)
    sessions = Sessions(database, clock, bus, connections, leases, metrics)
    gateway = Gateway(presences, sessions, connections, bus, clock, settings.dispatch)
    announcer = Announcer(bus, metrics, spans)
    services = Services(
        accounts=Accounts(database, clock, settings.auth.token_lifetime),
        roles=Roles(database, clock),
        users=Users(database, clock),
        asset_groups=AssetGroups(database, clock, connections),
        presences=presences,
        enrollments=Enrollments(database, clock, presences.rotations, presences.key_lifetime),
        package=Package(settings.server.agent_package),
        webhooks=Webhooks(database, clock, connections, sealer),
        associations=Associations(database, clock),
        effective_access=EffectiveAccess(database),
        webhook_actions=WebhookActions(database, clock, bus),
        events=Events(database, clock, announcer),
        applications=Applications(database, clock, announcer),
        scans=Scans(database, clock),
        executions=Executions(database, clock, announcer, with_failed=settings.events.failed_executions),
        deliveries=Deliveries(database, clock, bus, connections),
        audits=Audits(database),
        limiter=Limiter(settings.limits, clock),
        clock=clock,
        active_within=int(settings.dispatch.canary_every * 1000) * ACTIVE_CANARIES,
        public_url=settings.server.public_url,
    )
    watch = Watch(database, clock, connections, dispatcher.is_alive, metrics)
    app = create_app(services, gateway, watch, settings.server.metrics)
    keeper = Keeper(database, clock, settings.retention)
    return ControlPlane(app, gateway, dispatcher, sessions, SecretsAtRest(database, clock, sealer), keeper, watch)


def create_app(services: Services, gateway: Gateway, watch: Watch, metrics_for: str) -> FastAPI:
    """The REST API and the agents' websocket as one application. `metrics_for`: as `[server] metrics`."""
    app = Documented(
        title="Presence control plane",
        description=DESCRIPTION,
        version=__version__,
        # They would load their scripts from the internet.
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        # Its records would hold inputs, secrets included.
        telemetry={
            "tracing": False,
            "metrics": False,
            "logs": False,
            "operation_spans": False,
            "auto_configure": False,
        },
    )
    app.state.services = services
    app.state.watch, app.state.metrics_for = watch, metrics_for
    app.state.paths = paths()
    app.add_middleware(Edge, paths=app.state.paths, limiter=services.limiter, metrics=watch.metrics)
    problems.install(app)
    app.include_router(router)
    app.router.routes.append(WebSocketRoute(AGENT_PATH, gateway.converse, name="agent"))
    return app


@asynccontextmanager
async def serving(settings: ControlPlaneSettings) -> AsyncIterator[str]:
    """Serves while entered; gives the base URL. Leaving stops it gracefully, within `GRACE_SECONDS` or so.

    Raises DatabaseError (also where another process serves the database), AddressUnavailable or ConfigurationError. A
    failing part cancels the caller's body and comes out as an ExceptionGroup; the end of the right to serve is one.
    """
    async with (
        open_database(settings.database) as database,
        served(settings.database) as right,
        traced(settings.tracing, "presence-control-plane") as spans,
    ):
        with listening(settings.server) as listener:
            plane = assemble(settings, database, SystemClock(), spans)
            await plane.secrets.check()
            await plane.sessions.recover()
            server = Server(plane.app, plane.gateway, settings.server)
            async with asyncio.TaskGroup() as group:
                dispatching = group.create_task(plane.dispatcher.run(), name="dispatch")
                keeping = group.create_task(plane.keeper.run(), name="retention")
                watching = group.create_task(right.lost(), name="right to serve")
                running = group.create_task(server.serve([listener]), name="http")
                await server.up.wait()
                url = url_of(settings.server, listener)
                _log.info("listening", url=url)
                status = f"STATUS=listening at {url}"
                feeding = group.create_task(_feed(plane.watch, status), name="watchdog")
                notify("READY=1", status)
                try:
                    yield url
                finally:
                    notify("STOPPING=1", "STATUS=stopping")
                    for task in (dispatching, keeping, watching, feeding):
                        task.cancel()
                    server.leave()
                    await running
                    await plane.watch.close()


async def _feed(watch: Watch, status: str) -> None:
    """Feeds the supervisor's watchdog, where there is one, as long as the service makes progress."""
    seconds = watchdog_seconds(os.environ)
    if seconds is not None:
        await Watchdog(seconds, watch.hanging, lambda: notify(status)).run()


async def serve(settings: ControlPlaneSettings) -> None:
    """Serves until SIGTERM or SIGINT."""
    stop, loop = asyncio.Event(), asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    async with serving(settings):
        await stop.wait()
        _log.info("stopping")


def run_serve(settings: ControlPlaneSettings) -> None:
    """Serves until SIGTERM or SIGINT, then returns. Raises PresenceError."""
    # A database thread that has its answer waits for the interpreter lock: 5 ms by default under load.
    sys.setswitchinterval(0.0005)
    with asyncio.Runner(loop_factory=loop_factory()) as runner:
        try:
            runner.run(serve(settings))
        except ExceptionGroup as failed:
            if lost := failed.subgroup(DatabaseUnavailable):
                raise lost.exceptions[0] from None
            raise


def run_init(settings: ControlPlaneSettings, organization: str) -> InitResult:
    """Makes the database if need be, and an organization with an administrator. Raises PresenceError."""
    name = organization.strip()
    if not 1 <= len(name) <= 128 or not name.isprintable():
        raise ConfigurationError("the organization's name must have 1 to 128 printable characters")
    migrate(settings.database)

    async def create() -> InitResult:
        async with open_database(settings.database) as database:
            await ensure_keys(settings, database)
            made = await Accounts(database, SystemClock(), settings.auth.token_lifetime).create_organization(name)
        return InitResult(made.key_id, made.key_secret, made.organization_id)

    return asyncio.run(create())


def run_migrate(settings: ControlPlaneSettings) -> None:
    """Brings the database to this version's schema, and makes the encryption keys if need be. Raises PresenceError."""
    migrate(settings.database)

    async def ensure() -> None:
        async with open_database(settings.database) as database:
            await ensure_keys(settings, database)

    asyncio.run(ensure())
