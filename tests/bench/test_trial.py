import numpy as np
import pytest
from error_texts import raises

from minirnn import textbook
from minirnn.bench import cells as trial_module
from minirnn.bench.cells import KINDS, Shape, Trial, UnequalResultsError, equal
from minirnn.layers import RecurrentLayer, RecurrentOutput

SHAPE = Shape(3, 5, 4, 6)


@pytest.mark.parametrize("cell", list(KINDS))
@pytest.mark.parametrize(("dtype", "settings"), [("float32", {"backend": "graph"}), ("float64", {"remat": True})])
def test_a_layer_that_is_right_passes(dtype, settings, cell):
    trial = Trial(SHAPE, dtype, cell, **settings)
    trial.check("it")
    assert all(p.data.all() for p in trial.layer.parameters()), "no bias stays at zero"
    assert {array.dtype for array in (*trial.weights, trial.gradient, trial.inputs[0].data)} == {np.dtype(dtype)}
    assert {p.grad for p in trial.layer.parameters()} == {None}


def test_what_is_known_of_the_layers():
    for kind in KINDS.values():
        layer = kind.layer(2, 3)
        assert tuple(p.name for p in layer.parameters()) == kind.weights
        assert (layer.gates, layer.state_names) == (kind.gates, kind.states)


def test_two_different_inputs_in_turn():
    trial = Trial(SHAPE, "float64")
    outputs = [trial.infer() for _ in range(4)]
    np.testing.assert_array_equal(outputs[0], outputs[2])
    np.testing.assert_array_equal(outputs[1], outputs[3])
    assert np.abs(outputs[0] - outputs[1]).max() > 0.1


def test_a_training_step_in_three_passes():
    trial = Trial(SHAPE, "float64")
    before = trial.weights
    trial.forward()
    assert trial.inputs[0].grad is None
    trial.backward()
    g = textbook.unroll_backward(trial.inputs[0].data, np.zeros((3, 6)), *before, trial.gradient)
    np.testing.assert_allclose(trial.inputs[0].grad, g.x, rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(trial.layer.W_hh.grad, g.W_y, rtol=1e-10, atol=1e-12)
    trial.update()
    assert all((a != b).any() for a, b in zip(before, trial.weights, strict=True))
    assert [p.grad for p in trial.layer.parameters()] == [None] * 3


def test_both_ways_starts_without_gradients():
    trial = Trial(SHAPE, "float64")
    for _ in range(3):
        trial.both_ways()
    again = Trial(SHAPE, "float64")
    again.both_ways()
    np.testing.assert_array_equal(trial.layer.W_hh.grad, again.layer.W_hh.grad)
    np.testing.assert_array_equal(trial.inputs[0].grad, again.inputs[0].grad)


def test_a_long_sequence_is_checked_over_its_first_steps(monkeypatch):
    monkeypatch.setattr(trial_module, "CHECKED", 3)
    seen = []
    forward = RecurrentLayer.forward
    monkeypatch.setattr(RecurrentLayer, "forward", lambda self, x: seen.append(x.shape) or forward(self, x))
    Trial(SHAPE, "float64").check("it")
    assert seen == [(3, 3, 4)] * 2


# --- wrong results are caught -----------------------------------------------------------------------------------------


def test_wrong_outputs_are_caught(monkeypatch):
    forward = RecurrentLayer.forward

    def wrong(self, x):
        outputs, final = forward(self, x)
        return RecurrentOutput(outputs * 1.01, final)

    monkeypatch.setattr(RecurrentLayer, "forward", wrong)
    with pytest.raises(UnequalResultsError, match=r"^bench: fused: outputs must be the textbook's, to 1e-04 of "):
        Trial(SHAPE, "float32").check("fused")


@pytest.mark.parametrize("cell", list(KINDS))
def test_a_wrong_gradient_is_caught(cell):
    for name in KINDS[cell].weights:
        trial = Trial(SHAPE, "float64", cell)
        getattr(trial.layer, name).register_hook(lambda g: 1.01 * g)
        expected = f"^bench: fused: gradient of {name} must be the textbook's, to 1e-10 of "
        with pytest.raises(UnequalResultsError, match=expected):
            trial.check("fused")


def test_a_wrong_second_input_is_caught(monkeypatch):
    trial = Trial(SHAPE, "float64")
    forward, first = RecurrentLayer.forward, trial.inputs[0]
    monkeypatch.setattr(RecurrentLayer, "forward", lambda self, x: forward(self, first))  # always the first
    with pytest.raises(UnequalResultsError):
        trial.check("it")


def test_equal_says_by_how_much_it_is_not():
    for got, error in (([1.0, 2.1], "5e-02"), ([1.0, np.nan], "nan"), ([1.0, 2.0, 3.0], "inf")):
        message = (
            "bench: it: outputs must be the textbook's, to 1e-04 of the largest entry in float32, got a difference of "
            f"{error}: it is not timed; please report this, with the command"
        )
        with raises(UnequalResultsError, message):
            equal("it", "outputs", np.array(got), np.array([1.0, 2.0]), "float32")


def test_equal_leaves_rounding_alone():
    equal("it", "outputs", np.array([1.0, 2.0001]), np.array([1.0, 2.0]), "float32")
    equal("it", "outputs", np.zeros(2), np.zeros(2), "float64")
    with pytest.raises(UnequalResultsError):
        equal("it", "outputs", np.array([1.0, 2.0001]), np.array([1.0, 2.0]), "float64")
