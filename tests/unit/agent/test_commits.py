"""The writer thread on a real database: what a caller was told is committed; a full disk is waited for."""

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest

from presence.agent.commits import Commits
from presence.agent.outage import Outage, Unwritable
from presence.errors import JournalError


class Notes:
    """What the thread does with its book."""

    def __init__(self) -> None:
        self.kept = self.undone = 0

    def begin(self) -> None:
        pass

    def keep(self, db: sqlite3.Connection) -> None:
        self.kept += 1

    def undo(self) -> None:
        self.undone += 1


class Store:
    def __init__(self, file: Path) -> None:
        self.file = file
        self.notes = Notes()
        self.database = sqlite3.connect(file, isolation_level=None, check_same_thread=False)
        self.database.execute("PRAGMA journal_mode = WAL")
        self.database.execute("CREATE TABLE word (text)")
        self.commits = Commits(self.database, self.notes, Outage(lambda: None))

    def full(self, is_full: bool) -> None:
        pages = self.database.execute("PRAGMA page_count").fetchone()[0] if is_full else 1_000_000
        self.database.execute(f"PRAGMA max_page_count = {pages}")

    def words(self) -> list[str]:
        other = sqlite3.connect(self.file)
        try:
            return [text[:5] for (text,) in other.execute("SELECT text FROM word ORDER BY rowid")]
        finally:
            other.close()


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    store = Store(tmp_path / "words.db")
    store.commits.start()
    yield store
    await store.commits.close()


def write(db: sqlite3.Connection, words: Sequence[str]) -> list[int]:
    db.executemany("INSERT INTO word VALUES (?)", [(word,) for word in words])
    return [len(words)] * len(words)


def read(db: sqlite3.Connection, asked: Sequence[None]) -> list[int]:
    return [db.execute("SELECT count(*) FROM word").fetchone()[0]] * len(asked)


def fail(db: sqlite3.Connection, asked: Sequence[None]) -> list[None]:
    raise LookupError("a defect")


LARGE = "large" * 20_000


async def test_what_is_submitted_together_is_committed_together(store: Store) -> None:
    assert await asyncio.gather(*(store.commits.submit(write, word) for word in "abc")) == [3, 3, 3]
    assert store.words() == ["a", "b", "c"]
    assert store.notes.kept == 1


async def test_what_writes_nothing_keeps_nothing(store: Store) -> None:
    assert await store.commits.submit(read, None) == 0
    assert store.notes.kept == 0


async def test_a_defect_undoes_its_group_and_is_heard_by_all_of_it(store: Store) -> None:
    outcomes = await asyncio.gather(
        store.commits.submit(write, "a"), store.commits.submit(fail, None), return_exceptions=True
    )
    assert [type(outcome) for outcome in outcomes] == [LookupError, LookupError]
    assert store.notes.undone == 1
    assert await store.commits.submit(write, "b") == 1
    assert store.words() == ["b"]


async def test_a_statement_that_is_wrong_is_no_full_disk(store: Store) -> None:
    def wrong(db: sqlite3.Connection, asked: Sequence[None]) -> Sequence[None]:
        db.execute("SELECT 1 FROM nowhere")
        return asked

    with pytest.raises(JournalError, match="cannot be used: no such table") as raised:
        await store.commits.insist(wrong, None)
    assert not isinstance(raised.value, Unwritable)


async def test_a_full_disk_is_told_to_who_submits_and_waited_for_by_who_insists(store: Store) -> None:
    store.full(True)
    insisting = [asyncio.create_task(store.commits.insist(write, LARGE)) for _ in range(3)]
    with pytest.raises(Unwritable, match="full"):
        await store.commits.submit(write, LARGE)
    assert not any(task.done() for task in insisting)
    assert await store.commits.read(read, None) == 0
    store.full(False)
    assert await store.commits.submit(write, "space") == 1
    assert await asyncio.gather(*insisting) == [3, 3, 3]
    assert sorted(store.words()) == ["large", "large", "large", "space"]


async def test_a_disk_that_can_only_be_read_is_waited_for(store: Store) -> None:
    store.database.execute("PRAGMA query_only = ON")
    insisting = asyncio.create_task(store.commits.insist(write, "a"))
    with pytest.raises(Unwritable, match="readonly"):
        await store.commits.submit(write, "b")
    assert await store.commits.read(read, None) == 0
    store.database.execute("PRAGMA query_only = OFF")
    assert await store.commits.submit(write, "c") == 1
    await insisting
    assert store.words() == ["c", "a"]


async def test_who_only_reads_is_not_kept_from_it_by_who_cannot_write(store: Store) -> None:
    store.full(True)
    writing = asyncio.create_task(store.commits.insist(write, LARGE))
    assert await store.commits.read(read, None) == 0
    store.full(False)
    await writing


async def test_it_closes_while_nothing_can_be_written(tmp_path: Path) -> None:
    store = Store(tmp_path / "words.db")
    store.commits.start()
    store.full(True)
    insisting = [asyncio.create_task(store.commits.insist(write, LARGE)) for _ in range(3)]
    with pytest.raises(Unwritable):
        await store.commits.submit(write, LARGE)
    for task in insisting:
        task.cancel()
    async with asyncio.timeout(5):
        await store.commits.close()
    await asyncio.gather(*insisting, return_exceptions=True)


async def test_what_was_submitted_before_the_end_is_committed(tmp_path: Path) -> None:
    store = Store(tmp_path / "words.db")
    store.commits.start()
    submitted = [asyncio.create_task(store.commits.submit(write, word)) for word in "abc"]
    await asyncio.sleep(0)
    await store.commits.close()
    assert await asyncio.gather(*submitted) == [3, 3, 3]
    assert store.words() == ["a", "b", "c"]


async def test_a_cancelled_caller_does_not_cancel_what_it_submitted(store: Store) -> None:
    caller = asyncio.create_task(store.commits.submit(write, "a"))
    await asyncio.sleep(0)
    caller.cancel()
    await asyncio.gather(caller, return_exceptions=True)
    assert await store.commits.submit(read, None) == 1


async def test_a_damaged_file_is_told_and_not_waited_for(tmp_path: Path) -> None:
    store = Store(tmp_path / "words.db")
    store.commits.start()
    for _ in range(50):
        await store.commits.submit(write, LARGE)
    await store.commits.alone(lambda db: db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall())
    with store.file.open("r+b") as file:
        file.seek(4096)
        file.write(b"\xff" * (store.file.stat().st_size - 4096))
    store.database.execute("PRAGMA cache_size = 0")
    with pytest.raises(JournalError, match="damaged") as raised:
        await store.commits.insist(read, None)
    assert not isinstance(raised.value, Unwritable)
    await store.commits.close()


async def test_what_runs_alone_runs_outside_of_a_transaction(store: Store) -> None:
    assert not await store.commits.alone(lambda db: db.in_transaction)
    with pytest.raises(ZeroDivisionError):
        await store.commits.alone(lambda db: 1 // 0)
