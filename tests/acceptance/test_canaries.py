"""Where every address has a listener, nothing that a webhook can say makes the agent connect to a forbidden one."""

import json
from collections import Counter
from functools import cache
from typing import Any

import pytest

from tests.acceptance.hostile_names import shots
from tests.acceptance.hostile_uris import DELIVERED, HELD
from tests.support.namespace import run_in_namespace, unavailable

RESOLVER = "nameserver 127.0.0.53\nnameserver 127.0.0.54\noptions rotate timeout:1 attempts:2\n"
why_not = cache(unavailable)


async def findings(*arguments: str) -> dict[str, Any]:
    """What `canaries.py` found in a network of its own."""
    if reason := why_not():
        pytest.skip(reason)
    networks = ("0.0.0.0/0", "::/0")
    module = "tests.acceptance.canaries"
    return dict(
        json.loads(
            await run_in_namespace(
                module, *arguments, addresses=HELD, networks=networks, resolver=RESOLVER, timeout=110
            )
        )
    )


@pytest.mark.parametrize("mode", ["private", "deny", "observe", "wide"])
async def test_thousands_of_hostile_uris_and_subjects_reach_no_canary(mode: str) -> None:
    found = await findings("hostile", mode)
    assert found["strays"] == {}
    assert found["proven"] == 20 * 4
    assert found["fired"] - found["controls"] >= 3000
    assert found["reported"] == found["fired"]
    assert found["untruthful"] == 0, json.dumps(found["examples"], indent=1)
    assert found["refused"] >= 3000
    assert (found["observed"] > 0) == (mode == "observe")


async def test_a_name_that_changes_between_check_and_connection_reaches_no_canary() -> None:
    found = await findings("rebinding")
    assert found["naive"] > 0  # a client that resolves twice is caught: the set-up can catch one
    assert found["strays"] == {}
    assert found["ends"]["succeeded: delivered"] > 0
    assert found["ends"]["refused: denied_always"] > 0
    assert found["ends"]["refused: denied_loopback"] > 0
    assert sum(found["ends"].values()) == found["fired"]
    assert len(found["ends"]) == 3


async def test_a_name_that_moves_while_it_is_delivered_to_reaches_no_canary() -> None:
    found = await findings("moving")
    assert found["strays"] == {}
    assert found["moves"] >= 2
    assert set(found["ends"]) == {"succeeded: delivered", "refused: denied_always"}
    assert sum(found["ends"].values()) == found["fired"]


async def test_every_attempt_looks_the_name_up_again_and_decides_again() -> None:
    found = await findings("moved_between_attempts")
    assert found["strays"] == {}
    report = found["report"]
    assert (report["state"], report["reason"], report["attempts"]) == ("refused", "denied_always", 2)
    assert report["log"][0]["status"] == 503


async def test_a_name_that_is_not_known_and_a_silent_name_server_are_told_apart() -> None:
    found = await findings("name_servers")
    unknown, silent, good = (report["log"][-1] for report in found["reports"])
    assert (unknown["phase"], unknown["fault"]) == ("dns", "name_unknown")
    assert (silent["phase"], silent["fault"], silent["hint"]) == ("dns", "timeout", "name_server_silent")
    assert 500 <= silent["took"] <= 1500
    assert (good["status"], good["address"]) == (204, "10.1.2.3")


async def test_silent_name_servers_delay_no_other_name() -> None:
    found = await findings("silent_names")
    attempts = [report["log"][0] for report in found["reports"]]
    assert [attempt.get("status") for attempt in attempts] == [204] * 10
    assert max(attempt["took"] for attempt in attempts) < 1000


async def test_a_canary_counts_what_a_rule_lets_pass() -> None:
    """The check of the checks: were anything let through, it would be seen."""
    found = await findings("permitted")
    assert found["strays"] == {"127.0.0.1 port 8080": 3}
    assert found["ends"] == {"failed: attempts_exhausted": 3}


async def test_one_shots_reach_no_canary_either() -> None:
    found = await findings("one_shot")
    assert found["strays"] == {}
    ended = Counter(tried["code"] for tried in found["tried"])
    assert set(ended) <= {0, 1, 2, 3}
    assert ended[2] + ended[3] >= len(found["tried"]) // 2
    for tried in found["tried"]:
        assert "Traceback" not in tried["err"], tried
        assert tried["code"] != 0 or tried["out"]["uri"].startswith("http://10.1.2.3"), tried


def test_the_hostile_uris_are_thousands_of_many_kinds() -> None:
    every = shots()
    assert len(every) == len(set(every)) >= 3000
    assert sum(shot.reasons == DELIVERED for shot in every) > 50
