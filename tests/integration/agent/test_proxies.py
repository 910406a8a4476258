"""The link through real proxies, and never anything else through them."""

import asyncio
import ssl
from pathlib import Path

import pytest
import trustme

from presence.agent.ends import Cause, Failure, Retry
from tests.support.control_plane import ScriptedControlPlane
from tests.support.links import Observed, running
from tests.support.processes import Program, agent_env
from tests.support.proxies import CREDENTIALS, PASSWORD, microsocks, squid, tinyproxy
from tests.support.target import Target, head

NAME = "presence.example.com"
"""Nobody but squid knows that it is this machine."""
HOSTS = f"127.0.0.1 {NAME}"
VARIABLES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY")


@pytest.fixture(autouse=True)
def _no_proxy_of_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def tls(authority: trustme.CA) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(NAME, "localhost", "127.0.0.1").configure_cert(context)
    return context


@pytest.fixture
def ca_file(authority: trustme.CA, tmp_path: Path) -> Path:
    file = tmp_path / "authority.pem"
    file.write_bytes(authority.cert_pem.bytes())
    return file


@pytest.fixture
def credentials(tmp_path: Path) -> Path:
    file = tmp_path / "proxy.credentials"
    file.write_text(f"{CREDENTIALS}\n")
    return file


def at(cloud: ScriptedControlPlane, name: str = NAME) -> str:
    return cloud.url.replace("127.0.0.1", name)


async def failure(link: Observed) -> Failure:
    async with running(link):
        return await link.failed.get()


async def test_wss_goes_through_squid_which_resolves_the_name(
    tls: ssl.SSLContext, ca_file: Path, credentials: Path
) -> None:
    async with squid(hosts=HOSTS) as proxy, ScriptedControlPlane(tls=tls) as cloud:
        settings = {"ca_file": ca_file, "proxy": f"http://{proxy.place}", "proxy_credentials_file": credentials}
        async with running(Observed(at(cloud), cloud.key, **settings)):
            await cloud.ready()


async def test_wss_goes_through_tinyproxy(tls: ssl.SSLContext, ca_file: Path, credentials: Path) -> None:
    async with tinyproxy() as proxy, ScriptedControlPlane(tls=tls) as cloud:
        settings = {"ca_file": ca_file, "proxy": f"http://{proxy.place}", "proxy_credentials_file": credentials}
        async with running(Observed(at(cloud, "localhost"), cloud.key, **settings)):
            await cloud.ready()


async def test_wss_goes_through_a_socks_proxy(tls: ssl.SSLContext, ca_file: Path, credentials: Path) -> None:
    async with microsocks() as proxy, ScriptedControlPlane(tls=tls) as cloud:
        settings = {"ca_file": ca_file, "proxy": f"socks5://{proxy.place}", "proxy_credentials_file": credentials}
        async with running(Observed(at(cloud, "localhost"), cloud.key, **settings)):
            await cloud.ready()


async def test_ws_goes_through_a_tunnel_too() -> None:
    async with (
        squid(hosts=HOSTS, auth=False) as proxy,
        ScriptedControlPlane() as cloud,
        running(Observed(at(cloud), cloud.key, proxy=f"http://{proxy.place}")),
    ):
        await cloud.ready()


