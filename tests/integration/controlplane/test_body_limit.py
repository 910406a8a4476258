"""Bodies of more than 1 MiB: refused in our own form, before anything is done, however they are sent."""

import asyncio
import json
from contextlib import suppress
from io import BytesIO
from typing import Any
from urllib.parse import urlsplit

import pytest

from presence.controlplane.app import InitResult
from tests.integration.controlplane.databases import ON_SQLITE
from tests.integration.controlplane.peers import Caller

LIMIT = 1024 * 1024
DECLARED = "Content-Length: 30000000\r\n"
CHUNKED = "Transfer-Encoding: chunked\r\n"
PIECE = b" " * 65536


async def answered(caller: Caller, route: str, length: str, pieces: int) -> tuple[int, dict[str, str], bytes]:
    """What is answered to that many pieces of a body that has not come to its end."""
    address = urlsplit(caller.url)
    reader, writer = await asyncio.open_connection(address.hostname, address.port)
    headers = [f"{name}: {value}\r\n" for name, value in caller.headers.items()]
    head = f"{route} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n{''.join(headers)}{length}\r\n"
    try:
        writer.write(head.encode())
        for _ in range(pieces):
            writer.write(b"%x\r\n%b\r\n" % (len(PIECE), PIECE) if length == CHUNKED else PIECE)
        async with asyncio.timeout(10):
            status, *fields = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")[:-2]
            found = {name.lower(): value for name, value in (field.split(": ", 1) for field in fields)}
            return int(status.split()[1]), found, await reader.readexactly(int(found["content-length"]))
    finally:
        writer.transport.abort()
        with suppress(ConnectionError):
            await writer.wait_closed()


def as_ours(answer: tuple[int, dict[str, str], bytes]) -> Any:
    """The error that it is, in our form, with our headers."""
    status, headers, body = answer
    assert (status, headers["content-type"]) == (413, "application/json")
    assert (headers["cache-control"], headers["x-content-type-options"]) == ("no-store", "nosniff")
    error = json.loads(body)
    assert set(error) == {"Key", "Message", "FormatParams"}
    assert error["Key"] == "INPUT_LENGTH_LIMIT_EXCEEDED"
    return error


async def standing(caller: Caller) -> list[Any]:
    """What a request could have changed."""
    return [await caller.get(path) for path in ("Audits", "Presences", "Account/TenantInfo")]


@pytest.mark.parametrize("route", ["POST /api/v4/Presences", "POST /api/v4/Account/ApiKey", "GET /api/v4/Audits"])
@pytest.mark.parametrize(("length", "pieces"), [(DECLARED, 0), (DECLARED, 1), (CHUNKED, 17)])
async def test_nothing_is_done_for_what_is_too_long(
    caller: Caller, administrator: InitResult, route: str, length: str, pieces: int
) -> None:
    before = await standing(caller)
    assert as_ours(await answered(caller, route, length, pieces))["Message"] == "the body is larger than 1 MiB"
    assert await standing(caller) == before
    await caller.log_in(administrator.key_id, administrator.key_secret)


@ON_SQLITE
async def test_the_limit_is_exact(caller: Caller) -> None:
    async def status(length: int, *, chunked: bool) -> int:
        body = b'{"PresenceName": "a"' + b" " * (length - 21) + b"}"
        async with caller.http.post(
            f"{caller.url}/api/v4/Presences", headers={**caller.headers, "Content-Type": "application/json"},
            data=_chunks(body) if chunked else BytesIO(body),
        ) as answer:  # fmt: skip
            return answer.status

    assert [await status(LIMIT + 1, chunked=chunked) for chunked in (False, True)] == [413, 413]
    assert await status(LIMIT, chunked=False) == 200
    assert await status(LIMIT, chunked=True) == 400
    assert len((await caller.get("Presences"))["Items"]) == 1


async def _chunks(body: bytes) -> Any:
    yield body


@ON_SQLITE
async def test_who_is_not_logged_in_is_told_so_before_the_body_is_read(caller: Caller) -> None:
    nobody = Caller(caller.url, caller.http)
    for route in ("POST /api/v4/Presences", "POST /api/v4/Account/ApiKey"):
        assert (await answered(nobody, route, CHUNKED, 17))[0] == 401
        as_ours(await answered(nobody, route, DECLARED, 0))


@ON_SQLITE
async def test_a_body_that_nobody_asked_for_may_be_short(caller: Caller) -> None:
    await caller.call("POST", "Account/ApiKey", 201, data=BytesIO(b"x" * LIMIT))
    await caller.call("POST", "Account/ApiKey", 201, data=_chunks(b"x"))


async def test_a_length_of_many_zeros_is_a_length_like_any_other(caller: Caller) -> None:
    """Python refuses to read numbers of more than 4,300 digits; HTTP does not (RFC 9110, section 8.6)."""
    parts = urlsplit(caller.url)
    for length, status in ((b"0" * 5000 + b"2", b"401"), (b"0" * 5000 + b"9999999", b"413")):
        reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
        writer.write(b"POST /api/v4/Presences HTTP/1.1\r\nHost: x\r\nContent-Length: %b\r\n\r\n{}" % length)
        line = await asyncio.wait_for(reader.readline(), 10)
        writer.close()
        assert line.split()[1] == status, line
