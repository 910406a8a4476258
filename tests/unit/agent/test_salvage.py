"""Journals that are really damaged: bytes flipped, cut off, overwritten, log lost. What is readable goes on."""

import random
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest
import structlog

from presence.agent.journal import Journal
from presence.agent.pages import PAGE
from presence.errors import JournalError
from tests.support.clock import ManualClock
from tests.support.control_plane import DAY
from tests.support.journal import accept, claim, deliver, hold, opened, retry, settle

MOST = 10_000


class Filled(NamedTuple):
    """A journal with something in each state, closed."""

    file: Path
    instance: str
    epoch: int
    pending: set[str]
    held: set[str]
    unreported: set[str]
    remembered: set[str]

    @property
    def all(self) -> set[str]:
        return self.pending | self.held | self.unreported | self.remembered


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


async def fill(directory: Path, clock: ManualClock, count: int = 40) -> Filled:
    """So many deliveries in each state; a body of 8,000 characters in every second."""
    async with opened(directory, clock, MOST) as journal:
        return Filled(
            directory / "journal.db", journal.instance, await journal.next_epoch(), *await some(journal, count)
        )


async def some(journal: Journal, count: int) -> tuple[set[str], set[str], set[str], set[str]]:
    remembered = {*await deliver(journal, count // 2), *await deliver(journal, count // 2, body="b" * 8000)}
    for action in (retry, hold, settle):
        await accept(journal, count // 2, uri=f"http://{action.__name__}.example/{{SubjectId}}")
        await accept(journal, count // 2, uri=f"http://{action.__name__}.example/", body="b" * 8000)
    groups: dict[str, set[str]] = {"retry": set(), "hold": set(), "settle": set()}
    for claimed in await claim(journal):
        action = {"retry": retry, "hold": hold, "settle": settle}[claimed.uri[7:].partition(".")[0]]
        await action(journal, claimed)
        groups[action.__name__].add(claimed.id)
    return groups["retry"], groups["hold"], groups["settle"], remembered


async def found(directory: Path, clock: ManualClock) -> Filled:
    """What the journal holds when it is opened."""
    async with opened(directory, clock, MOST) as journal:
        held, _ = await journal.held()
        waiting = {waiting.id for waiting in await journal.waiting(0, MOST)}
        unreported = {settled.id for settled in await journal.unreported(0, MOST)}
        epoch = await journal.next_epoch()
        rows = await journal._commits.alone(
            lambda db: db.execute("SELECT id FROM delivery WHERE reported_at IS NOT NULL").fetchall()
        )
        remembered = {id for (id,) in rows}
        pending = set(held) - waiting - unreported
        assert {claimed.id for claimed in await claim(journal)} == pending
        return Filled(directory / "journal.db", journal.instance, epoch, pending, waiting, unreported, remembered)


def aside(directory: Path) -> list[Path]:
    return [file for file in directory.iterdir() if ".damaged-" in file.name and not file.name.endswith("-wal")]


def names(directory: Path) -> set[str]:
    return {file.name for file in directory.iterdir()}


def overwrite(file: Path, at: int, content: bytes) -> None:
    with file.open("r+b") as stream:
        stream.seek(at)
        stream.write(content)


def truncate(file: Path, size: int) -> None:
    with file.open("r+b") as stream:
        stream.truncate(size)


def garbage(file: Path, page: int, pages: int = 1) -> None:
    overwrite(file, (page - 1) * PAGE, random.Random(page).randbytes(pages * PAGE))


def root_of(file: Path, table: str) -> int:
    database = sqlite3.connect(file)
    (root,) = database.execute("SELECT rootpage FROM sqlite_schema WHERE name = ?", (table,)).fetchone()
    database.close()
    return int(root)


async def test_a_sound_journal_is_left_alone(tmp_path: Path, clock: ManualClock) -> None:
    before = await fill(tmp_path, clock)
    clock.pass_time(60_000)
    after = await found(tmp_path, clock)
    assert after.instance == before.instance
    assert after[3:] == before[3:]
    assert aside(tmp_path) == []


@pytest.mark.parametrize(
    "damage",
    [
        pytest.param(lambda file: overwrite(file, 0, b"\x00" * 100), id="header"),
        pytest.param(lambda file: overwrite(file, 0, b"this is no database at all" * 4), id="other header"),
        pytest.param(lambda file: garbage(file, 1), id="schema"),
        pytest.param(lambda file: garbage(file, root_of(file, "delivery")), id="root of the table"),
        pytest.param(lambda file: garbage(file, root_of(file, "sqlite_autoindex_delivery_1")), id="index"),
        pytest.param(lambda file: garbage(file, 2), id="page map"),
    ],
)
async def test_nothing_is_lost_where_no_row_is_hit(
    tmp_path: Path, clock: ManualClock, damage: Callable[[Path], None]
) -> None:
    before = await fill(tmp_path, clock)
    damage(before.file)
    clock.pass_time(60_000)
    with structlog.testing.capture_logs() as lines:
        after = await found(tmp_path, clock)
    assert after[3:] == before[3:]
    assert after.instance == before.instance
    assert after.epoch > before.epoch + 1000
    (set_aside,) = aside(tmp_path)
    loud = [line for line in lines if line["log_level"] == "error"]
    assert [line["state"] for line in loud] == ["damaged", "set aside"]
    assert (loud[1]["file"], loud[1]["deliveries"], loud[1]["unreported"]) == (str(set_aside), 160, 120)
    assert set_aside.stat().st_mode & 0o777 == 0o600
    assert names(tmp_path) == {"journal.db", set_aside.name}


async def test_what_a_broken_page_held_is_lost_and_nothing_else(tmp_path: Path, clock: ManualClock) -> None:
    before = await fill(tmp_path, clock)
    content = before.file.read_bytes()
    leaves = [page for page in range(3, len(content) // PAGE + 1) if content[(page - 1) * PAGE] == 0x0D]
    hit = leaves[len(leaves) // 2]
    ids = {id for id in before.all if id.encode() in content[(hit - 1) * PAGE : hit * PAGE]}
    assert 0 < len(ids) < 20
    garbage(before.file, hit)
    clock.pass_time(60_000)
    after = await found(tmp_path, clock)
    assert after.all == before.all - ids
    assert len(aside(tmp_path)) == 1


async def test_a_text_that_is_no_text_costs_its_delivery_and_is_not_shown(tmp_path: Path, clock: ManualClock) -> None:
    async with opened(tmp_path, clock, MOST) as journal:
        (hit,) = await accept(journal, body="canary-" + "b" * 8000)
        rest = {fire.id for fire in await accept(journal, 10)}
    content = (tmp_path / "journal.db").read_bytes()
    overwrite(tmp_path / "journal.db", content.index(b"canary-") + 7, b"\xff\xfe")
    with structlog.testing.capture_logs() as lines:
        after = await found(tmp_path, clock)
    assert (after.all, hit.id in rest) == (rest, False)
    assert "canary" not in str(lines)


@pytest.mark.parametrize(("at", "value"), [(47, b"\x09"), (60, b"\x00\x00\x00\x00"), (60, b"\x7f"), (60, b"\xff")])
async def test_a_number_in_the_header_that_cannot_be_is_damage(
    tmp_path: Path, clock: ManualClock, at: int, value: bytes
) -> None:
    before = await fill(tmp_path, clock, count=4)
    overwrite(before.file, at, value)
    clock.pass_time(60_000)
    after = await found(tmp_path, clock)
    assert after[3:] == before[3:]
    assert len(aside(tmp_path)) == 1


@pytest.mark.parametrize("part", [0.1, 0.5, 0.9])
async def test_a_journal_that_is_cut_off_keeps_what_is_left(tmp_path: Path, clock: ManualClock, part: float) -> None:
    before = await fill(tmp_path, clock)
    content = before.file.read_bytes()
    left = content[: int(len(content) * part)]
    truncate(before.file, len(left))
    clock.pass_time(60_000)
    after = await found(tmp_path, clock)
    assert after.all <= before.all
    # The rows with a body have it on pages of its own, which may be gone.
    assert len(after.all) > len(before.all) * part / 3
    assert after.instance == before.instance


async def test_what_is_only_in_the_log_is_kept(tmp_path: Path, clock: ManualClock) -> None:
    async with opened(tmp_path, clock, MOST) as journal:
        await fill_more(journal)
        killed = {name: (tmp_path / name).read_bytes() for name in names(tmp_path)}
        held, unattempted = await journal.held()
    for name, content in killed.items():
        (tmp_path / name).write_bytes(content)
    assert (tmp_path / "journal.db-wal").stat().st_size > 100_000
    overwrite(tmp_path / "journal.db", 0, b"\x00" * 50)
    after = await found(tmp_path, clock)
    assert (after.all, unattempted) == (set(held), after.pending)
    assert after.instance == journal.instance


async def fill_more(journal: Journal) -> None:
    for _ in range(10):
        await accept(journal, 10, body="b" * 500)


async def test_an_empty_file_beside_a_log_is_damage_and_no_new_journal(tmp_path: Path, clock: ManualClock) -> None:
    async with opened(tmp_path, clock, MOST) as journal:
        await fill_more(journal)
        await journal._commits.alone(lambda db: db.execute("PRAGMA wal_autocheckpoint = 0").fetchall())
        copy = (tmp_path / "journal.db-wal").read_bytes()
        held, _ = await journal.held()
    (tmp_path / "journal.db").write_bytes(b"")
    (tmp_path / "journal.db-wal").write_bytes(copy)
    after = await found(tmp_path, clock)
    assert after.all <= set(held)
    assert len(after.all) > 50
    assert len(aside(tmp_path)) == 1


async def test_a_lost_log_loses_what_was_in_it_and_the_rest_is_sound(tmp_path: Path, clock: ManualClock) -> None:
    before = await fill(tmp_path, clock)
    async with opened(tmp_path, clock, MOST) as journal:
        await accept(journal, 10)
        kept = before.file.read_bytes()
        assert (tmp_path / "journal.db-wal").stat().st_size
    before.file.write_bytes(kept)
    (tmp_path / "journal.db-wal").unlink(missing_ok=True)
    clock.pass_time(60_000)
    after = await found(tmp_path, clock)
    assert before.all <= after.all
    assert after.instance == before.instance


async def test_without_its_identity_it_is_a_new_instance_that_holds_what_is_left(
    tmp_path: Path, clock: ManualClock
) -> None:
    before = await fill(tmp_path, clock)
    garbage(before.file, root_of(before.file, "journal"))
    clock.pass_time(60_000)
    with structlog.testing.capture_logs() as lines:
        after = await found(tmp_path, clock)
    # Its time begins anew, not before what it holds: nothing expires.
    assert (after.held, after.unreported, after.remembered) == (before.held, before.unreported, before.remembered)
    assert after.instance != before.instance
    assert [line["same_instance"] for line in lines if line.get("state") == "set aside"] == [False]


@pytest.mark.parametrize("seed", range(40))
async def test_no_damage_keeps_the_daemon_from_starting_or_invents_a_delivery(
    tmp_path: Path, clock: ManualClock, seed: int
) -> None:
    before = await fill(tmp_path, clock, count=20)
    chance = random.Random(seed)
    content = bytearray(before.file.read_bytes())
    for _ in range(chance.choice([1, 3, 30, 300])):
        start = chance.randrange(len(content))
        flipped = chance.randbytes(chance.choice([1, 2, 50, 3000]))
        content[start : start + len(flipped)] = flipped
    del content[chance.choice([len(content), chance.randrange(PAGE, len(content))]) :]
    before.file.write_bytes(content)
    clock.pass_time(60_000)
    async with opened(tmp_path, clock, MOST) as journal:
        # A flipped byte in an id makes another id: no page has a checksum.
        strangers = {claimed.id for claimed in await claim(journal)} - before.all
        assert all(min(distance(id, known) for known in before.all) <= 4 for id in strangers)
        await deliver(journal, 5)
        await journal.tidy(DAY)


def distance(one: str, other: str) -> int:
    return sum(a != b for a, b in zip(one, other, strict=True))


async def test_a_crash_between_the_renames_is_made_good(tmp_path: Path, clock: ManualClock) -> None:
    before = await fill(tmp_path, clock)
    (tmp_path / "journal.db").rename(tmp_path / "journal.db.salvaged")
    clock.pass_time(60_000)
    after = await found(tmp_path, clock)
    assert after[3:] == before[3:]
    assert names(tmp_path) == {"journal.db"}


async def test_a_crash_before_the_renames_is_made_good(tmp_path: Path, clock: ManualClock) -> None:
    before = await fill(tmp_path, clock)
    (tmp_path / "journal.db.salvaged").write_bytes(before.file.read_bytes())
    overwrite(before.file, 0, b"damaged")
    (tmp_path / "journal.db.salvaging").write_bytes(b"half")
    clock.pass_time(60_000)
    after = await found(tmp_path, clock)
    assert after[3:] == before[3:]
    assert len(aside(tmp_path)) == 1


async def test_each_damaged_journal_keeps_a_name_of_its_own(tmp_path: Path, clock: ManualClock) -> None:
    for _ in range(3):
        async with opened(tmp_path, clock):
            pass
        overwrite(tmp_path / "journal.db", 0, b"damaged")
    async with opened(tmp_path, clock):
        pass
    assert len(aside(tmp_path)) == 3


async def test_a_newer_journal_is_not_taken_for_a_damaged_one(tmp_path: Path, clock: ManualClock) -> None:
    before = await fill(tmp_path, clock)
    with sqlite3.connect(before.file) as database:
        database.execute("PRAGMA user_version = 99")
    database.close()
    garbage(before.file, root_of(before.file, "delivery"))
    with pytest.raises(JournalError, match="newer version"):
        async with opened(tmp_path, clock):
            pass
    assert aside(tmp_path) == []


async def test_a_file_that_is_no_journal_is_set_aside(tmp_path: Path, clock: ManualClock) -> None:
    (tmp_path / "journal.db").write_bytes(b"no database at all, but long enough to be looked at" * 1000)
    async with opened(tmp_path, clock) as journal:
        await deliver(journal)
    assert len(aside(tmp_path)) == 1
