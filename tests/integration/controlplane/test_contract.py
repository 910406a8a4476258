"""schemathesis reads /openapi.json and tries every resource: no failure of ours, and no answer that is not declared."""

import asyncio
import json
import shutil
import sysconfig
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from presence.controlplane.settings import Limits
from tests.integration.controlplane.peers import Caller
from tests.integration.controlplane.people import default_group, me, person, role_with

CHECKS = (
    "not_a_server_error,status_code_conformance,content_type_conformance,response_headers_conformance,"
    "response_schema_conformance,unsupported_method"
)
SECONDS = 20
"""For the cases that schemathesis makes of all bounds of all fields: there are more than a test has time for."""
LOGOUT = "GET /api/v4/Account/Logout"
"""It would end the session that all others go on with."""
Statuses = dict[str, Counter[int]]


@pytest.fixture
def limits() -> Limits:
    """schemathesis asks as fast as it can."""
    return Limits(requests_per_minute=100_000, logins_per_minute=1_000)


async def things(caller: Caller) -> dict[str, str]:
    """One of everything that members of the Default group see: the ids, by the names that paths have for them."""
    presence_id, _ = await caller.presence()
    group_id = await default_group(caller)
    webhook = await caller.webhook(presence_id, AssetGroupId=group_id)
    delivery = await caller.post(f"Webhooks/{webhook['Id']}/Test", {"SubjectId": "x"}, 201)
    app = await caller.post("Apps", {"Name": "known", "AssetGroupId": group_id}, 201)
    scan = await caller.post("Scans", {"Name": "x", "AppId": app["Id"], "Technology": "ScaAnalyzer"}, 201)
    execution = await caller.call("POST", f"Scans/{scan['Id']}/Executions", 201)
    return {
        "presence_id": presence_id,
        "platform": "linux_x64",
        **dict.fromkeys(("asset_group_id", "source_id", "target_id"), group_id),
        "webhook_id": webhook["Id"],
        "delivery_id": delivery["Id"],
        "application_id": app["Id"],
        "scan_id": scan["Id"],
        "execution_id": execution["Id"],
        "role_id": await role_with(caller),
        "user_id": (await me(caller))["UserId"],
    }


def configuration(known: dict[str, str], share: float) -> str:
    """So many of the requests are about these things, the rest about ids of nothing."""
    bindings = [f'"path.{name}" = {{ dictionary = "{name}", probability = {share} }}' for name in known]
    dictionaries = [f"[dictionaries.{name}]\nvalues = [{json.dumps(value)}]" for name, value in known.items()]
    return "\n".join(["[parameters]", *bindings, *dictionaries])


async def tried(caller: Caller, known: str, directory: Path, *options: str) -> Statuses:
    """How often each operation was answered by which status. Fails as schemathesis does.

    One worker: hypothesis sets Python's recursion limit, which threads share, and with two of them a test is now and
    then lost ("AST constructor recursion depth mismatch", or nothing made and nothing said).
    """
    program = shutil.which("st", path=sysconfig.get_path("scripts"))
    assert program, "schemathesis is not installed; run: pip install '.[control-plane,test]'"
    configured, report = directory / "schemathesis.toml", directory / "report.ndjson"
    configured.write_text(known)
    process = await asyncio.create_subprocess_exec(
        program, "--config-file", str(configured), "run", f"{caller.url}/openapi.json", "--no-color",
        "--header", f"Authorization: {caller.headers['Authorization']}", "--exclude-name", LOGOUT,
        "--seed", "5", "--checks", CHECKS, "--workers", "1", "--generation-database", "none", "--no-shrink",
        "--warnings", "off", "--suppress-health-check", "all", "--report-ndjson-path", str(report), *options,
        cwd=directory, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    output, _ = await process.communicate()
    assert process.returncode == 0, output.decode()[-20_000:]
    return statuses(report)


def statuses(report: Path) -> Statuses:
    found: Statuses = {}
    with report.open() as lines:
        for scenario in filter(None, (json.loads(line).get("ScenarioFinished") for line in lines)):
            recorder = scenario["recorder"]
            answers = [one["response"] for one in recorder.get("interactions", {}).values()]
            found.setdefault(recorder["label"], Counter()).update(one["status_code"] for one in answers if one)
    return found


async def operations(caller: Caller) -> dict[str, Any]:
    """Those that are tried, as the document has them."""
    async with caller.http.get(f"{caller.url}/openapi.json") as answer:
        paths = (await answer.json())["paths"]
    every = {f"{method.upper()} {path}": one for path, found in paths.items() for method, one in found.items()}
    return {label: one for label, one in every.items() if label != LOGOUT}


@pytest.mark.timeout(240)
async def test_no_resource_fails_or_answers_what_is_not_declared(caller: Caller, tmp_path: Path) -> None:
    known = configuration(await things(caller), 0.8)
    found = await tried(caller, known, tmp_path, "--phases", "fuzzing", "--max-examples", "10")
    expected = await operations(caller)
    assert found.keys() == expected.keys()
    assert not any(429 in counted for counted in found.values())
    for label, counted in found.items():
        by_resource = set(counted) - {405} - ({401} if "security" in expected[label] else set())
        assert by_resource, (label, counted)
    succeeded = {label for label, counted in found.items() if any(status < 300 for status in counted)}
    assert len(succeeded) > len(found) / 2, found.keys() - succeeded
    await tried(caller, known, tmp_path, "--phases", "examples,coverage", "--max-time", str(SECONDS))


@pytest.mark.timeout(240)
async def test_who_may_do_nothing_is_told_so_as_declared(caller: Caller, tmp_path: Path) -> None:
    nobody = await person(caller, groups=[await default_group(caller)])
    known = configuration(await things(caller) | {"user_id": nobody.user_id}, 1.0)
    options = ("--phases", "examples,fuzzing", "--mode", "positive", "--max-examples", "8")
    found = await tried(nobody, known, tmp_path, *options)
    for label, operation in (await operations(caller)).items():
        assert (403 in found[label]) == bool(operation.get("x-capabilities")), (label, found[label])
