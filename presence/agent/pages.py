"""Rows out of the pages of a damaged SQLite file, without SQLite. Bytes in, values out.

The file format (sqlite.org/fileformat2.html), as far as it takes: every page that looks like a leaf of a table is read
by itself, whatever leads to it. What cannot be decoded is left out; nothing here raises for what a file holds.
"""

import struct
from collections.abc import Iterator, Mapping
from typing import NamedTuple

PAGE = 4096
"""Bytes in a page of the journal's file."""

Value = None | int | float | str | bytes

_LEAF = 0x0D
_WAL_HEADER, _FRAME_HEADER = 32, 24
_WAL_MAGIC = (0x377F0682, 0x377F0683)
_ALL_LOCAL = PAGE - 35
_LEAST_LOCAL = (PAGE - 12) * 32 // 255 - 23
_LONGEST_RECORD = 1024 * 1024
_NUMBER_SIZES = (0, 1, 2, 3, 4, 6, 8)


class Row(NamedTuple):
    """One record of some table."""

    rowid: int
    values: tuple[Value, ...]


def rows(database: bytes, wal: bytes) -> Iterator[Row]:
    """Every record that can be read, of all tables; `wal`: the write-ahead log beside the file."""
    newer = committed(wal)
    for number in range(1, max([len(database) // PAGE, *newer]) + 1):
        yield from _leaf(_page(database, newer, number), 100 if number == 1 else 0, database, newer)


def committed(wal: bytes) -> dict[int, bytes]:
    """The pages that the log holds, by number, up to its last whole commit."""
    if len(wal) < _WAL_HEADER:
        return {}
    magic, _, size, _, salt_1, salt_2, *_ = struct.unpack(">8I", wal[:_WAL_HEADER])
    if magic not in _WAL_MAGIC or size != PAGE:
        return {}
    words = "<" if magic == _WAL_MAGIC[0] else ">"
    check = _checksum(wal[:24], words, (0, 0))
    pages: dict[int, bytes] = {}
    uncommitted: dict[int, bytes] = {}
    for start in range(_WAL_HEADER, len(wal) - PAGE - _FRAME_HEADER + 1, PAGE + _FRAME_HEADER):
        number, commit, *salts, sum_1, sum_2 = struct.unpack(">6I", wal[start : start + _FRAME_HEADER])
        page = wal[start + _FRAME_HEADER : start + _FRAME_HEADER + PAGE]
        check = _checksum(wal[start : start + 8] + page, words, check)
        if salts != [salt_1, salt_2] or check != (sum_1, sum_2):
            break
        uncommitted[number] = page
        if commit:
            pages |= uncommitted
            uncommitted = {}
    return pages


def _checksum(content: bytes, words: str, start: tuple[int, int]) -> tuple[int, int]:
    first, second = start
    for one, other in struct.iter_unpack(f"{words}2I", content):
        first = (first + one + second) & 0xFFFFFFFF
        second = (second + other + first) & 0xFFFFFFFF
    return first, second


def _page(database: bytes, newer: Mapping[int, bytes], number: int) -> bytes:
    return newer.get(number) or database[(number - 1) * PAGE : number * PAGE]


def _leaf(page: bytes, header: int, database: bytes, newer: Mapping[int, bytes]) -> Iterator[Row]:
    if len(page) < PAGE or page[header] != _LEAF:
        return
    count = min(int.from_bytes(page[header + 3 : header + 5]), PAGE // 4)
    for place in range(header + 8, header + 8 + 2 * count, 2):
        try:
            yield _cell(page, int.from_bytes(page[place : place + 2]), database, newer)
        except (ValueError, IndexError, struct.error):
            continue


def _cell(page: bytes, start: int, database: bytes, newer: Mapping[int, bytes]) -> Row:
    length, start = _varint(page, start)
    rowid, start = _varint(page, start)
    if not 0 < length <= _LONGEST_RECORD:
        raise ValueError("no record is so long")
    if length <= _ALL_LOCAL:
        record = page[start : start + length]
    else:
        local = _LEAST_LOCAL + (length - _LEAST_LOCAL) % (PAGE - 4)
        local = local if local <= _ALL_LOCAL else _LEAST_LOCAL
        record = page[start : start + local]
        following = int.from_bytes(page[start + local : start + local + 4])
        while following and len(record) < length:
            overflow = _page(database, newer, following)
            following = int.from_bytes(overflow[:4])
            record += overflow[4:]
    if len(record) < length:
        raise ValueError("the record is cut off")
    return Row(rowid, tuple(_values(record[:length])))


def _values(record: bytes) -> Iterator[Value]:
    end, place = _varint(record, 0)
    content = end
    while place < end:
        kind, place = _varint(record, place)
        if kind in (8, 9):
            yield kind - 8
            continue
        if kind in (10, 11):
            raise ValueError("a reserved type")
        size = _NUMBER_SIZES[kind] if kind < 7 else 8 if kind == 7 else (kind - 12) // 2
        value, content = record[content : content + size], content + size
        if len(value) < size:
            raise ValueError("the value is cut off")
        if kind == 0:
            yield None
        elif kind < 7:
            yield int.from_bytes(value, signed=True)
        elif kind == 7:
            yield struct.unpack(">d", value)[0]
        else:
            yield value.decode() if kind % 2 else value


def _varint(content: bytes, start: int) -> tuple[int, int]:
    """The number and where it ends: seven bits in each byte, eight in a ninth."""
    number = 0
    for place in range(start, start + 8):
        number = number << 7 | content[place] & 0x7F
        if content[place] < 0x80:
            return number, place + 1
    return number << 8 | content[start + 8], start + 9
