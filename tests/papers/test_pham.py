"""Dropout between layers leaves the recurrent path alone, dropout everywhere does not; and how the table judges it."""

import numpy as np
import pytest
from error_texts import raises

import minirnn as mr
from benchmarks.papers import pham
from benchmarks.papers.base import Result, Results
from benchmarks.papers.pham import BETWEEN, EVERYWHERE, SEQUENCE, WITHOUT, DroppedEveryStep


def sequence(T=6, N=4, D=3, seed=1):
    return np.random.default_rng(seed).standard_normal((T, N, D))


def layer_of(**settings):
    return mr.RecurrentLayer(3, 5, dtype=np.float64, rng=0, **settings)


def gradients(module, x, state):
    outputs, final_state = module(x, state)
    loss = (outputs**2).sum() + (final_state**3).sum()
    return [outputs.numpy(), *(g.numpy() for g in mr.grad(loss, [state, *module.parameters()]))]


# --- dropout on the recurrent connections -----------------------------------------------------------------------------


def test_everywhere_with_p_0_is_the_layer_to_the_last_bit():
    layer, state = layer_of(backend="graph"), mr.Tensor(sequence(1, 4, 5)[0], requires_grad=True)
    expected = gradients(layer, sequence(), state)
    for made, exact in zip(gradients(DroppedEveryStep(layer, 0.0, 0), sequence(), state), expected, strict=True):
        assert np.array_equal(made, exact)


def test_everywhere_is_the_equation_with_a_mask_of_its_own_at_every_step():
    layer, x, rng = layer_of(), sequence(), np.random.default_rng(7)
    h, expected = np.zeros((4, 5)), []
    for x_t in x:
        mask = (rng.random((4, 5)) >= 0.4) / (1 - 0.4)
        h = np.tanh(x_t @ layer.W_xh.data + (mask * h) @ layer.W_hh.data + layer.b_h.data)
        expected.append(h)
    outputs, final_state = DroppedEveryStep(layer, 0.4, 7)(x)
    np.testing.assert_allclose(outputs.numpy(), expected, rtol=1e-12)
    assert np.array_equal(final_state.numpy(), outputs.numpy()[-1])


def test_everywhere_in_evaluation_mode_is_the_layer():
    layer = layer_of()
    outputs, _ = DroppedEveryStep(layer, 0.5, 0).eval()(sequence(), lengths=[6, 2, 3, 1])
    assert np.array_equal(outputs.numpy(), layer(sequence(), lengths=[6, 2, 3, 1]).outputs.numpy())


def test_everywhere_refuses_what_it_does_not_know():
    message = "DroppedEveryStep: lengths and reset are not known to it in training: leave them out"
    with raises(ValueError, message):
        DroppedEveryStep(layer_of(), 0.5, 0)(sequence(), lengths=[6, 2, 3, 1])


# --- the way back -----------------------------------------------------------------------------------------------------


def of_ones(placement, rng=0):
    """Two linear layers with W_hh = 1, of 5 neurons."""
    settings = {"activation": "identity", "recurrent_initializer": "identity", "dtype": np.float64}
    return pham.build(placement, (3, 5, 5, 1), np.random.default_rng(rng), **settings)


def test_factors_are_the_jacobian_that_trace_finds():
    model = of_ones(BETWEEN)
    found, _ = pham.factors(model, sequence(50), sequence(2, 4, 5))
    trace = mr.bptt.trace(model.recurrent.layers[0], sequence(50), lambda outputs: outputs[-1].sum())
    assert np.array_equal(trace.jacobian(49, 0), np.tile(np.eye(5), (4, 1, 1)))
    assert np.array_equal(trace.dL_dinitial_state[0], found[0])
    assert (found == 1).all()


def test_factors_everywhere_are_products_of_masks():
    model, k = of_ones(EVERYWHERE), 3
    twin = of_ones(EVERYWHERE).recurrent.layers[0].dropout.rng  # where the masks will come from
    lower = np.prod([(twin.random((4, 5)) >= 0.5) / 0.5 for _ in range(k)], axis=0)
    twin.random((k, 4, 5))  # between the layers
    upper = np.prod([(twin.random((4, 5)) >= 0.5) / 0.5 for _ in range(k)], axis=0)
    found, _ = pham.factors(model, sequence(k), sequence(2, 4, 5))
    assert np.array_equal(found, [lower, upper])
    assert set(found.ravel()) == {0.0, 8.0}


