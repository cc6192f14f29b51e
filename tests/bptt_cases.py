"""Layers, sequences and losses for the tests of minirnn.bptt: sizes that all differ, random weights and states."""

import json
import re
from typing import NamedTuple

import numpy as np
import pytest
from pairwise import pairwise
from recurrent_cases import UGRNN, Named

import minirnn as mr

T, N, D, H = 7, 4, 3, 5
KINDS = {
    "elman": (mr.RecurrentLayer, {}),
    "relu": (mr.RecurrentLayer, {"activation": "relu"}),
    "own": (mr.RecurrentLayer, {"cell": UGRNN()}),
    "named": (mr.RecurrentLayer, {"cell": Named()}),
    "lstm": (mr.LSTMLayer, {}),
    "gru": (mr.GRULayer, {}),
    "gru-before": (mr.GRULayer, {"reset_after": False}),
}
WAYS = {
    "plain": {},
    "no bias": {"bias": False},
    "reverse": {"reverse": True},
    "batch_first": {"batch_first": True},
    "learned": {"learn_initial_state": True},
    "reverse learned": {"reverse": True, "learn_initial_state": True},
    "graph": {"backend": "graph"},
}
LENGTHS = {"whole": None, "ragged": [3, 7, 1, 6]}


class Leaky(mr.Cell):
    """A cell of the user's own with two states."""

    states = 2

    def step(self, z, h, s):
        new = np.tanh(z)
        return (0.7 * h + 0.3 * new, 0.5 * s + h), new

    def step_backward(self, d_state, new):
        d_h, d_s = d_state
        return 0.3 * d_h * (1 - new**2), (0.7 * d_h + d_s, 0.5 * d_s)


class Case(NamedTuple):
    """A layer, what it reads, and a loss that looks at every output, differently at each step."""

    layer: mr.Module
    x: np.ndarray
    state: object
    lengths: object
    loss: object

    def trace(self):
        return mr.bptt.trace(self.layer, self.x, self.loss, self.state, self.lengths)

    def outputs(self):
        return self.layer(self.x, self.state, self.lengths).outputs

    def time_major(self, a):
        return a.swapaxes(0, 1) if self.layer.batch_first else a

    def true_gradients(self):
        """The layer's own, by name."""
        self.layer.zero_grad()
        self.loss(self.outputs()).sum().backward()
        found = {name: p.grad.copy() for name, p in self.layer.named_parameters()}
        self.layer.zero_grad()
        return found


def make(kind, *, lengths=None, seed=0, per_step=False, sizes=(T, N, D, H), **settings):
    """Build a case; padding holds NaN. ``per_step``: the loss is one value for each step."""
    steps, rows, inputs, hidden = sizes
    rng = np.random.default_rng(seed)
    made, own = KINDS[kind]
    layer = made(inputs, hidden, dtype=np.float64, rng=1, **own, **settings)
    for p in layer.parameters():
        p.data = 0.6 * rng.normal(size=p.shape)
    x = rng.normal(size=(steps, rows, inputs))
    if lengths is not None:
        x[np.arange(steps)[:, None] >= np.array(lengths)] = np.nan
    state = None
    if not settings.get("learn_initial_state"):
        state = [rng.normal(size=(rows, hidden)) for _ in layer.state_names]
        state = state if len(state) > 1 else state[0]
    weights = rng.normal(size=(steps, rows, hidden))

    def loss(outputs):
        per = outputs.swapaxes(0, 1) if layer.batch_first else outputs
        each = (mr.tanh(per) * weights).sum(axis=(1, 2))
        return each if per_step else each.sum()

    return Case(layer, x.swapaxes(0, 1) if layer.batch_first else x, state, lengths, loss)


def worst(found, true):
    """Return the largest difference between two dicts of gradients, relative to the largest entry of each."""
    assert list(found) == list(true)
    return max(np.abs(found[name] - g).max() / max(np.abs(g).max(), 1e-300) for name, g in true.items())


