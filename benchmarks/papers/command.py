"""``python -m benchmarks papers PAPER``: a paper's experiments, ours beside the published figures."""

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from tqdm import tqdm

from benchmarks.papers import PAPERS, pictures, records, report
from benchmarks.papers.base import Job, Paper, Result, Results
from benchmarks.papers.running import JobError, run_all
from minirnn.bench.measure import machine, version_of
from minirnn.cli.options import check_writable, whole_number
from minirnn.storage import write_whole
from minirnn.training.bar import size_of_bar
from minirnn.training.sweeps.engine import Engine, EngineError

COMMAND = "python -m benchmarks papers"


def main(argv: Sequence[str]) -> int:
    """Run what the command line asks for; return the exit status, 2 after an error, which is printed in one line."""
    arguments = make_parser().parse_args(argv)
    try:
        return run(arguments)
    except (ValueError, OSError, ImportError, JobError, EngineError) as error:
        print(f"{COMMAND}: error: {error}", file=sys.stderr)
        return 2


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of all papers."""
    about = "Run a paper's experiments, and hold them against the published figures, within ten minutes on two CPUs."
    epilog = "Exit status: 0 all that is judged passes, 1 something fails, 2 an error, 130 interrupted."
    parser = argparse.ArgumentParser(prog=COMMAND, description=about, epilog=epilog)
    papers = parser.add_subparsers(dest="paper", metavar="PAPER", required=True)
    for name, paper in PAPERS.items():
        description = f"{paper.what[0].upper()}{paper.what[1:]}."
        _add_options(papers.add_parser(name, help=paper.what, description=description))
    return parser


def _add_options(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--full", action="store_true", help="all of it; this takes hours")
    seeds = "runs of each setting, with seeds 0, 1, …; default: what ten minutes allow"
    add("--seeds", type=whole_number(1), metavar="K", help=seeds)
    jobs = "processes at a time, one thread each, which changes no figure; default: the CPUs that may be used"
    add("--jobs", type=whole_number(1), metavar="K", help=jobs)
    scheduler = "of a dask cluster to run on instead, such as tcp://host:8786; its workers need this checkout"
    add("--scheduler", metavar="ADDRESS", help=scheduler)
    out = "where the figures of each run (.csv), a table (.md) and, with matplotlib, a picture (.svg) go; "
    out += "default: %(default)s"
    add("--out", type=Path, default=Path("reproductions"), metavar="DIR", help=out)
    add("--resume", action="store_true", help="do not run again what is in that CSV file already")
    add("--no-progress", action="store_true", help="no bar (there is none either when stderr is not a terminal)")


def run(arguments: argparse.Namespace) -> int:
    """Run what is asked for, printing each result and then all; return 0 if all that is judged passes, else 1."""
    if arguments.jobs is not None and arguments.scheduler is not None:
        raise ValueError("--scheduler: expected no --jobs with it, got both: leave one of them out")
    paper, engine = PAPERS[arguments.paper], Engine(arguments.scheduler or arguments.jobs, "papers")
    files = _files(arguments)
    jobs = paper.jobs(arguments.full, range(arguments.seeds or paper.seeds))
    done = _earlier(files, arguments.resume)
    note = f"({engine.note})\n\n" if engine.note else ""
    print(f"{report.heading(paper)}\n\n{note}", end="", flush=True)
    start = time.perf_counter()
    interrupted = _run(jobs, done, files.csv, arguments, engine)
    seconds = time.perf_counter() - start
    results = _in_order(jobs, done)
    lines = paper.lines(results)
    passed, verdict = report.verdict(lines)
    ended = f"{verdict}; {len(results)} of {len(jobs)} runs; {report.duration(seconds)}"
    print(f"\n{report.listing(lines)}\n\n{_machine(arguments, engine)}\n{'interrupted: ' * interrupted}{ended}\n")
    text = f"# {report.heading(paper)}\n\n{report.table(lines)}\n\n({_machine(arguments, engine)}; {ended})\n"
    write_whole(files.table, text.encode(), "papers")
    print(f"Figures of each run: {files.csv}\nTable: {files.table}\n{_picture(paper, results, files.picture)}")
    return 130 if interrupted else 0 if passed else 1


class _Files(NamedTuple):
    csv: Path
    table: Path
    picture: Path


def _files(arguments: argparse.Namespace) -> _Files:
    """Return where figures, table and picture go; refuse at once what could not be written."""
    name = f"{arguments.paper}-full" if arguments.full else arguments.paper
    try:
        arguments.out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        fault = (error.strerror or str(error)).lower()
        raise ValueError(f"--out: expected a directory, got {str(arguments.out)!r}: {fault}: try another") from None
    files = _Files(*(arguments.out / f"{name}{suffix}" for suffix in (".csv", ".md", ".svg")))
    for path in files:
        check_writable("--out", path)
    return files


def _earlier(files: _Files, resume: bool) -> dict[tuple[str, int], Result]:
    """Return the results of earlier runs by setting and seed."""
    if not files.csv.exists():
        return {}
    if not resume:
        raise ValueError(
            f"--out: expected a directory without figures of this paper, got {str(files.csv)!r}: go on with them by "
            "--resume, or choose another"
        )
    return {(r.setting, r.seed): r for r in records.read(files.csv)}


def _run(
    jobs: Sequence[Job], done: dict[tuple[str, int], Result], csv: Path, arguments: argparse.Namespace, engine: Engine
) -> bool:
    """Run the jobs that are not done, writing the figures after each; return whether Ctrl-C ended it."""
    left = [job for job in jobs if (job.setting, job.seed) not in done]
    disable = True if arguments.no_progress else None
    already = len(jobs) - len(left)
    with tqdm(total=len(jobs), initial=already, unit=" runs", disable=disable, leave=False, **size_of_bar()) as bar:

        def finished(result: Result) -> None:
            done[result.setting, result.seed] = result
            records.write(csv, Results(done.values()))  # those of other settings, or more seeds, stay in it
            tqdm.write(report.of_one(result), file=sys.stdout)
            sys.stdout.flush()
            bar.update()

        try:
            run_all(left, engine, finished)
        except KeyboardInterrupt:
            return True
    return False


def _in_order(jobs: Sequence[Job], done: dict[tuple[str, int], Result]) -> Results:
    return Results(done[key] for job in jobs if (key := (job.setting, job.seed)) in done)


def _machine(arguments: argparse.Namespace, engine: Engine) -> str:
    """Return the command, the day, the machine and the versions, for a table that is kept."""
    options = " --full" if arguments.full else ""
    options += f" --seeds {arguments.seeds}" if arguments.seeds else ""
    of = machine()
    versions = f"minirnn {version_of('minirnn')}, {of['Python']}, numpy {of['numpy']}"
    where = f"{of['date']}, {of['CPU']}, {engine}, {versions}"
    return f"`{COMMAND} {arguments.paper}{options}`, {where}"


def _picture(paper: Paper, results: Results, path: Path) -> str:
    """Draw the picture where matplotlib is there; return a sentence on it."""
    if not results:
        return "No picture: there is nothing to draw"
    try:
        pictures.draw(paper, results, path)
    except ImportError as error:
        return f"No picture: {error}"
    return f"Picture: {path}"
