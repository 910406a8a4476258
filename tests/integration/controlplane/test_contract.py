"""schemathesis reads /openapi.json and tries every resource: no failure of ours, and no answer that is not declared."""

import asyncio
import shutil
import sysconfig
from pathlib import Path

import pytest

from tests.integration.controlplane.peers import Caller

CHECKS = (
    "not_a_server_error,status_code_conformance,content_type_conformance,response_headers_conformance,"
    "response_schema_conformance,unsupported_method"
)
EXAMPLES = 10
SECONDS = 25


@pytest.mark.timeout(180)
async def test_no_resource_fails_or_answers_what_is_not_declared(caller: Caller, tmp_path: Path) -> None:
    presence_id, _ = await caller.presence()
    await caller.webhook(presence_id)
    await caller.event()
    program = shutil.which("st", path=sysconfig.get_path("scripts"))
    assert program, "schemathesis is not installed; run: pip install '.[control-plane,test]'"
    process = await asyncio.create_subprocess_exec(
        program, "run", f"{caller.url}/openapi.json", "--no-color", "--phases", "examples,coverage,fuzzing",
        "--header", f"Authorization: {caller.headers['Authorization']}", "--max-examples", str(EXAMPLES),
        "--seed", "5", "--checks", CHECKS, "--workers", "2", "--generation-database", "none", "--no-shrink",
        "--warnings", "off", "--max-time", str(SECONDS), "--suppress-health-check", "all",
        # It would end the session that all others go on with.
        "--exclude-path", "/api/v4/Account/Logout",
        cwd=tmp_path, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    output, _ = await process.communicate()
    assert process.returncode == 0, output.decode()[-20_000:]
