"""What a map of capabilities means."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from presence.controlplane.access import Capability
from presence.controlplane.services.refusal import Key, Refusal
from presence.controlplane.services.roles import parse_capabilities

names = st.sampled_from([capability.value for capability in Capability])


@given(st.dictionaries(names, st.booleans()))
def test_what_is_true_is_given_and_nothing_else(given_: dict[str, bool]) -> None:
    expected = {Capability(name) for name, is_given in given_.items() if is_given}
    assert parse_capabilities(given_) == expected
    assert parse_capabilities({name.upper(): is_given for name, is_given in given_.items()}) == expected


@given(st.text().filter(lambda name: name.casefold() not in {one.casefold() for one in Capability}))
def test_an_unknown_name_may_only_be_false(name: str) -> None:
    assert parse_capabilities({name: False, "ManageUsers": True}) == {Capability.MANAGE_USERS}
    with pytest.raises(Refusal) as refused:
        parse_capabilities({name: True})
    assert refused.value.key is Key.INVALID_INPUT
    assert "CreateModifyWebhooks" in refused.value.message


def test_a_name_counts_once() -> None:
    with pytest.raises(Refusal, match="named twice"):
        parse_capabilities({"ManageUsers": True, "manageusers": False})