def test_paths_between_layers_are_all_left_whatever_the_masks():
    figures = pham.paths(seed=5, placement=BETWEEN, steps=(1, 20))
    for k in (1, 20):
        assert [figures[f"{name}, {k} steps back"] for name in ("left", "mean", "least", "largest")] == [1.0] * 4
        assert figures[f"change of factors, {k} steps back"] == 0
        assert figures[f"change of predictions, {k} steps back"] > 0.1


def test_paths_everywhere_are_thinned_out():
    figures = pham.paths(seed=5, placement=EVERYWHERE, steps=(1, 4, 30))
    assert figures["change of factors, 1 steps back"] == figures["largest, 1 steps back"] == 2
    assert figures["left, 4 steps back"] == pytest.approx(1 / 16, abs=0.01)
    assert (figures["largest, 4 steps back"], figures["median, 4 steps back"]) == (16, 0)
    assert figures["left, 30 steps back"] == 0


# --- the trainings ----------------------------------------------------------------------------------------------------


def test_placements_start_from_the_same_weights():
    made = [of_ones(placement).state_dict().values() for placement in (WITHOUT, BETWEEN, EVERYWHERE, SEQUENCE)]
    for others in made[1:]:
        assert all(np.array_equal(a, b) for a, b in zip(made[0], others, strict=True))


def test_dropout_stands_where_its_placement_says():
    layers = {at: of_ones(at).recurrent.layers for at in (WITHOUT, BETWEEN, EVERYWHERE, SEQUENCE)}
    assert [layer.recurrent_dropout for at in (WITHOUT, BETWEEN, SEQUENCE) for layer in layers[at]] == [
        0,
        0,
        0,
        0,
        0.5,
        0.5,
    ]
    assert {layer.dropout.p for layer in layers[EVERYWHERE]} == {0.5}
    heads = {at: type(of_ones(at).head).__name__ for at in layers}
    assert heads == {WITHOUT: "Linear", BETWEEN: "Sequential", EVERYWHERE: "Sequential", SEQUENCE: "Sequential"}
    assert of_ones(WITHOUT).recurrent.dropout is None
    assert {of_ones(at).recurrent.dropout.p for at in (BETWEEN, EVERYWHERE, SEQUENCE)} == {0.5}


def test_temporal_order_is_learnt_between_layers_and_not_everywhere():
    run = {"seed": 3, "T": 16, "updates": 200}
    learnt, lost = (pham.temporal_order(placement=at, **run) for at in (BETWEEN, EVERYWHERE))
    assert learnt["wrong"] < 0.01
    assert learnt["updates"] <= 200
    assert lost["wrong"] > 0.3
    assert lost["updates"] == 200


def test_the_same_seed_gives_the_same_figures():
    for placement in (WITHOUT, BETWEEN, EVERYWHERE, SEQUENCE):
        run = {"placement": placement, "T": 10, "updates": 3}
        first, again, other = (pham.temporal_order(seed=seed, **run) for seed in (0, 0, 1))
        assert first == again != other


def test_few_digits():
    pytest.importorskip("sklearn")
    run = {"placement": BETWEEN, "images": 100, "updates": 60, "draws": 2}
    first, again = (pham.few_digits(seed=4, **run) for _ in range(2))
    assert first == again
    assert first["wrong in training"] < first["wrong"] < 0.5


def test_few_digits_parts_all_images():
    pytest.importorskip("sklearn")
    task, whole = pham.FewDigits(200, np.random.default_rng(0)), mr.tasks.DigitsTask()
    assert (task.train[0].shape, task.held_out[0].shape) == ((8, 200, 8), (8, 1597, 8))
    parts = [
        sorted((*x[:, n].ravel(), y[n]) for of in (t.train, t.held_out) for x, y in [of] for n in range(len(y)))
        for t in (task, whole)
    ]
    assert parts[0] == parts[1]


# --- jobs, table, picture ---------------------------------------------------------------------------------------------


def test_without_scikit_learn_the_digits_are_left_out(monkeypatch):
    monkeypatch.setattr(pham, "NEEDED", "a_package_that_is_nowhere")
    assert not [job for job in pham.jobs(True, [0]) if "digits" in job.setting]
    (line,) = pham.lines(Results())
    assert line == ("200 digits", 'left out: needs scikit-learn, try pip install "minirnn[data]"', None, "", None, 0.0)


