"""The code's shape: linters, sizes, what lies where, and that the agent installs without the control plane."""

import ast
import os
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
TOP = {
    *("pyproject.toml", "README.md", "LICENSE", "Dockerfile", "presence", "config", "systemd", "tests"),
    *(".ci", ".gitignore", ".dockerignore", ".pre-commit-config.yaml"),
}
MODULE_LINES = 400
FUNCTION_LINES = 60
OF_NO_MODULE = {"protocol/test_simulation.py", "test_config_files.py"}
"""Unit tests of a whole package, and of the files in config/, rather than of one module."""
CONTROL_PLANES_LIBRARIES = ("fastapi", "starlette", "uvicorn", "sqlalchemy", "alembic", "aiosqlite")

MODULES = sorted((ROOT / "presence").rglob("*.py"))


def run(*command: str | Path, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    """Runs it without settings of the caller's; standard output and error apart."""
    env = {name: value for name, value in os.environ.items() if not name.startswith(("PRESENCE_", "PYTHON"))}
    return subprocess.run(command, cwd=cwd, env=env, stdin=subprocess.DEVNULL, capture_output=True, text=True)


def tool(name: str) -> str:
    """The tool of this environment, whether or not that is activated."""
    found = shutil.which(name, path=sysconfig.get_path("scripts")) or shutil.which(name)
    assert found, f"{name} is not installed; run: pip install '.[control-plane,test]'"
    return found


def tracked(*paths: str) -> set[str]:
    """What git knows, unless it has been removed since."""
    listed = run("git", "ls-files", "-z", "--", *paths)
    assert listed.returncode == 0, listed.stderr
    return {name for name in listed.stdout.split("\0") if name and (ROOT / name).exists()}


@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    "command",
    [
        "ruff check --no-fix",
        "ruff format --check --diff",
        "mypy",
        "lint-imports",
        "pre-commit validate-config",
    ],
)
def test_the_linters_find_nothing(command: str) -> None:
    name, *arguments = command.split()
    done = run(tool(name), *arguments)
    assert done.returncode == 0, f"{command}:\n{done.stdout}{done.stderr}"


def test_mypy_is_strict_on_presence() -> None:
    import tomllib

    mypy = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["mypy"]
    assert mypy["strict"]
    assert mypy["packages"] == ["presence"]


def test_the_top_level_holds_nothing_else() -> None:
    top = {name.partition("/")[0] for name in tracked()}
    assert not top - TOP


@pytest.mark.parametrize("module", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_modules_and_functions_fit_on_a_screen(module: Path) -> None:
    text = module.read_text(encoding="utf-8")
    assert text.count("\n") <= MODULE_LINES
    long = {
        f"{node.name}: {lines} lines"
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and (lines := (node.end_lineno or 0) - node.lineno + 1) > FUNCTION_LINES
    }
    assert not long


def test_unit_tests_mirror_the_modules() -> None:
    unit = ROOT / "tests" / "unit"
    tests = {path.relative_to(unit) for path in unit.rglob("test_*.py")}
    orphans = {
        str(path)
        for path in tests
        if str(path) not in OF_NO_MODULE
        and not (ROOT / "presence" / path.with_name(path.name.removeprefix("test_"))).exists()
    }
    assert not orphans


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("wheel")
    # hatchling is in the test extra: without isolation, nothing is downloaded.
    built = run(sys.executable, "-m", "pip", "wheel", "-qq", "--no-deps", "--no-build-isolation", "-w", directory, ROOT)
    assert built.returncode == 0, built.stderr
    (wheel,) = directory.glob("*.whl")
    return wheel


def test_the_wheel_holds_the_whole_package_and_nothing_else(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    assert not tracked("presence") - names
    assert names >= {"presence/agent/journal.sql", "presence/py.typed"}
    assert any(name.startswith("presence/controlplane/store/migrations/versions/0001") for name in names)
    assert {name.partition("/")[0] for name in names} == {"presence", wheel.name.rpartition("-py3")[0] + ".dist-info"}


@pytest.fixture(scope="module")
def agent(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The scripts' directory of a fresh environment: `pip install .`, as in the interface's first line."""
    environment = tmp_path_factory.mktemp("agent")
    made = run(sys.executable, "-m", "venv", "--without-pip", environment)
    assert made.returncode == 0, made.stderr
    python = environment / "bin" / "python"
    installed = run(sys.executable, "-m", "pip", "--python", python, "install", "-qq", wheel)
    assert installed.returncode == 0, installed.stderr
    return environment / "bin"


@pytest.mark.timeout(300)
class TestTheAgentAlone:
    """Installed without extras, run from a directory without the sources."""

    def test_holds_no_library_of_the_control_plane(self, agent: Path, tmp_path: Path) -> None:
        find = "import importlib.util as u, sys; print(*filter(u.find_spec, sys.argv[1:]))"
        found = run(agent / "python", "-c", find, *CONTROL_PLANES_LIBRARIES, cwd=tmp_path)
        assert (found.stdout.split(), found.returncode) == ([], 0), found.stderr

    def test_every_module_of_the_agent_can_be_imported(self, agent: Path, tmp_path: Path) -> None:
        half = [path.relative_to(ROOT).with_suffix("") for path in MODULES if "controlplane" not in path.parts]
        names = [".".join(path.parts).removesuffix(".__init__") for path in half if path.name != "__main__"]
        code = "import importlib, sys; [importlib.import_module(name) for name in sys.argv[1:]]"
        imported = run(agent / "python", "-W", "error", "-c", code, *names, cwd=tmp_path)
        assert imported.returncode == 0, imported.stderr

    def test_says_its_version_and_helps(self, agent: Path, tmp_path: Path) -> None:
        from presence import __version__

        assert __version__ in run(agent / "presence", "--version", cwd=tmp_path).stdout
        assert "test-fire" in run(agent / "presence", "--help", cwd=tmp_path).stdout
        assert __version__ in run(agent / "python", "-m", "presence", "--version", cwd=tmp_path).stdout

    def test_explains_what_it_would_refuse(self, agent: Path, tmp_path: Path) -> None:
        uri = "http://127.0.0.1:1/{SubjectId}"
        fired = run(agent / "presence", "test-fire", uri, "--subject-id", "x", "--dry-run", cwd=tmp_path)
        assert fired.returncode == 3, fired.stderr
        assert "http://127.0.0.1:1/x" in fired.stdout

    @pytest.mark.parametrize("command", ["control-plane init --organization X", "control-plane serve", "demo"])
    def test_names_the_extra_that_a_command_needs(self, agent: Path, tmp_path: Path, command: str) -> None:
        refused = run(agent / "presence", *command.split(), cwd=tmp_path)
        assert refused.returncode == 1
        (line,) = refused.stderr.splitlines()
        assert "pip install '.[control-plane]'" in line
        assert refused.stdout == ""
