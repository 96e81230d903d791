"""``pip install .`` in a clean clone gives a ``vnet`` that works anywhere, with its labs."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tarfile
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

# Dependencies are compiled once for all runs; nothing else is shared with the checkout.
TARGET = ROOT / "target" / "packaging"


def run(*command: str | Path, directory: Path, **environment: str) -> str:
    """Runs it without this environment's Python in sight; its output."""
    inherited = {name: value for name, value in os.environ.items() if name not in ("VIRTUAL_ENV", "PYTHONPATH")}
    done = subprocess.run(
        [str(word) for word in command],
        cwd=directory,
        env=inherited | environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What is committed, and nothing else."""
    if not (ROOT / ".git").exists():
        pytest.skip("this is no git checkout, so there is nothing to clone")
    if shutil.which("git") is None:
        pytest.skip("git is missing: apt-get install git")
    directory = tmp_path_factory.mktemp("clean") / "vnet"
    run("git", "clone", "--quiet", ROOT, directory, directory=ROOT)
    return directory


@pytest.fixture(scope="module")
def wheel(clone: Path) -> Path:
    """The wheel as ``pip install .`` makes it, with a build environment of its own."""
    run(
        *(sys.executable, "-m", "pip", "wheel", "--no-deps", "--wheel-dir", "dist", "."),
        directory=clone,
        CARGO_TARGET_DIR=str(TARGET),
    )
    (made,) = (clone / "dist").glob("*.whl")
    return made


def files(wheel: Path) -> set[str]:
    with zipfile.ZipFile(wheel) as archive:
        return set(archive.namelist())


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_wheel_has_what_it_needs_and_nothing_else(clone: Path, wheel: Path) -> None:
    packed = files(wheel)
    listed = run("git", "ls-files", "-z", "vnet", "pytest_vnet", "topologies", directory=clone).split("\0")
    labs = {f"vnet/{path}" for path in listed if path.startswith("topologies/")}
    ours = ("vnet/", "pytest_vnet/")
    code = {path for path in listed if path.startswith(ours) and path != "vnet/topologies" and path[-3:] != ".rs"}
    assert "vnet/py.typed" in code
    assert "pytest_vnet/__init__.py" in code
    assert "vnet/_native.pyi" in code
    assert "vnet/topologies/quickstart.yaml" in labs
    assert {path for path in packed if ".dist-info/" not in path} == labs | code | {"vnet/_native.abi3.so"}
    assert any(path.endswith("/licenses/LICENSE") for path in packed)
    assert "-cp310-abi3-" in wheel.name


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_source_distribution_gives_the_same_wheel(clone: Path, wheel: Path, tmp_path: Path) -> None:
    run(sys.executable, "-m", "maturin", "sdist", "--out", tmp_path, directory=clone)
    (packed,) = tmp_path.glob("*.tar.gz")
    with tarfile.open(packed) as archive:
        assert not [member.name for member in archive if member.issym() or member.islnk()]
    run(
        *(sys.executable, "-m", "pip", "wheel", "--no-deps", "--wheel-dir", "again", packed),
        directory=tmp_path,
        CARGO_TARGET_DIR=str(TARGET),
        # Which files are in it is the question here, not how fast they are.
        MATURIN_PEP517_ARGS="--profile dev",
    )
    (again,) = (tmp_path / "again").glob("*.whl")
    assert files(again) == files(wheel)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_vnet_works_from_an_environment_and_a_directory_of_its_own(wheel: Path, tmp_path: Path) -> None:
    venv.create(tmp_path / "own", with_pip=True)
    binaries = tmp_path / "own" / "bin"
    run(binaries / "python", "-m", "pip", "install", "--quiet", wheel, directory=tmp_path)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()

    assert "quickstart" in run(binaries / "vnet", "labs", directory=elsewhere)
    report = json.loads(run(binaries / "vnet", "run", "quickstart", "--json", "--out", "out", directory=elsewhere))
    assert report["passed"]
    assert (elsewhere / "out" / "capture.pcapng").stat().st_size > 1000
    run(
        binaries / "python",
        "-W",
        "error",
        "-c",
        "import vnet; vnet.Lan(None, '10.0.0.0/24').close()",
        directory=elsewhere,
    )


def test_a_checkout_that_was_not_built_says_what_to_run(clone: Path) -> None:
    for arguments in (["-c", "import vnet"], ["-m", "vnet"]):
        done = subprocess.run(
            [sys.executable, *arguments], cwd=clone, capture_output=True, text=True, check=False, timeout=20
        )
        assert done.returncode == 1
        assert "in a checkout, run `make build`" in done.stderr.splitlines()[-1]