def identities(case):
    """Yield (identity, difference, scale) for everything that must hold of one case."""
    trace, true = case.trace(), case.true_gradients()
    credit, steps = trace.credit(), range(trace.T)
    scale = {name: np.abs(g).max() for name, g in true.items()}

    def differences(found, expected, largest=scale):
        return [(np.abs(found[name] - a).max(), largest[name]) for name, a in expected.items()]

    def added(dicts):
        dicts = list(dicts)
        return {name: sum(d[name] for d in dicts) for name in dicts[0]}

    order = (lambda t: trace.T - 1 - t) if case.layer.reverse else (lambda t: t)
    share = {(s, k): credit.contribution(s, k) for s in steps for k in steps}
    sums = {name: a.sum(axis=0) for name, a in trace.by_step.items()}
    yield "hs = the layer's outputs", [(np.abs(trace.hs - case.time_major(case.outputs().data)).max(), 1.0)]
    yield "Σ_t by_step = the layer's gradients", differences(sums, true)
    yield (
        "dL_dh = dL_dh_local + dL_dh_carried",
        [(np.abs(trace.dL_dh - trace.dL_dh_local - trace.dL_dh_carried).max(), 1.0)],
    )
    for k in steps:
        column = {name: a[k] for name, a in trace.by_step.items()}
        yield "Σ_s contribution(s, k) = by_step[k]", differences(added(share[s, k] for s in steps), column)
        yield "used_at(k) = by_step[k]", differences(credit.used_at(k), column)
    for s in steps:
        row = added(share[s, k] for k in steps)
        yield "Σ_k contribution(s, k) = entered_at(s)", differences(credit.entered_at(s), row)
    yield "Σ_s,k contribution(s, k) = the layer's gradients", differences(added(share.values()), true)
    early = [share[s, k][name] for s, k in share if order(k) > order(s) for name in scale]
    yield "contribution(s, k) = 0 where k is after s", [(max(map(np.max, map(np.abs, early))), 1.0)]
    norms = np.array([[np.linalg.norm(share[s, k]["W_hh"]) for k in steps] for s in steps])
    yield "norms[s, k] = ‖contribution(s, k)‖", [(np.abs(credit.norms - norms).max(), norms.max())]
    for k1, k2 in [(1, 1), (1, 3), (3, 3), (2, 5), (4, 2), (9, 2), (1, trace.T), (5, 100)]:
        found = mr.bptt.truncated_gradient(case.layer, case.x, case.loss, k1, k2, case.state, case.lengths)
        ends = {s: min((order(s) // k1 + 1) * k1, trace.T) - 1 for s in steps}
        counts = [share[s, k] for s, k in share if order(k) <= order(s) and ends[s] - order(k) < k2]
        yield "truncated_gradient(k1, k2) = Σ of the pairs that count", differences(found, added(counts))
    rtrl = mr.bptt.rtrl(case.layer, case.x, case.loss, case.state, case.lengths)
    yield "rtrl = the layer's gradients", differences(rtrl, true)
    first, middle, last = (trace.T, 3, 1) if case.layer.reverse else (-1, 3, trace.T - 2)
    chain = trace.jacobian(last, middle) @ trace.jacobian(middle, first)
    yield "jacobian(t, m) jacobian(m, k) = jacobian(t, k)", [(np.abs(chain - trace.jacobian(last, first)).max(), 1.0)]


def covering(kinds=tuple(KINDS), ways=tuple(WAYS), **more):
    """Parametrize a test by cases that bring every two of a kind, a way and lengths together, and of what else."""
    points = pairwise({"kind": kinds, "way": ways, "lengths": LENGTHS, **more})
    cases = [
        (p.pop("kind"), WAYS[p.pop("way")] | {"lengths": LENGTHS[p.pop("lengths")]} | p) for p in map(dict, points)
    ]
    ids = ["-".join(map(str, point.values())) for point in points]
    return pytest.mark.parametrize(("kind", "settings"), cases, ids=ids)


def hold_report(report):
    """Hold a doctor's report against what every one of them promises: figures behind each sentence, text, JSON."""
    assert report.findings
    for finding in [*report.findings, *report.advice]:
        assert finding.figures
        assert set(finding.figures) <= set(report.figures), finding
        assert re.search(r"\d|NaN|inf", finding.text), finding
        assert finding.text.endswith("."), finding
        assert finding.text.count("(") == finding.text.count(")"), finding
        assert not re.search(r"\bnan\b|None|  |np\.", finding.text), finding
    assert max(map(len, str(report).splitlines())) <= 80
    assert json.loads(report.to_json(), parse_constant=pytest.fail) == report.to_dict()
