"""Where the agent listens, and by which addresses that is reached."""

import socket
from ipaddress import ip_address

import pytest

from presence.agent.listeners import addresses_of_this_host, listen, place_of, reachable_at, split
from presence.errors import AddressUnavailable, ConfigurationError, ExitCode


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("127.0.0.1:8481", ("127.0.0.1", 8481)),
        ("localhost:0", ("127.0.0.1", 0)),
        ("0.0.0.0:65535", ("0.0.0.0", 65535)),
        ("[::1]:8481", ("::1", 8481)),
        ("[::]:1", ("::", 1)),
    ],
)
def test_a_place_is_an_address_and_a_port(text: str, place: tuple[str, int]) -> None:
    assert split(text) == place


@pytest.mark.parametrize(
    "text",
    ["", "8481", ":8481", "127.0.0.1", "127.0.0.1:", "127.0.0.1:65536", "127.0.0.1:-1", "127.0.0.1:1x", "::1:8481",
     "[127.0.0.1]:1", "agent.corp:8481", "127.0.0.1:\uff11"],
)  # fmt: skip
def test_anything_else_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(ValueError, match=r"127\.0\.0\.1:8481"):
        split(text)


def test_what_was_opened_is_closed_again_if_another_port_is_taken() -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with socket.create_server(("127.0.0.1", 0)) as taken:
        place = place_of(taken)
        with pytest.raises(AddressUnavailable, match=rf"health\.listen: {place}: another program listens there"):
            listen("health.listen", [f"127.0.0.1:{port}", place])
    (again,) = listen("health.listen", [f"127.0.0.1:{port}"])
    again.close()


def test_an_address_of_another_host_is_named() -> None:
    with pytest.raises(AddressUnavailable, match="this host has no such address"):
        listen("health.listen", ["203.0.113.7:0"])


def test_only_what_may_pass_is_no_configuration_error() -> None:
    assert AddressUnavailable.exit_code is ExitCode.FAILED
    with pytest.raises(ConfigurationError, match=r"health\.listen: \[fe80::1\]:0: cannot be listened at"):
        listen("health.listen", ["[fe80::1]:0"])  # without a scope


def test_a_listener_on_all_addresses_is_reached_by_each_of_this_hosts() -> None:
    opened = listen("health.listen", ["0.0.0.0:0", "127.0.0.1:0"])
    try:
        everywhere, local = (place_of(listening) for listening in opened)
        own = {f"{address}:{port}" for address, port in reachable_at(opened)}
    finally:
        for listening in opened:
            listening.close()
    assert {everywhere, local} <= own
    assert f"127.0.0.1:{everywhere.rpartition(':')[2]}" in own
    assert ip_address("127.0.0.1") in addresses_of_this_host()
