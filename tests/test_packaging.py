# Copyright 2026 The tcm_hf authors. Licensed under the Apache License, Version 2.0.
"""What an installation gets: files, metadata and the oldest versions that continuous integration tries."""

import configparser
import email
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest


ROOT = Path(__file__).resolve().parents[1]
BUILD = "import setuptools.build_meta as b; b.build_sdist('built'); b.build_wheel('built')"


@pytest.fixture(scope="module")
def built(tmp_path_factory) -> Path:
    """A folder with the source distribution and the wheel."""
    root = tmp_path_factory.mktemp("packaging") / "tcm_hf"
    left_out = shutil.ignore_patterns(
        "__pycache__", ".*", "build", "dist", "*.egg-info", "runs", "drawn", "benchmarks"
    )
    shutil.copytree(ROOT, root, ignore=left_out)
    subprocess.run([sys.executable, "-c", BUILD], cwd=root, check=True, stdout=subprocess.DEVNULL, timeout=300)
    return root / "built"


def package_files() -> set[str]:
    return {
        file.relative_to(ROOT).as_posix()
        for file in (ROOT / "tcm_hf").rglob("*")
        if file.is_file() and "__pycache__" not in file.parts
    }


def test_wheel_holds_the_package_alone(built):
    (wheel,) = built.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
        (metadata,) = (archive.read(name) for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
    assert names == package_files()
    assert "tcm_hf/checkpoints/tcm-tiny/model.safetensors" in names
    fields = email.message_from_bytes(metadata)
    assert fields["Requires-Python"] == ">=3.11"
    assert fields["Description-Content-Type"] == "text/markdown"
    assert fields.get_payload(decode=True).decode() == (ROOT / "README.md").read_text(encoding="utf-8")
    assert not any("torchvision" in requirement for requirement in fields.get_all("Requires-Dist"))


def test_source_distribution_serves_the_readme(built):
    (source,) = built.glob("*.tar.gz")
    with tarfile.open(source) as archive:
        names = {member.name.split("/", 1)[1] for member in archive if member.isfile()}
    assert (
        package_files() | {"README.md", "LICENSE", "examples/sample.jpg", "examples/train_text_detection.py"} <= names
    )
    assert not any(name.startswith("tests/") or name.endswith(".pyc") for name in names)


def oldest(*extras: str, root: Path = ROOT) -> subprocess.CompletedProcess:
    script = root / ".ci" / "oldest_requirements.py"
    return subprocess.run([sys.executable, script, *extras], capture_output=True, text=True)


def test_oldest_requirements_are_the_lower_bounds():
    pinned = dict(line.split("==") for line in oldest("test").stdout.splitlines())
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg", encoding="utf-8")
    bounds = setup["options"]["install_requires"] + setup["options.extras_require"]["test"]
    assert len(pinned) == len(bounds.split())
    for name, version in pinned.items():
        assert f"\n{name}>={version}" in bounds or f"\n{name}=={version}" in bounds


def test_requirements_without_lower_bound_are_refused(tmp_path):
    (tmp_path / ".ci").mkdir()
    shutil.copy(ROOT / ".ci" / "oldest_requirements.py", tmp_path / ".ci")
    (tmp_path / "setup.cfg").write_text("[options]\ninstall_requires =\n    numpy>=2.0\n    shapely<3\n")
    run = oldest(root=tmp_path)
    assert run.returncode == 1 and "'shapely<3' has no lower bound" in run.stderr and not run.stdout
