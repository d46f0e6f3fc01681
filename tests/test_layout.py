"""What must stay true of the project's layout."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


def test_platform_is_a_plain_folder_so_that_the_stdlib_module_is_not_shadowed():
    assert not (ROOT / "platform" / "__init__.py").exists()
    assert not list((ROOT / "platform").rglob("test_*.py"))
    assert not list((ROOT / "platform").rglob("conftest.py"))
    assert not (ROOT / "tests" / "platform").exists()


@pytest.mark.parametrize("module", ["harmonixr_model", "harmonixr_platform.cli", "harmonixr_platform.schemas"])
def test_importing_does_no_heavy_work(module):
    heavy = "torch", "ray", "gradio", "boto3", "redis", "symusic", "pretty_midi"
    script = f"import sys, {module}; print(*[m for m in {heavy!r} if m in sys.modules])"
    found = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout.split()
    assert found == []


def test_the_package_gives_its_three_classes_on_first_use():
    script = """
import sys, harmonixr_model as hx
assert "torch" not in sys.modules
assert {"Infiller", "Region", "Song"} <= set(dir(hx))
from harmonixr_model.music.region import Region
from harmonixr_model.music.song import Song
assert (hx.Region, hx.Song) == (Region, Song)
assert "torch" not in sys.modules
assert callable(hx.Infiller.load)
assert not hasattr(hx, "Infiler")
"""
    subprocess.run([sys.executable, "-c", script], check=True)


def test_the_lock_file_holds_a_version_inside_every_declared_range():
    from packaging.requirements import Requirement

    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    declared = project["dependencies"] + [r for group in project["optional-dependencies"].values() for r in group]
    locked = dict(re.findall(r"^([\w.-]+)==([\w.+!-]+)$", (ROOT / "requirements.lock").read_text(), re.M))
    versions = {name.lower().replace("_", "-").replace(".", "-"): version for name, version in locked.items()}
    for line in declared:
        requirement = Requirement(line)
        if requirement.name == project["name"]:  # an extra that includes another extra
            continue
        version = versions[requirement.name.lower().replace("_", "-").replace(".", "-")]
        assert requirement.specifier.contains(version), line


def test_every_command_has_its_module_and_helpful_text():
    from harmonixr_platform.cli import COMMANDS

    for name in COMMANDS:
        result = subprocess.run(
            [sys.executable, "-m", "harmonixr_platform.cli", name, "--help"],
            capture_output=True,
            text=True,
            check=False,
        )
        assert result.returncode == 0, result.stderr
        assert result.stdout.startswith(f"usage: harmonixr {name}")
        assert len(result.stdout.splitlines()) > 3
