"""Every chapter in examples/ runs by itself, without a warning; what a chapter claims, it asserts itself."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[1] / "examples"
CHAPTERS = sorted(FOLDER.glob("[0-9]*.py"))
SHORTER = {"06_adding_identity_against_glorot.py": ["--updates", "60"]}  # .ci/run runs it in full


@pytest.mark.parametrize("chapter", CHAPTERS, ids=lambda chapter: chapter.stem)
def test_a_chapter_runs_and_prints(chapter, tmp_path):
    run = subprocess.run(
        [sys.executable, "-W", "error", str(chapter), *SHORTER.get(chapter.name, [])],
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
def test_a_chapter_is_short_and_says_what_it_is(chapter):
    lines = chapter.read_text("utf-8").splitlines()
    assert lines[0].startswith(f'"""Chapter {int(chapter.name[:2])}: ')
    assert len(lines) < 70