def results(**changes):
    """Results on which all passes, but for figures given as {setting: {figure: value}} of seed 1."""
    of_steps = {
        BETWEEN: lambda k: {"left": 1, "mean": 1, "median": 1, "least": 1, "largest": 1},
        EVERYWHERE: lambda k: {"left": 0.5**k if k < 50 else 0, "mean": 1, "median": 0, "least": 0, "largest": 2.0**k},
    }
    more = {BETWEEN: {"change of factors": 0, "change of predictions": 3}, EVERYWHERE: {}}
    found = {
        pham.of_paths(at): {f"{name}, {k} steps back": v for k in pham.STEPS for name, v in (of(k) | more[at]).items()}
        for at, of in of_steps.items()
    }
    for at, order, digits in (
        (WITHOUT, 0.001, 0.09),
        (BETWEEN, 0.002, 0.09),
        (EVERYWHERE, 0.7, 0.1),
        (SEQUENCE, 0.6, None),
    ):
        found[pham.of_order(at)] = {"wrong": order, "updates": 200}
        if digits is not None:
            found[pham.of_digits(at)] = {"wrong": digits}
    made = Results(Result(setting, 0, dict(figures), 1.0) for setting, figures in found.items())
    made += [Result(s, 1, figures | changes.get(s, {}), 2.0) for s, figures in found.items()]
    return made


def failing(**changes):
    return [line.what for line in pham.lines(results(**changes)) if line.passed is False]


def test_lines_all_pass():
    made = pham.lines(results())
    assert [line.passed for line in made] == [True] * 4 + [True, True, True, None] + [None, True, True]
    assert made[0].ours == "1 … 1, changed by masks by 0"
    assert made[1].ours == "50 %, 25 %, 3.1 %, 0.098 %"
    assert made[6].ours == "70.0 %, 0 of 2 solve it"
    assert made[5].ours == "0.2 %, 2 of 2 solve it in 200 updates"
    assert all(bool(line.rule) == (line.passed is not None) for line in made)
    assert made[0].seconds == 3.0


def test_one_figure_fails_one_line():
    for setting, figures in (
        (pham.of_paths(BETWEEN), {"least, 50 steps back": 1 - 2**-53}),
        (pham.of_paths(BETWEEN), {"change of factors, 50 steps back": 1e-16}),
        (pham.of_paths(BETWEEN), {"change of predictions, 50 steps back": 0}),
        (pham.of_paths(EVERYWHERE), {"left, 2 steps back": 0.27}),
        (pham.of_paths(EVERYWHERE), {"left, 50 steps back": 1e-4}),
        (pham.of_paths(EVERYWHERE), {"mean, 5 steps back": 1.2}),
        (pham.of_paths(EVERYWHERE), {"median, 5 steps back": 1}),
        (pham.of_order(WITHOUT), {"wrong": 0.01}),
        (pham.of_order(BETWEEN), {"wrong": 0.02}),
        (pham.of_order(EVERYWHERE), {"wrong": 0.009}),
        (pham.of_digits(BETWEEN), {"wrong": 0.095}),
    ):
        (what,) = failing(**{setting: figures})
        assert setting.split(", ")[-1] in what


def test_everywhere_no_worse_on_digits_fails():
    made = Results(r for r in results() if r.setting != pham.of_digits(EVERYWHERE))
    made.append(Result(pham.of_digits(EVERYWHERE), 0, {"wrong": 0.09}, 1.0))
    assert [line.what for line in pham.lines(made) if line.passed is False] == ["200 digits, everywhere: others wrong"]


def test_lines_come_in_the_same_order_whatever_finished_first():
    made = [line.what for line in pham.lines(results())]
    assert [line.what for line in pham.lines(Results(reversed(results())))] == made
    names = [
        pham.of_order(BETWEEN, 100),
        pham.of_order(EVERYWHERE),
        pham.of_order(BETWEEN, p=0.25),
        pham.of_order(BETWEEN),
    ]
    of = [
        line.what for line in pham.lines(Results(Result(name, 0, {"wrong": 0.5, "updates": 9}, 1.0) for name in names))
    ]
    assert [what.removesuffix(": sequences wrong") for what in of[:4]] == [names[3], names[1], names[2], names[0]]


def test_lines_of_some_results_only():
    for r in results():
        assert len(pham.lines(Results([r]))) <= 4
    assert pham.lines(Results([Result(pham.of_digits(BETWEEN), 0, {"wrong": 0.1}, 1.0)]))[0].passed is None


@pytest.mark.parametrize("made", [Results(), results()])
def test_draw(made):
    figure = pytest.importorskip("matplotlib.figure").Figure()
    axes = figure.subplots(1, pham.PAPER.panels)
    pham.PAPER.draw(axes, made)
    figure.canvas.draw()
    back, order, digits = axes
    assert all(a.get_ylabel() for a in axes)
    assert len(order.get_xticks()) == 4
    if made:
        assert [line.get_ydata()[0] for line in back.lines[:2]] == [100, 50]
        assert len(digits.lines) == 6
