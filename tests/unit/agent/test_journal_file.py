"""The file: its settings, its versions, and what is said when it cannot be used."""

import asyncio
import sqlite3
from pathlib import Path

import pytest

from presence.agent.journal_file import SCHEMA, connect, migrate
from presence.errors import JournalError
from tests.support.clock import ManualClock
from tests.support.control_plane import DAY
from tests.support.journal import accept, claim, deliver, opened, settle

VERSION_1 = Path(__file__).with_name("journal_v1.sql")
MADE_UP = (
    *SCHEMA,
    "ALTER TABLE delivery ADD COLUMN colour TEXT; UPDATE delivery SET colour = 'grey'",
    "CREATE TABLE paint (colour TEXT NOT NULL) STRICT; INSERT INTO paint SELECT DISTINCT colour FROM delivery",
)


def version(connection: sqlite3.Connection) -> int:
    return int(connection.execute("PRAGMA user_version").fetchone()[0])


def test_it_is_durable_erases_what_is_deleted_and_gives_back_what_is_free(tmp_path: Path) -> None:
    connection = connect(tmp_path / "journal.db", ManualClock())
    settings = {
        name: connection.execute(f"PRAGMA {name}").fetchone()[0]
        for name in ("journal_mode", "synchronous", "secure_delete", "auto_vacuum", "locking_mode", "page_size")
    }
    connection.close()
    assert settings == {
        "journal_mode": "wal",
        "synchronous": 2,
        "secure_delete": 1,
        "auto_vacuum": 2,
        "locking_mode": "exclusive",
        "page_size": 4096,
    }


async def test_a_journal_of_version_1_is_opened_with_all_it_holds(tmp_path: Path) -> None:
    database = sqlite3.connect(tmp_path / "journal.db")
    database.executescript(VERSION_1.read_text())
    database.close()
    async with opened(tmp_path, ManualClock()) as journal:
        assert journal.instance == "11111111-1111-4111-8111-111111111111"
        held, unattempted = await journal.held()
        assert [id[:2] for id in held] == ["a0", "a1", "a2", "a3"]
        assert [id[:2] for id in unattempted] == ["a0"]
        assert [waiting.id[:2] for waiting in await journal.waiting(0, 10)] == ["a2"]
        assert [settled.id[:2] for settled in await journal.unreported(0, 10)] == ["a3"]
        await accept(journal, id="a4" + "0" * 6 + "-0000-4000-8000-000000000000")  # remembered: it was reported
        assert sorted(claimed.id[:2] for claimed in await claim(journal)) == ["a0", "a1"]


def test_an_older_file_is_brought_up_to_date_step_by_step(tmp_path: Path) -> None:
    connect(tmp_path / "journal.db", ManualClock()).close()
    asyncio.run(fill(tmp_path))
    connection = connect(tmp_path / "journal.db", ManualClock(), MADE_UP)
    assert version(connection) == len(MADE_UP)
    assert connection.execute("SELECT colour FROM paint").fetchall() == [("grey",)]
    assert connection.execute("SELECT count(*) FROM delivery WHERE colour = 'grey'").fetchone() == (3,)
    connection.close()
    connection = connect(tmp_path / "journal.db", ManualClock(), MADE_UP)  # nothing is done twice
    assert connection.execute("SELECT count(*) FROM paint").fetchone() == (1,)
    connection.close()


async def fill(directory: Path) -> None:
    async with opened(directory, ManualClock()) as journal:
        await deliver(journal, 2)
        await accept(journal)
        for claimed in await claim(journal):
            await settle(journal, claimed)


def test_a_step_that_fails_leaves_the_version_before_it(tmp_path: Path) -> None:
    broken = (
        *MADE_UP[: len(SCHEMA) + 1],
        "CREATE TABLE half (x); INSERT INTO nowhere VALUES (1)",
        "CREATE TABLE after (x)",
    )
    with pytest.raises(sqlite3.Error, match="nowhere"):
        connect(tmp_path / "journal.db", ManualClock(), broken)
    connection = sqlite3.connect(tmp_path / "journal.db", isolation_level=None)
    assert version(connection) == len(SCHEMA) + 1
    assert connection.execute("SELECT name FROM sqlite_schema WHERE name IN ('half', 'after')").fetchall() == []
    migrate(connection, MADE_UP)
    assert version(connection) == len(MADE_UP)
    connection.close()


def test_a_crash_between_the_schema_and_the_identity_is_made_good(tmp_path: Path) -> None:
    path = tmp_path / "journal.db"
    connect(path, ManualClock()).close()
    database = sqlite3.connect(path)
    database.execute("DELETE FROM journal")
    database.commit()
    database.close()
    connection = connect(path, ManualClock())
    assert connection.execute("SELECT count(*) FROM journal").fetchone() == (1,)
    connection.close()


async def test_a_newer_journal_is_refused(tmp_path: Path) -> None:
    connect(tmp_path / "journal.db", ManualClock(), MADE_UP).close()
    newer, known = len(MADE_UP), len(SCHEMA)
    with pytest.raises(
        JournalError, match=rf"journal\.db: the journal is of a newer version \({newer}\) than .* \({known}\)"
    ):
        async with opened(tmp_path, ManualClock()):
            pass


@pytest.mark.parametrize("path", ["/proc/nowhere", "/dev/null/journal"])
async def test_a_place_where_no_file_can_be_is_named(path: str) -> None:
    with pytest.raises(JournalError, match=r"cannot be opened: .*; check journal\.path"):
        async with opened(Path(path), ManualClock()):
            pass


async def test_what_is_tidied_while_it_is_open_leaves_a_small_log(tmp_path: Path) -> None:
    async with opened(tmp_path, ManualClock()) as journal:
        for _ in range(5):
            await deliver(journal, 100, body="b" * 8000)
        wal = tmp_path / "journal.db-wal"
        assert wal.stat().st_size < 16 * 1024 * 1024
        await journal.tidy(DAY)
        assert wal.stat().st_size == 0
