import gc
import json
import os
import sys
from pathlib import Path

import numpy as np
import pytest

from minirnn.bench import measure


def test_contestants_take_turns_after_a_warm_up_in_turns():
    calls = []
    contestants = {name: lambda name=name: calls.append(name) for name in "ABC"}
    times = measure.take_turns(contestants, turns=4, runs=2, warm_up=3)
    assert "".join(calls) == "ABC" * (3 + 2 * 4)
    assert {name: [len(run) for run in own] for name, own in times.items()} == {name: [4, 4] for name in "ABC"}
    assert all(seconds > 0 for own in times.values() for run in own for seconds in run)


def test_what_comes_before_a_turn_is_told_whose_it_is():
    calls = []
    contestants = {name: lambda name=name: calls.append(name) for name in "AB"}
    measure.take_turns(contestants, turns=2, runs=1, warm_up=1, before=lambda name: calls.append(name.lower()))
    assert "".join(calls) == "aAbB" * 3


def test_when_time_is_up_the_fewest_turns_are_taken_all_the_same():
    calls = []
    times = measure.take_turns({"A": lambda: calls.append(1)}, turns=50, runs=2, warm_up=5, seconds=0.0)
    assert measure.FEWEST == 3  # fewer have no quartiles
    assert len(calls) == 1 + 2 * 3
    assert [len(run) for run in times["A"]] == [measure.FEWEST] * 2
    assert len(measure.take_turns({"A": int}, turns=2, runs=1, seconds=0.0)["A"][0]) == 2


def test_a_contestant_that_fails_leaves_the_garbage_collector_as_it_was():
    calls = []

    def fail():
        calls.append(1)
        if len(calls) > 2:
            raise ValueError("enough")

    with pytest.raises(ValueError, match="enough"):
        measure.take_turns({"A": fail}, warm_up=1)
    assert gc.get_freeze_count() == 0


def test_spread_is_the_median_over_the_runs_of_each_quartile():
    assert measure.spread([[1.0, 2.0, 3.0, 4.0, 5.0]]) == (2.0, 3.0, 4.0)
    assert measure.spread([[1.0, 2.0, 3.0], [11.0, 12.0, 13.0], [5.0, 6.0, 7.0]]).median == 6.0
    assert measure.spread([[7.0]]) == (7.0, 7.0, 7.0)


def test_a_ratio_is_taken_turn_by_turn():
    assert measure.ratio([[2.0, 20.0, 40.0]], [[1.0, 10.0, 10.0]]) == (2.0, 2.0, 3.0)


def test_the_machine_says_what_did_the_work(monkeypatch):
    described = measure.machine(["numpy", "no-such-package"])
    assert described["numpy"] == np.__version__
    assert {"date", "CPU", "CPUs", "system", "Python", "BLAS"} <= described.keys()
    assert "no-such-package" not in described
    monkeypatch.setattr(measure.os, "cpu_count", lambda: 8)
    monkeypatch.setattr(measure.os, "sched_getaffinity", lambda pid: {5, 2}, raising=False)
    assert measure.machine()["CPUs"] == "8, of which this process uses 2 (pinned to CPU 2, 5)"
    monkeypatch.setattr(measure.os, "sched_getaffinity", lambda pid: set(range(8)))
    assert measure.machine()["CPUs"] == "8, of which this process uses 8 (not pinned)"


def test_without_threadpoolctl_the_machine_says_what_would_tell(monkeypatch):
    monkeypatch.setitem(sys.modules, "threadpoolctl", None)
    assert measure.machine()["BLAS"].endswith(' (its kernels and threads: pip install "minirnn[threads]")')


def test_markdown():
    assert measure.markdown(("", "µs"), [("a", 1.5), ("long", "22")]) == (
        "|      |  µs |\n| ---- | --: |\n| a    | 1.5 |\n| long |  22 |"
    )


def test_json_takes_the_place_of_the_old_file_when_it_is_whole(tmp_path):
    path = tmp_path / "times.json"
    measure.write_json(path, {"µs": [1, 2]})
    assert json.loads(path.read_text("utf-8")) == {"µs": [1, 2]}
    with pytest.raises(TypeError):
        measure.write_json(path, {"µs": object()})
    assert json.loads(path.read_text("utf-8")) == {"µs": [1, 2]}
    assert list(tmp_path.iterdir()) == [path]


def test_json_can_go_where_there_is_no_file(tmp_path):
    if not Path(os.devnull).is_char_device():
        pytest.skip("no device to write to")
    measure.write_json(Path(os.devnull), [1])
    assert Path(os.devnull).is_char_device()
