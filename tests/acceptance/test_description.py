"""The original description's example: the request line and the Host header, byte for byte."""

import json

from tests.support.namespace import ADDRESS, run_in_namespace


async def test_a_scans_end_becomes_the_described_request() -> None:
    printed = json.loads(await run_in_namespace("tests.acceptance.description", names=("myservice.com",)))
    assert printed["request"].startswith(
        "GET /ScanEnded/9ea1fcb6-dc1d-443a-bfff-7465ced2ef1b HTTP/1.1\r\nHost: myservice.com\r\n"
    )
    headers = dict(line.split(": ", 1) for line in printed["request"].split("\r\n")[1:-2])
    assert set(headers) == {"Host", "User-Agent", "Accept", "webhook-id", "webhook-timestamp"}
    delivery = printed["delivery"]
    assert headers["webhook-id"] == delivery["Id"]
    assert delivery["State"] == "succeeded"
    assert [(attempt["Status"], attempt["Address"]) for attempt in delivery["Attempts"]] == [(204, ADDRESS)]