@pytest.mark.parametrize(
    ("variable", "scheme"), [("HTTPS_PROXY", "wss"), ("https_proxy", "wss"), ("ALL_PROXY", "wss"), ("http_proxy", "ws")]
)
async def test_the_environment_names_proxy_user_and_password(
    variable: str, scheme: str, tls: ssl.SSLContext, ca_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with squid(hosts=HOSTS) as proxy, ScriptedControlPlane(tls=tls if scheme == "wss" else None) as cloud:
        monkeypatch.setenv(variable, f"http://{CREDENTIALS}@{proxy.place}")
        async with running(Observed(at(cloud), cloud.key, ca_file=ca_file)):
            await cloud.ready()


async def test_a_host_that_no_proxy_names_is_reached_directly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    monkeypatch.setenv("NO_PROXY", NAME)
    assert (await failure(Observed(f"ws://{NAME}.invalid:1", "key"))).cause is Cause.PROXY
    monkeypatch.setenv("NO_PROXY", f".example.com,{NAME}.invalid:1")
    assert (await failure(Observed(f"ws://{NAME}.invalid:1", "key"))).cause is Cause.DNS


async def test_none_means_none_whatever_the_environment_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    assert (await failure(Observed("ws://nowhere.invalid", "key", proxy="none"))).cause is Cause.DNS


async def test_a_proxy_that_wants_a_password_says_where_to_put_it() -> None:
    async with squid() as proxy:
        found = await failure(Observed(f"ws://{NAME}:1", "key", proxy=f"http://{proxy.place}"))
    assert (found.cause, found.retry) == (Cause.PROXY, Retry.SLOWLY)
    assert "proxy_credentials_file" in found.reason
    assert "(407)" in found.reason


@pytest.mark.parametrize("kind", [squid, tinyproxy])
async def test_a_password_that_is_refused_is_not_shown(kind: object, tmp_path: Path) -> None:
    assert callable(kind)
    file = tmp_path / "credentials"
    file.write_text("presence:CANARY")
    async with kind() as proxy:
        settings = {"proxy": f"http://{proxy.place}", "proxy_credentials_file": file}
        found = await failure(Observed(f"ws://{NAME}:1", "key", **settings))
    assert found.cause is Cause.PROXY
    assert "user and password are refused" in found.reason
    assert "CANARY" not in found.reason


async def test_credentials_that_were_corrected_are_used_within_a_second(tmp_path: Path) -> None:
    file = tmp_path / "credentials"
    file.write_text("presence:wrong")
    async with squid(hosts=HOSTS) as proxy, ScriptedControlPlane() as cloud:
        settings = {"proxy": f"http://{proxy.place}", "proxy_credentials_file": file}
        async with running(Observed(at(cloud), cloud.key, pauses=True, **settings)) as link:
            assert (await link.failed.get()).retry is Retry.SLOWLY
            file.write_text(CREDENTIALS)
            async with asyncio.timeout(5):
                await cloud.ready()


async def test_a_socks_proxy_that_cannot_reach_the_destination(credentials: Path) -> None:
    async with microsocks() as proxy:
        settings = {"proxy": f"socks5://{proxy.place}", "proxy_credentials_file": credentials}
        found = await failure(Observed("ws://127.0.0.1:1", "key", **settings))
    assert (found.cause, found.retry) == (Cause.PROXY, Retry.BACKOFF)


async def test_a_socks_proxy_that_refuses_the_password() -> None:
    async with microsocks() as proxy:
        found = await failure(Observed("ws://127.0.0.1:1", "key", proxy=f"socks5://{proxy.place}"))
    assert (found.cause, found.retry) == (Cause.PROXY, Retry.SLOWLY)
    assert found.reason.startswith(f"proxy {proxy.place}: no way to 127.0.0.1:1: ")


async def test_a_destination_that_the_proxy_cannot_reach() -> None:
    async with squid(hosts=HOSTS, auth=False) as proxy:
        found = await failure(Observed(f"ws://{NAME}:1", "key", proxy=f"http://{proxy.place}"))
    assert (found.cause, found.retry) == (Cause.PROXY, Retry.BACKOFF)
    assert found.reason == f"proxy {proxy.place}: no tunnel to {NAME}:1 (status 503): it cannot reach that"


async def test_a_proxy_that_is_not_there() -> None:
    found = await failure(Observed(f"ws://{NAME}", "key", proxy="http://127.0.0.1:1"))
    assert (found.cause, found.reason) == (Cause.PROXY, "proxy 127.0.0.1:1: connection refused")
    found = await failure(Observed(f"ws://{NAME}", "key", proxy="http://nowhere.invalid:3128"))
    assert found.cause is Cause.PROXY
    assert found.reason.startswith("proxy nowhere.invalid: the name does not resolve")


async def test_what_is_no_proxy_is_told_from_one() -> None:
    async with ScriptedControlPlane() as cloud:
        found = await failure(Observed(f"ws://{NAME}", "key", proxy=cloud.url.replace("ws:", "http:")))
        assert found.cause is Cause.PROXY


async def test_the_environment_is_read_for_the_link_and_never_for_the_targets(
    tls: ssl.SSLContext, ca_file: Path, tmp_path: Path
) -> None:
    async with (
        squid(hosts=HOSTS) as proxy,
        ScriptedControlPlane(tls=tls) as cloud,
        Target() as target,
    ):
        env = agent_env(at(cloud), cloud.key, tmp_path, PRESENCE_CONTROL_PLANE__CA_FILE=str(ca_file))
        env |= dict.fromkeys(VARIABLES[:3], f"http://{CREDENTIALS}@{proxy.place}")
        async with Program("run", env=env) as agent:
            (delivery,) = await cloud.fire(target.url())
            (report,) = await cloud.reported(delivery)
            assert (report.reason, report.log[0].proxy) == ("delivered", None)
            _, headers = head(target.requests[0])
            assert "via" not in headers
            assert await agent.stop() == 0
        assert PASSWORD not in agent.text()
        assert proxy.access_log() == [f"CONNECT {NAME}:{cloud.port}"]


async def test_a_proxy_of_a_target_is_never_the_link_s(tmp_path: Path) -> None:
    async with squid(auth=False) as proxy, ScriptedControlPlane() as cloud, Target() as target:
        targets = f'[{{"host": "127.0.0.1", "proxy": "http://{proxy.place}"}}]'
        env = agent_env(cloud.url, cloud.key, tmp_path, PRESENCE_TARGETS=targets)
        env["PRESENCE_EGRESS__ALLOW"] = '["127.0.0.0/8"]'
        async with Program("run", env=env):
            (delivery,) = await cloud.fire(target.url())
            (report,) = await cloud.reported(delivery)
            assert report.log[0].proxy == proxy.place
            assert "via" in head(target.requests[0])[1]
            assert not any("CONNECT" in line for line in proxy.access_log())
