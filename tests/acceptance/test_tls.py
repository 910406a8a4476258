"""A control plane that speaks TLS itself, and the agent that believes its authority."""

import ssl
from pathlib import Path

import pytest
import trustme

from tests.support.processes import Program
from tests.support.system import control_plane, run
from tests.support.target import Target
from tests.support.tls import authority_file


async def test_an_agent_delivers_by_a_control_plane_with_a_certificate_of_its_own(tmp_path: Path) -> None:
    authority = trustme.CA()
    certificate = authority.issue_cert("127.0.0.1")
    chain, key = tmp_path / "tls.pem", tmp_path / "tls.key"
    chain.write_bytes(b"".join(part.bytes() for part in certificate.cert_chain_pems))
    key.write_bytes(certificate.private_key_pem.bytes())
    authorities = ssl.create_default_context()
    authority.configure_trust(authorities)
    tls = {"PRESENCE_CP_SERVER__TLS_CERTIFICATE": str(chain), "PRESENCE_CP_SERVER__TLS_KEY": str(key)}
    async with Target() as target, control_plane(tmp_path, authorities=authorities, **tls) as cloud:
        assert cloud.api.url.startswith("https://")
        await cloud.api.webhook(cloud.presence_id, target.url())
        env = cloud.agent_env(tmp_path)
        code, out, _ = await run("doctor", env=env)
        assert code == 1
        assert "failed   tls: " in out
        async with Program("run", env=env | {"PRESENCE_CONTROL_PLANE__CA_FILE": authority_file(authority, tmp_path)}):
            (delivery,) = await cloud.api.event()
            assert (await cloud.api.ended(delivery))["State"] == "succeeded"


@pytest.mark.parametrize("missing", ["certificate", "key", "both"])
async def test_a_certificate_that_cannot_be_shown_is_told_at_the_start(tmp_path: Path, missing: str) -> None:
    env = {"PRESENCE_CP_DATABASE__URL": f"sqlite:///{tmp_path}/control-plane.db", "PRESENCE_CP_SERVER__PORT": "0"}
    await run("control-plane", "init", "--organization", "Test", env=env)
    (tmp_path / "there.pem").write_text("no certificate")
    for name, file in (("certificate", "TLS_CERTIFICATE"), ("key", "TLS_KEY")):
        if missing != "both" or name == "certificate":
            env[f"PRESENCE_CP_SERVER__{file}"] = str(tmp_path / ("absent.pem" if missing == name else "there.pem"))
    code, _, err = await run("control-plane", "serve", env=env)
    assert code == 78
    assert "tls_certificate" in err
    assert "Traceback" not in err
