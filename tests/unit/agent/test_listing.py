"""What the journal shows: over the connection of the daemon, and read-only from the file when no agent runs."""

from pathlib import Path

import pytest

from presence.agent import listing
from presence.agent.listing import Page, journal_file
from presence.errors import PresenceError
from tests.support.clock import ManualClock
from tests.support.journal import accept, claim, deliver, hold, opened, retry

URI = "http://10.0.0.1/hook/{SubjectId}?token=canary"


async def test_sums_count_what_the_control_plane_does_not_know_the_end_of(tmp_path: Path) -> None:
    clock = ManualClock()
    async with opened(tmp_path, clock) as journal:
        empty = await journal.look(listing.sums, None)
        assert empty == (0, 0, {}, 0, None)
        await deliver(journal, 2)
        await accept(journal, 3)
        begun = journal.now()
        clock.pass_time(5000)
        held, again, _ = await claim(journal)
        await hold(journal, held)
        await retry(journal, again, 60_000)
        await accept(journal, 1)
        sums = await journal.look(listing.sums, None)
        assert (sums.pending, sums.delivering, sums.held, sums.unreported) == (2, 1, {"unknown": 1}, 0)
        assert sums.oldest == begun


async def test_pages_follow_each_other_and_can_be_of_one_state(tmp_path: Path) -> None:
    async with opened(tmp_path, ManualClock()) as journal:
        done = await deliver(journal, 2)
        fires = [fire.id for fire in await accept(journal, 3)]
        (held, *_) = await claim(journal)
        await hold(journal, held)
        first = await journal.look(listing.listed, Page(journal.now(), most=2))
        assert [entry["id"] for entry in first] == fires[:2]
        after = int(str(first[-1]["seq"]))
        assert [entry["id"] for entry in await journal.look(listing.listed, Page(journal.now(), after))] == fires[2:]
        of_state = await journal.look(listing.listed, Page(journal.now(), state="held"))
        assert [(entry["id"], entry["reason"]) for entry in of_state] == [(held.id, "unknown")]
        everything = await journal.look(listing.listed, Page(journal.now(), all=True))
        assert [entry["id"] for entry in everything] == done + fires


async def test_a_delivery_is_shown_without_what_is_secret(tmp_path: Path) -> None:
    clock = ManualClock()
    async with opened(tmp_path, clock) as journal:
        (delivery,) = await accept(
            journal, uri=URI, method="POST", body="canary", authorization="Bearer canary", subject_id="42"
        )
        (claimed,) = await claim(journal)
        await retry(journal, claimed, 60_000)
        clock.pass_time(20_000)
        shown = await journal.look(listing.shown, (delivery.id, journal.now()))
        assert shown is not None
        assert "canary" not in str(shown)
        assert shown["target"] == "http://10.0.0.1/hook/{SubjectId}?..."
        assert (shown["body_characters"], shown["has_authorization"]) == (6, True)
        assert (shown["age_s"], shown["due_in_s"], shown["ended_ago_s"]) == (20.0, 40.0, None)
        assert await journal.look(listing.shown, ("unknown", 0)) is None


async def test_the_file_of_an_agent_that_does_not_run_says_the_same(tmp_path: Path) -> None:
    async with opened(tmp_path, ManualClock()) as journal:
        (delivery,) = await accept(journal, uri=URI)
        shown = await journal.look(listing.shown, (delivery.id, journal.now()))
    with journal_file(tmp_path / "journal.db") as file:
        assert [entry["id"] for entry in file.listed(0, 10, None, all=False)] == [delivery.id]
        found = file.shown(delivery.id)
        assert found is not None
        assert shown is not None
        assert {name: found[name] for name in ("state", "target", "log")} == {
            name: shown[name] for name in ("state", "target", "log")
        }
        assert file.shown("unknown") is None
    async with opened(tmp_path, ManualClock()) as journal:
        assert await journal.held() == ([delivery.id], {delivery.id})


async def test_a_file_in_use_a_missing_and_a_damaged_one_are_told_apart(tmp_path: Path) -> None:
    async with opened(tmp_path, ManualClock()):
        with pytest.raises(PresenceError, match="an agent uses this journal"), journal_file(tmp_path / "journal.db"):
            pass
    with pytest.raises(PresenceError, match="does not exist"), journal_file(tmp_path / "absent.db"):
        pass
    (tmp_path / "damaged.db").write_bytes(b"no journal" * 1000)
    with pytest.raises(PresenceError, match=r"damaged\.db: cannot be read"), journal_file(tmp_path / "damaged.db"):
        pass
