import csv
import re
import sys

import pytest

from benchmarks import papers
from benchmarks.__main__ import main
from benchmarks.papers.base import Job, Line, Paper, Published, percent
from benchmarks.papers.running import JobError

ERROR = "python -m benchmarks papers: error: "
RAN = []


def work(*, seed, share):
    RAN.append(seed)
    if share is None:
        raise KeyboardInterrupt
    return {"share": share + seed / 100}


def lines(results):
    made = []
    for name in dict.fromkeys(r.setting for r in results):
        shares = results.of(name, "share")
        made.append(
            Line(f"{name}: share", percent(shares), Published("50 %", False), "≥ 50 %", min(shares) >= 0.5, 1.0)
        )
    return made


def draw(axes, results):
    axes[0].plot([r.seed for r in results], [r.figures["share"] for r in results])


@pytest.fixture
def paper(monkeypatch):
    """Put a small paper in the place of a large one, and run its jobs here: what they are is told by RAN."""

    def jobs(full, seeds):
        return [Job(f"T = {T}", seed, work, {"share": 0.6}) for T in ((9, 3) if full else (3,)) for seed in seeds]

    made = Paper("irnn", "its experiments", "A paper", ("What is done.",), 2, jobs, lines, draw, 1)
    monkeypatch.setitem(papers.PAPERS, "irnn", made)
    monkeypatch.setattr("benchmarks.papers.command.run_all", run_here)
    RAN.clear()
    return made


def run_here(jobs, processes, done):
    for job in jobs:
        done(papers.Result(job.setting, job.seed, job.run(seed=job.seed, **job.arguments), 1.0))


def run(capsys, tmp_path, *options):
    status = main(["papers", "irnn", "--jobs", "1", "--no-progress", "--out", str(tmp_path / "out"), *options])
    captured = capsys.readouterr()
    return status, captured.out, captured.err


def test_it_prints_ours_beside_the_published_figures(paper, capsys, tmp_path):
    status, out, err = run(capsys, tmp_path)
    assert (status, err, RAN) == (0, "", [0, 1])
    assert out.startswith(
        "A paper\n\nWhat is done.\n\nT = 3, seed 0: share 0.6 (1 s)\nT = 3, seed 1: share 0.61 (1 s)\n"
    )
    item = """
T = 3: share
    ours         61.0 % (60.0 % … 61.0 %)
    published    50 % (unverified)
    pass         ≥ 50 %
"""
    assert item in out
    assert "\n1 of 1 pass; 2 of 2 runs; " in out
    assert re.search(
        r"^`python -m benchmarks papers irnn`, \d{4}-\d\d-\d\d, .*, minirnn \d.*, \w+ 3.*, numpy \d", out, re.M
    )


def test_it_writes_figures_and_a_picture(paper, capsys, tmp_path):
    pytest.importorskip("matplotlib", reason="matplotlib is not installed: pip install -e '.[plot]'")
    _, out, _ = run(capsys, tmp_path)
    with open(tmp_path / "out" / "irnn.csv", encoding="utf-8") as file:
        rows = list(csv.reader(file))
    assert rows[1:] == [["T = 3", "0", "share", "0.6", "1.000"], ["T = 3", "1", "share", "0.61", "1.000"]]
    table = (tmp_path / "out" / "irnn.md").read_text(encoding="utf-8")
    assert table.startswith("# A paper\n\nWhat is done.\n\n|              | ours")
    assert "| T = 3: share | 61.0 % (60.0 % … 61.0 %) | 50 % (unverified) | ≥ 50 % | pass | 1 s  |" in table
    assert re.search(r"\n\(`python -m benchmarks papers irnn`, \d{4}-.*; 1 of 1 pass; 2 of 2 runs; 0 s\)\n$", table)
    picture = tmp_path / "out" / "irnn.svg"
    assert picture.read_text(encoding="utf-8").count("</svg>") == 1
    names = (("Figures of each run", "csv"), ("Table", "md"), ("Picture", "svg"))
    assert out.endswith("\n" + "".join(f"{what}: {tmp_path / 'out' / 'irnn'}.{end}\n" for what, end in names))
    before = picture.read_bytes()
    run(capsys, tmp_path, "--resume")
    assert picture.read_bytes() == before


