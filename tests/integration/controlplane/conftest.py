"""A running control plane for each test, and a client that is logged in to it."""

import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest

from presence.controlplane.app import InitResult, run_init
from presence.controlplane.settings import ControlPlaneSettings, Dispatch, Server, Store
from tests.integration.controlplane.peers import Caller, logged_in


@pytest.fixture
def dispatch() -> Dispatch:
    """Tests of leases and canaries override it with shorter times."""
    return Dispatch()


@pytest.fixture
def settings(tmp_path: Path, dispatch: Dispatch) -> ControlPlaneSettings:
    return ControlPlaneSettings(
        server=Server(port=0), database=Store(url=f"sqlite:///{tmp_path}/control-plane.db"), dispatch=dispatch
    )


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, InitResult]:
    """A database with one organization, made once: every test has a copy."""
    path = tmp_path_factory.mktemp("template") / "control-plane.db"
    return path, run_init(ControlPlaneSettings(database=Store(url=f"sqlite:///{path}")), "acme")


@pytest.fixture
def administrator(settings: ControlPlaneSettings, template: tuple[Path, InitResult]) -> InitResult:
    shutil.copy(template[0], settings.database.path)
    return template[1]


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
