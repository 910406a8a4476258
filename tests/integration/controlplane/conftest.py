"""A running control plane for each test, on each kind of database, and a client that is logged in to it."""

import shutil
from collections.abc import AsyncIterator, Iterator
from itertools import count
from pathlib import Path

import aiohttp
import pytest

from presence.controlplane.app import InitResult, run_init
from presence.controlplane.settings import Auth, ControlPlaneSettings, Dispatch, Limits, Server, Store
from presence.controlplane.store.engine import Database, open_database
from tests.integration.controlplane.peers import Caller, logged_in
from tests.support.postgres import Postgres, postgres

SQLITE, POSTGRESQL = "sqlite", "postgresql"
TEMPLATE = "presence_template"
_numbers = count(1)


@pytest.fixture
def dispatch() -> Dispatch:
    """Tests of leases and canaries override it with shorter times."""
    return Dispatch()


@pytest.fixture(scope="session")
def cluster() -> Iterator[Postgres]:
    """One PostgreSQL for the whole run, started by the first test that needs it."""
    with postgres() as cluster:
        yield cluster


@pytest.fixture(params=[SQLITE, POSTGRESQL])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    """Where the test's own database will be. `databases.py` has the marks that bound a test to one kind."""
    if request.param == SQLITE:
        yield Store(url=f"sqlite:///{tmp_path}/control-plane.db")
        return
    cluster: Postgres = request.getfixturevalue("cluster")
    name = f"presence_{next(_numbers)}"
    yield cluster.store(name)
    cluster.drop(name)


@pytest.fixture(scope="session")
def template_directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("template")


@pytest.fixture
def limits() -> Limits:
    """As they are by default; where thousands of requests are the test, its module overrides it."""
    return Limits()


@pytest.fixture
def settings(store: Store, template_directory: Path, dispatch: Dispatch, limits: Limits) -> ControlPlaneSettings:
    auth = Auth(encryption_keys_file=template_directory / "encryption.keys")
    return ControlPlaneSettings(server=Server(port=0), database=store, auth=auth, dispatch=dispatch, limits=limits)


@pytest.fixture(scope="session")
def templates() -> dict[bool, InitResult]:
    """What `init` made of the template databases so far: SQLite's, PostgreSQL's."""
    return {}


@pytest.fixture
def administrator(
    settings: ControlPlaneSettings,
    request: pytest.FixtureRequest,
    template_directory: Path,
    templates: dict[bool, InitResult],
) -> InitResult:
    """The database is there, with one organization: a copy of one that was made once."""
    store = settings.database
    if store.is_postgresql:
        cluster: Postgres = request.getfixturevalue("cluster")
        if True not in templates:
            cluster.create(TEMPLATE)
            templates[True] = run_init(settings.model_copy(update={"database": cluster.store(TEMPLATE)}), "acme")
        cluster.create(name_of(store), TEMPLATE)
    else:
        path = template_directory / "control-plane.db"
        if False not in templates:
            template = Store(url=f"sqlite:///{path}")
            templates[False] = run_init(settings.model_copy(update={"database": template}), "acme")
        shutil.copy(path, store.path)
    return templates[store.is_postgresql]


def name_of(store: Store) -> str:
    """Of a PostgreSQL database."""
    return store.url.partition("?")[0].rpartition("/")[2]


@pytest.fixture
async def database(settings: ControlPlaneSettings, administrator: InitResult) -> AsyncIterator[Database]:
    """Opened without a server."""
    async with open_database(settings.database) as database:
        yield database


@pytest.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as session:
        yield session


@pytest.fixture
async def caller(
    settings: ControlPlaneSettings, administrator: InitResult, http: aiohttp.ClientSession
) -> AsyncIterator[Caller]:
    async with logged_in(settings, administrator, http) as caller:
        yield caller
