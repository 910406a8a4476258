"""The original description's example: the request line and the Host header, byte for byte; and its firewall."""

import json

from tests.support.namespace import ADDRESS, run_in_namespace


async def test_a_scans_end_becomes_the_described_request() -> None:
    """ "The request sent will then be: GET /ScanEnded/9ea1fcb6-dc1d-443a-bfff-7465ced2ef1b HTTP/1.1 Host:
    myservice.com" """
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


async def test_no_firewall_is_opened() -> None:
    """ "When a webhook is initiated, the Presence gets a command from ASoC, and sends an HTTP GET request to the URI
    set for the webhook in the local network. Due to the Presence, this HTTP request can be sent to servers within the
    organization without needing to open the firewall to incoming requests from ASoC." """
    found = json.loads(await run_in_namespace("tests.acceptance.firewall", names=("myservice.com",)))
    assert len(found["without"]) == 2  # it is the firewall that keeps them out
    assert found["with"] == []
    assert found["while_connected"] == []
    assert found["state"] == "succeeded"
    assert found["request"].startswith(
        "GET /ScanEnded/9ea1fcb6-dc1d-443a-bfff-7465ced2ef1b HTTP/1.1\r\nHost: myservice.com\r\n"
    )
    assert found["connections"] == 1  # the agent's
