"""Small Parameters changed together: bit for bit what the rule does to each alone, and nobody can tell."""

import copy
import itertools
import pickle

import numpy as np
import pytest
from numpy.testing import assert_array_equal

import minirnn as mr
from minirnn.optim import joined

SHAPES = (3, 4), (4, 4), (4,), (), (200, 100), (2,)
MAKE = {
    "Adam": lambda p: mr.optim.Adam(p, lr=0.1, amsgrad=True, weight_decay=0.1),
    "AdamW": lambda p: mr.optim.AdamW([{"params": p[:3], "lr": 0.2}, {"params": p[3:], "betas": (0.5, 0.9)}], lr=0.1),
    "RMSprop": lambda p: mr.optim.RMSprop(p, lr=0.1, weight_decay=0.1),
    "Adagrad": lambda p: mr.optim.Adagrad(p, lr=0.1, lr_decay=0.1, initial_accumulator_value=0.1),
    "SGD": lambda p: mr.optim.SGD(p, lr=0.1, momentum=0.9, nesterov=True),
}


def params():
    rng = np.random.default_rng(0)
    dtypes = itertools.cycle([np.float32, np.float32, np.float64])
    return [mr.Parameter(rng.normal(size=s).astype(d)) for s, d in zip(SHAPES, dtypes, strict=False)]


def trained(name, between=lambda optimizer, ps: (optimizer, ps)):
    """Take steps, one Parameter without a gradient at the fourth; return Parameters and the optimiser's state."""
    ps, rng = params(), np.random.default_rng(1)
    optimizer = MAKE[name](ps)
    for k in range(6):
        for i, p in enumerate(ps):
            p.grad = None if (k, i) == (3, 1) else rng.normal(size=p.shape).astype(p.dtype)
        optimizer.step()
        assert all(p.data.base is None for p in ps)
        optimizer, ps = between(optimizer, ps)
    return ps, optimizer.state_dict()


def travelled(optimizer, ps):
    """Send both through pickle, and load the state into a new optimiser as well."""
    optimizer, ps = pickle.loads(pickle.dumps((optimizer, ps)))
    again = copy.deepcopy(optimizer)
    again.load_state_dict(optimizer.state_dict())
    assert again.params[0] is not ps[0]
    optimizer.load_state_dict(again.state_dict())
    return optimizer, ps


def tampered(optimizer, ps):
    """Give the memory of one Parameter another array."""
    for value in vars(optimizer).values():
        if isinstance(value, list) and len(value) == len(ps) and isinstance(value[0], np.ndarray):
            value[0] = value[0].copy()
    return optimizer, ps


@pytest.mark.parametrize("name", MAKE)
def test_together_they_change_as_each_alone_to_the_last_bit(name, monkeypatch):
    found = [trained(name), trained(name, travelled), trained(name, tampered)]
    monkeypatch.setattr(joined, "MOST", -1)
    wanted_params, wanted_state = trained(name)
    for ps, state in found:
        for p, w in zip(ps, wanted_params, strict=True):
            assert p.dtype == w.dtype
            assert_array_equal(p.data, w.data, strict=True)
        assert state.keys() == wanted_state.keys()
        assert state["counts"] == wanted_state["counts"]
        for key, arrays in wanted_state["memory"].items():
            for a, b in zip(state["memory"][key], arrays, strict=True):
                assert_array_equal(a, b, strict=True)
                assert a.base is None


def test_what_is_small_and_learns_is_joined_and_the_rule_runs_once(monkeypatch):
    calls, ps = [], params()
    change = mr.optim.Adam._change
    monkeypatch.setattr(mr.optim.Adam, "_change", lambda self, i, g: calls.append(g.size) or change(self, i, g))
    adam = mr.optim.Adam(ps)
    ps[0].requires_grad = False  # a frozen one must not keep the others apart
    for p in ps[1:]:
        p.grad = np.ones(p.shape, p.dtype)
    adam.step()
    assert sorted(calls) == [4 + 2, 16 + 1, 20000]  # float64, float32, and a large one
    assert adam.steps == [0, 1, 1, 1, 1, 1]


def test_ones_own_rule_gets_each_parameter_alone():
    class Scaled(mr.optim.Adam):
        def _change(self, i, g):
            return super()._change(i, g) * np.linalg.norm(self.params[i].data)

    ps, sizes = params(), []
    scaled = Scaled(ps)
    inner, scaled._change = scaled._change, lambda i, g: sizes.append(g.shape) or inner(i, g)
    for p in ps:
        p.grad = np.ones(p.shape, p.dtype)
    scaled.step()
    assert tuple(sizes) == SHAPES
