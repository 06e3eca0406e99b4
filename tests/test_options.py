"""The options of a peer: the arguments of ``Agent``, alone and as dataclasses."""

from __future__ import annotations

import dataclasses
import inspect

import pytest

from peer import Agent, ConfigError, MediaOptions, RelayOptions
from peer.options import AgentOptions


def test_agent_arguments_are_the_fields_of_its_options() -> None:
    assert str(inspect.signature(Agent)) == str(inspect.signature(AgentOptions)).removesuffix(" -> None")
    with pytest.raises(TypeError, match="fsp"):
        Agent("door", fsp=30)
    with pytest.raises(TypeError):
        Agent("door", "ws://relay/ws")


def test_agent_from_options_has_the_options_of_both() -> None:
    agent = Agent.from_options(RelayOptions("door", room="attic"), MediaOptions(video="test"))
    assert isinstance(agent, Agent) and agent.id == "door"
    with pytest.raises(ConfigError, match="--id"):
        Agent.from_options(RelayOptions("no spaces"), MediaOptions())
    with pytest.raises(ConfigError, match="--video"):
        Agent.from_options(RelayOptions("door"), MediaOptions(video=""))


@pytest.mark.parametrize("name", [field.name for field in dataclasses.fields(AgentOptions)])
def test_option_without_a_default_value_says_what_applies(name: str) -> None:
    field = AgentOptions.__dataclass_fields__[name]
    assert field.metadata["description"]
    if field.default is None and name not in ("token", "key"):
        assert field.metadata["unset"]


def test_options_repr_shows_no_secret() -> None:
    options = RelayOptions(token="s3cret", key="s3cret", ice_servers=["turn:user:s3cret@host"])
    assert "s3cret" not in repr(options)
