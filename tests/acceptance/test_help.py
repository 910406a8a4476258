"""Help of every command, the modules that it does without, and the completion of a shell."""

import os
import subprocess
import sys
from collections.abc import Iterator

import click
import pytest

from presence.cli import cli

HEAVY = {
    *("aiohttp", "websockets", "pydantic", "pydantic_settings", "structlog", "tenacity", "prometheus_client"),
    *("asyncio", "ssl", "sqlite3", "socket", "logging", "email", "http", "json", "importlib.metadata"),
    *("presence.agent", "presence.controlplane", "presence.configuration", "presence.logs", "presence.domain"),
}
"""Modules that only a command needs: `presence --help` is to answer within 0.15 s, as `tests.benchmarks cli` shows."""

SHOW_MODULES = """
import sys
from presence.cli import main
try:
    main(["--help"])
except SystemExit:
    print(*sys.modules, sep="\\n")
"""


def commands(group: click.Group, *above: str) -> Iterator[tuple[str, ...]]:
    with click.Context(group) as context:
        for name in group.list_commands(context):
            found = group.get_command(context, name)
            assert found is not None
            yield (*above, name)
            if isinstance(found, click.Group):
                yield from commands(found, *above, name)


def command(path: tuple[str, ...]) -> click.Command:
    found: click.Command = cli
    for name in path:
        assert isinstance(found, click.Group)
        with click.Context(found) as context:
            next_one = found.get_command(context, name)
        assert next_one is not None
        found = next_one
    return found


@pytest.mark.parametrize("path", [(), *commands(cli)], ids=lambda path: " ".join(("presence", *path)))
def test_every_command_explains_itself_with_an_example(path: tuple[str, ...]) -> None:
    found = command(path)
    with click.Context(found, info_name="presence") as context:
        text = found.get_help(context)
    example = text.partition("Example")[2]
    assert f"presence {' '.join(path)}".strip() in example, text
    for parameter in found.params:
        if isinstance(parameter, click.Option):
            assert parameter.help, f"{parameter.name} has no help"


def test_help_imports_nothing_heavy() -> None:
    shown = subprocess.run([sys.executable, "-c", SHOW_MODULES], capture_output=True, text=True, check=True)
    imported = set(shown.stdout.split())
    assert "presence.cli" in imported
    assert not HEAVY & imported


@pytest.mark.parametrize(
    ("words", "expected"),
    [("presence con", {"config", "control-plane"}), ("presence config s", {"show", "schema", "suggest-egress"})],
)
def test_a_shell_completes_commands(words: str, expected: set[str]) -> None:
    asked = {"_PRESENCE_COMPLETE": "bash_complete", "COMP_WORDS": words, "COMP_CWORD": str(words.count(" "))}
    program = [sys.executable, "-c", "from presence.cli import main; main()"]
    shown = subprocess.run(program, env=os.environ | asked, capture_output=True, text=True)
    assert {line.partition(",")[2] for line in shown.stdout.split()} == expected, shown.stderr


def test_the_help_says_how_completion_is_turned_on() -> None:
    with click.Context(cli, info_name="presence") as context:
        lines = [line.split(maxsplit=1) for line in cli.get_help(context).splitlines() if "_PRESENCE_COMPLETE" in line]
    assert [shell for shell, _ in lines] == ["bash", "zsh", "fish"]
    path = f"{os.path.dirname(sys.executable)}:{os.environ['PATH']}"
    asking = ["bash", "--norc", "-c", f"{lines[0][1]}; complete -p presence"]
    shown = subprocess.run(asking, env=os.environ | {"PATH": path}, capture_output=True, text=True)
    assert shown.stdout.endswith(" presence\n"), shown.stderr


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_shell_gets_its_script(shell: str) -> None:
    program = [sys.executable, "-c", "from presence.cli import main; main()"]
    asked = {"_PRESENCE_COMPLETE": f"{shell}_source"}
    shown = subprocess.run(program, env=os.environ | asked, capture_output=True, text=True)
    assert f"_PRESENCE_COMPLETE={shell}_complete" in shown.stdout, shown.stderr
