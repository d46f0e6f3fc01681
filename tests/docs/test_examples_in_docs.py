"""Run the Python examples of the documents, read their commands, and check their links and the files that they name."""

from __future__ import annotations

import argparse
import importlib
import re
import shlex
from pathlib import Path

import pytest

from harmonixr_model import examples
from harmonixr_platform import cli

ROOT = Path(__file__).resolve().parents[2]
FOLDERS = ("harmonixr_model", "platform", "ui", "tests", "benchmarks", "infra", "docs")
DOCUMENTS = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("harmonixr_model/**/*.md")])
_PYTHON = re.compile(r"^```python\n(.*?)^```", re.DOTALL | re.MULTILINE)
# A command on a line of its own. Text after two spaces is a comment.
_COMMAND = re.compile(r"^(?: {4})?(?:ray job submit .*-- )?harmonixr (\w+)((?: [^ \n]+)*)", re.MULTILINE)
_LINK = re.compile(r"\]\(([^)#\s]+)(?:#[^)]*)?\)")
_FILE = re.compile(r"`([\w./-]+/[\w.-]+\.(?:py|md|yaml|h|cpp|js|lua|svg))`")
FILES = [f"/{path.relative_to(ROOT)}" for folder in FOLDERS for path in (ROOT / folder).rglob("*.*")]
# History names files that are gone, and so does the last column of the table of files to touch.
HISTORY = {ROOT / "docs" / "log.md"}
_LAST_COLUMN = re.compile(r"\|[^|\n]*\|$", re.MULTILINE)


def examples_of(name: str) -> list[str]:
    return _PYTHON.findall((ROOT / name).read_text())


def test_every_example_of_the_concepts_page_runs(capsys):
    namespace: dict[str, object] = {}
    blocks = examples_of("docs/concepts.md")
    for block in blocks:
        exec(compile(block, "docs/concepts.md", "exec"), namespace)
    assert len(blocks) == 9
    assert capsys.readouterr().out.count("\n") >= 9


def test_the_python_example_of_the_readme_writes_a_filled_song(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "song.mid").write_bytes(examples.load("minuet-in-g"))
    for block in examples_of("README.md"):
        exec(compile(block, "README.md", "exec"), {})
    assert (tmp_path / "filled.mid").read_bytes().startswith(b"MThd")


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_and_named_files_exist(document):
    text = document.read_text()
    links = [link for link in _LINK.findall(text) if not re.match(r"\w+:", link)]
    missing = [link for link in links if not (document.parent / link).exists()]
    if document not in HISTORY:
        named = _FILE.findall(_LAST_COLUMN.sub("", text) if document.stem == "architecture" else text)
        missing += [name for name in named if not any(file.endswith(f"/{name}") for file in FILES)]
    assert not missing


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_command_in_a_block_is_accepted(document):
    for name, rest in _COMMAND.findall(document.read_text().replace(" \\\n      ", " ")):
        parser = argparse.ArgumentParser(prog=name, exit_on_error=False, allow_abbrev=False)
        importlib.import_module(f"{cli.__name__}.{name}").add_arguments(parser)
        parser.parse_args(shlex.split(rest.translate(str.maketrans("", "", "[]"))))
