"""Many ids in few statements: a database bounds the values of one, SQLite to 32,766 by default."""

from collections.abc import Collection, Iterator

CHUNK = 5000


def chunks(ids: Collection[str]) -> Iterator[list[str]]:
    """The ids in lists of at most `CHUNK`, each for one IN (...)."""
    listed = list(ids)
    for start in range(0, len(listed), CHUNK):
        yield listed[start : start + CHUNK]
