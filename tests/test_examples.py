"""Every chapter in examples/ runs by itself, without a warning; what a chapter claims, it asserts itself."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from false_alarms import strict

from minirnn.exercises import EXERCISES

FOLDER = Path(__file__).parents[1] / "examples"
CHAPTERS = sorted(FOLDER.glob("[0-9]*.py"))
SHORTER = {"07_adding_identity_against_glorot.py": ("UPDATES = 2000", "UPDATES = 60")}  # .ci/run runs it in full


@pytest.mark.parametrize("chapter", CHAPTERS, ids=lambda chapter: chapter.stem)
def test_a_chapter_runs_and_prints(chapter, tmp_path):
    program = [str(chapter)]
    if chapter.name in SHORTER:
        long, short = SHORTER[chapter.name]
        text = chapter.read_text("utf-8")
        assert text.count(long) == 1
        program = ["-c", text.replace(long, short)]
    run = subprocess.run(
        [sys.executable, *strict(), *program],
        cwd=tmp_path,  # not from the checkout: a chapter needs nothing but minirnn
        env={**os.environ, "PYTHONUTF8": "1", "OPENBLAS_NUM_THREADS": "1"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        encoding="utf-8",
        timeout=120,
    )
    assert run.returncode == 0, run.stderr
    assert run.stderr == ""
    assert len(run.stdout.splitlines()) >= 10
    assert not re.search(r"\bnan\b|\binf\b", run.stdout)
    assert not list(tmp_path.iterdir())  # and leaves no file behind


def test_the_readme_lists_every_chapter_in_order():
    listed = re.findall(r"\]\((\w+\.py)\)", (FOLDER / "README.md").read_text("utf-8"))
    assert listed == [chapter.name for chapter in CHAPTERS]
    assert CHAPTERS


@pytest.mark.parametrize("chapter", CHAPTERS, ids=lambda chapter: chapter.stem)
def test_a_chapter_is_a_notebook_as_a_script(chapter):
    text = chapter.read_text("utf-8")
    assert text.startswith(f"# %% [markdown]\n# # Chapter {int(chapter.name[:2])}: ")
    assert len(text.splitlines()) < 170
    prose, *code = (cell for cell in re.split(r"^# %%.*\n", text, flags=re.M) if cell.strip())
    assert all(line.startswith("#") for line in prose.splitlines() if line)
    assert len(code) >= 4
    for number in re.findall(r"chapters? (\d+)", text):
        assert 1 <= int(number) <= len(CHAPTERS)


def test_every_chapter_ends_with_exercises_and_every_exercise_stands_in_one():
    named = []
    for chapter in CHAPTERS:
        _, found, last = chapter.read_text("utf-8").rpartition("# ## Now you\n")
        names = [name for name in re.findall(r'"(\w+)"', last) if name in EXERCISES]
        assert found, chapter.name
        assert names, chapter.name
        named += names
    assert set(named) == set(EXERCISES)


def test_no_notebook_with_outputs_is_kept():
    assert {path.suffix for path in FOLDER.iterdir() if path.is_file()} == {".py", ".md"}