def test_without_matplotlib_it_says_so(paper, capsys, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    status, out, _ = run(capsys, tmp_path)
    assert status == 0
    assert out.endswith('it needs matplotlib, which is not installed: try pip install "minirnn[plot]"\n')
    assert not (tmp_path / "out" / "irnn.svg").exists()


def test_what_fails_is_status_1(paper, capsys, tmp_path, monkeypatch):
    fails = paper._replace(jobs=lambda full, seeds: [Job("T = 3", 0, work, {"share": 0.4})])
    monkeypatch.setitem(papers.PAPERS, "irnn", fails)
    status, out, _ = run(capsys, tmp_path)
    assert status == 1
    assert "\n    FAIL         ≥ 50 %\n" in out
    assert "\n0 of 1 pass; 1 of 1 runs; " in out


def test_all_of_it_and_more_seeds(paper, capsys, tmp_path):
    _, out, _ = run(capsys, tmp_path, "--full", "--seeds", "3")
    assert RAN == [0, 1, 2, 0, 1, 2]
    assert "`python -m benchmarks papers irnn --full --seeds 3`" in out
    assert (tmp_path / "out" / "irnn-full.csv").exists()


def test_resume_runs_what_is_not_there_yet(paper, capsys, tmp_path):
    run(capsys, tmp_path, "--seeds", "1")
    RAN.clear()
    _, out, _ = run(capsys, tmp_path, "--seeds", "3", "--resume")
    assert RAN == [1, 2]
    assert "3 of 3 runs" in out
    assert "60.0 %" in out
    figures = (tmp_path / "out" / "irnn.csv").read_text(encoding="utf-8")
    RAN.clear()
    _, out, _ = run(capsys, tmp_path, "--seeds", "2", "--resume")
    assert RAN == []
    assert "2 of 2 runs" in out
    assert (tmp_path / "out" / "irnn.csv").read_text(encoding="utf-8") == figures


def test_results_that_are_not_asked_for_stay_where_they_are(paper, capsys, tmp_path):
    run(capsys, tmp_path, "--seeds", "1")
    csv = tmp_path / "out" / "irnn.csv"
    with open(csv, "a", encoding="utf-8") as file:
        file.write("T = 77,5,share,0.125,1.000\n")
    _, out, _ = run(capsys, tmp_path, "--seeds", "2", "--resume")
    assert RAN == [0, 1]
    assert "T = 77" not in out
    assert "T = 77,5,share,0.125,1.000" in csv.read_text(encoding="utf-8")


def test_results_of_an_earlier_run_are_not_overwritten(paper, capsys, tmp_path):
    run(capsys, tmp_path)
    RAN.clear()
    status, _, err = run(capsys, tmp_path)
    assert (status, RAN) == (2, [])
    assert err == (
        f"{ERROR}--out: expected a directory without figures of this paper, got "
        f"'{tmp_path / 'out' / 'irnn.csv'}': go on with them by --resume, or choose another\n"
    )


def test_a_job_that_fails_is_an_error_in_one_line(paper, capsys, tmp_path, monkeypatch):
    def run_all(jobs, processes, done):
        raise JobError("papers: T = 3, seed 0: ValueError: no")

    monkeypatch.setattr("benchmarks.papers.command.run_all", run_all)
    assert run(capsys, tmp_path)[::2] == (2, f"{ERROR}papers: T = 3, seed 0: ValueError: no\n")


def test_ctrl_c_keeps_what_there_is(paper, capsys, tmp_path, monkeypatch):
    stops = paper._replace(
        jobs=lambda full, seeds: [Job("T = 3", 0, work, {"share": 0.7}), Job("T = 3", 1, work, {"share": None})]
    )
    monkeypatch.setitem(papers.PAPERS, "irnn", stops)
    status, out, _ = run(capsys, tmp_path)
    assert status == 130
    assert "70.0 %" in out
    assert "\ninterrupted: 1 of 1 pass; 1 of 2 runs; " in out
    assert "T = 3,0,share,0.7" in (tmp_path / "out" / "irnn.csv").read_text(encoding="utf-8").replace('"', "")


def test_help_lists_the_papers_and_bad_options_are_refused(capsys):
    def ended(*options):
        with pytest.raises(SystemExit) as caught:
            main(["papers", *options])
        out, err = capsys.readouterr()
        return caught.value.code, " ".join((out + err).split())

    status, text = ended("--help")
    assert status == 0
    assert all(f" {name} {paper.what}" in text for name, paper in papers.PAPERS.items())
    status, text = ended("gers")
    assert status == 2
    assert "argument PAPER: invalid choice: 'gers'" in text
    assert "argument --seeds: expected a whole number ≥ 1, got '0'" in ended("irnn", "--seeds", "0")[1]


def test_a_place_that_cannot_be_written_is_refused_before_anything_runs(paper, capsys, tmp_path):
    (tmp_path / "out").write_text("a file")
    status, _, err = run(capsys, tmp_path)
    assert (status, RAN) == (2, [])
    assert err == f"{ERROR}--out: expected a directory, got '{tmp_path / 'out'}': file exists: try another\n"


def test_another_file_there_is_refused_by_resume(paper, capsys, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "irnn.csv").write_text("a,b\n", encoding="utf-8")
    status, _, err = run(capsys, tmp_path, "--resume")
    assert (status, RAN) == (2, [])
    assert "expected results that an earlier run wrote" in err
