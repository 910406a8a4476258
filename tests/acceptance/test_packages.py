"""The agent's Debian package, built from this tree; and the agent that it installs, under a booted systemd.

What `python -m tests.boot` does besides takes too long for every run.
"""

import configparser
import re
import subprocess
import sys
from pathlib import Path

import pytest

from presence import __version__
from tests.test_structure import CONTROL_PLANES_LIBRARIES

ROOT = Path(__file__).parents[2]
NOT_POSSIBLE = 3
"""Exit code of `python -m tests.boot` where such a container cannot be made."""

pytestmark = pytest.mark.timeout(400)


def run(*command: str | Path) -> str:
    done = subprocess.run(command, cwd=ROOT, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """By the README's command, which prints the path alone."""
    built = run("systemd/debian/build", tmp_path_factory.mktemp("package"))
    return Path(built.removesuffix("\n"))


@pytest.fixture(scope="module")
def content(package: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The package unpacked, its control files in DEBIAN."""
    directory = tmp_path_factory.mktemp("content") / "root"
    run("dpkg-deb", "--raw-extract", package, directory)
    return directory


def control(content: Path) -> dict[str, str]:
    fields = re.findall(r"^(\S+): (.*)$", (content / "DEBIAN/control").read_text(), re.MULTILINE)
    return dict(fields)


def test_its_name_says_version_and_architecture(package: Path, content: Path) -> None:
    fields = control(content)
    assert fields["Version"] == __version__
    assert package.name == f"presence-agent_{__version__}_{fields['Architecture']}.deb"


def test_it_depends_on_the_python_that_its_modules_were_built_for(content: Path) -> None:
    (library,) = (content / "opt/presence/lib").iterdir()
    minor = int(library.name.removeprefix("python3."))
    assert f"python3 (>= 3.{minor}), python3 (<< 3.{minor + 1})" in control(content)["Depends"]


def test_it_holds_settings_unit_and_user_of_this_tree(content: Path) -> None:
    for installed, source in {
        "etc/presence/agent.toml": "config/agent.toml",
        "lib/systemd/system/presence.service": "systemd/presence.service",
        "usr/lib/sysusers.d/presence.conf": "systemd/sysusers.d/presence.conf",
    }.items():
        assert (content / installed).read_bytes() == (ROOT / source).read_bytes()
    assert (content / "DEBIAN/conffiles").read_text() == "/etc/presence/agent.toml\n"
    assert (content / "usr/bin/presence").readlink() == Path("/opt/presence/bin/presence")


def test_nothing_in_it_names_the_place_where_it_was_built(content: Path) -> None:
    environment = configparser.ConfigParser()
    environment.read_string("[venv]\n" + (content / "opt/presence/pyvenv.cfg").read_text())
    assert environment["venv"]["home"] == "/usr/bin"
    found = subprocess.run(["grep", "-rlF", "-e", "/root/opt/presence", "-e", str(ROOT), content], capture_output=True)
    assert found.stdout.decode() == ""
    links = {path.readlink() for path in (content / "opt/presence/bin").iterdir() if path.is_symlink()}
    assert links <= {Path("/usr/bin/python3"), Path("python3")}


def test_it_holds_neither_pip_nor_a_library_of_the_control_plane(content: Path) -> None:
    (packages,) = (content / "opt/presence/lib").glob("python3.*/site-packages")
    names = {path.name for path in packages.iterdir()}
    assert {"presence", "aiohttp", "uvloop"} <= names
    assert not names & {"pip", "setuptools", *CONTROL_PLANES_LIBRARIES}


def test_its_scripts_are_sound(content: Path) -> None:
    for script in ("postinst", "prerm", "postrm"):
        path = content / "DEBIAN" / script
        assert path.stat().st_mode & 0o777 == 0o755
        run("sh", "-n", path)


def test_installed_it_delivers_as_a_service_is_reloaded_stopped_and_purged(package: Path) -> None:
    """In a container that was booted with the real systemd."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.boot", "--package", package, "deliver", "reload", "operate", "stop", "remove"],
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    if done.returncode == NOT_POSSIBLE:
        pytest.skip(done.stdout)
    assert done.returncode == 0, done.stdout
