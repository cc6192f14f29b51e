"""A cell is its equation: what follows from it alone, with two states and three blocks, in every tool there is."""

import contextlib
import copy
import json
import re

import numpy as np
import pytest
from bptt_cases import D, H, N, T, identities, make, worst
from error_texts import raises
from recurrent_cases import Coupled, Named

import minirnn as mr
from minirnn.cells import GRU, LSTM, Elman, GRUResetBefore
from minirnn.cells.cell import BUILT_IN
from minirnn.cells.pointwise import Pass, linearise
from minirnn.cells.writing import Text

BACKENDS = ("fused", "graph")


class Mixing(mr.Cell):
    """Against the rules: softmax looks at all entries of a row. It must be exact all the same, only slower."""

    def equation(self, z, h):
        return (0.5 * h + mr.softmax(z) * h,)


class Waits(mr.Cell):
    """A second state that stays as it is, and a term with a name."""

    gates, state_names = {"a": "tanh"}, ("h", "w")

    def equation(self, z, h, w):
        (a,) = self.activated(z)
        mixed = self.term("mixed", a * w + 0.25 * h)
        return mr.sqrt(mixed * mixed + 1.0), w


def layer_of(cell, **settings):
    layer = mr.RecurrentLayer(D, H, cell=cell, dtype=np.float64, rng=1, **settings)
    rng = np.random.default_rng(2)
    for p in layer.parameters():
        p.data = 0.6 * rng.normal(size=p.shape)
    return layer


def inputs(layer):
    rng = np.random.default_rng(3)
    x = mr.Tensor(rng.normal(size=(T, N, D)), requires_grad=True)
    state = [mr.Tensor(rng.normal(size=(N, H)), requires_grad=True) for _ in layer.state_names]
    return x, state if len(state) > 1 else state[0]


def curved(layer, x, state, lengths=None):
    outputs, final = layer(x, state, lengths)
    finals = final if isinstance(final, tuple) else (final,)
    return (outputs**2).sum() + sum((s**3).sum() for s in finals)


# --- one equation, every backend, every order -------------------------------------------------------------------------


@pytest.mark.parametrize("lengths", [None, [3, 7, 1, 6]])
@pytest.mark.parametrize("cell", [Named(), Mixing(), Waits()], ids=lambda c: type(c).__name__)
def test_the_equation_alone_gives_both_backends_and_both_orders(cell, lengths):
    found = []
    for backend in BACKENDS:
        layer = layer_of(cell, backend=backend)
        x, state = inputs(layer)
        leaves = [x, *(state if isinstance(state, list) else [state]), *layer.parameters()]
        loss = curved(layer, x, state, lengths)
        first = mr.grad(loss, leaves, create_graph=True)
        second = mr.grad(sum((g * np.cos(g.data)).sum() for g in first), leaves)
        found.append([loss, *first, *second])
        assert mr.gradcheck(lambda *_, layer=layer, x=x, state=state: curved(layer, x, state, lengths), leaves)
    for a, b in zip(*found, strict=True):
        np.testing.assert_allclose(a.numpy(), b.numpy(), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("settings", [{"recurrent_dropout": 0.4}, {"message_clip": 0.5}, {"remat": 3}])
def test_the_layers_settings_work_with_an_equation_alone(settings):
    found = []
    for backend in BACKENDS if "remat" not in settings else ("fused", "fused"):
        layer = layer_of(Named(), backend=backend, **(settings if backend == "fused" or not found else {}) | settings)
        layer._rng = np.random.default_rng(5)
        x, state = inputs(layer)
        curved(layer, x, state).backward()
        found.append([p.grad for p in [x, *state, *layer.parameters()]])
    for a, b in zip(*found, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-11, atol=1e-12)


# --- bptt -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("lengths", [None, [3, 7, 1, 6]])
@pytest.mark.parametrize("way", [{}, {"reverse": True}])
def test_every_identity_of_bptt_holds(lengths, way):
    for identity, pairs in identities(make("named", lengths=lengths, **way)):
        for difference, scale in pairs:
            assert difference <= 1e-10 * max(scale, 1e-300), identity


@pytest.mark.parametrize("cell", [Mixing(), Waits()], ids=lambda c: type(c).__name__)
def test_a_trace_is_exact_whatever_the_cell_does(cell):
    layer = layer_of(cell)
    x, state = inputs(layer)
    trace = mr.bptt.trace(layer, x.data, lambda outputs: (outputs**2).sum(), state)
    (layer(x, state).outputs ** 2).sum().backward()
    assert worst(trace.gradients, {name: p.grad for name, p in layer.named_parameters()}) < 1e-12
    for d, s in zip(trace.dL_dinitial_state, state if isinstance(state, list) else [state], strict=True):
        np.testing.assert_allclose(d, s.grad, rtol=1e-11, atol=1e-13)
    chain = trace.jacobian(T - 1, 3) @ trace.jacobian(3, -1)
    np.testing.assert_allclose(chain, trace.jacobian(T - 1, -1), rtol=1e-11, atol=1e-13)


def test_slopes_and_saturation_are_known_where_activations_are():
    trace = make("named").trace()
    z = trace.pre_activations
    f, o = (1 / (1 + np.exp(-z[..., j * H : (j + 1) * H])) for j in (0, 2))
    g = np.tanh(z[..., H : 2 * H])
    np.testing.assert_allclose(trace.slopes, np.concatenate([f * (1 - f), 1 - g * g, o * (1 - o)], axis=-1), rtol=1e-12)
    assert trace.saturation.shape == (T, 3)
    report = mr.bptt.doctor(trace)
    assert set(report.figures["saturation"]) == {"forget", "g", "out"}
    np.testing.assert_allclose(report.figures["kept"], f.mean(), rtol=1e-12)
    assert (report.figures["kept_by"], report.figures["kept_at"], report.figures["states"]) == ("forget", 0, ["h", "c"])
    assert "by c_t = forget ⊙ c_{t-1} + … alone that is the factor of a step" in str(report).replace("\n  ", " ")


@pytest.mark.parametrize(
    "cell", [Elman(BUILT_IN["tanh"]), LSTM(), GRU(), GRUResetBefore()], ids=lambda c: type(c).__name__
)
def test_the_factors_of_an_equation_are_its_derivatives_by_central_differences(cell):
    rng = np.random.default_rng(0)
    J = (cell.blocks - cell.apart) * H
    z, x, q = rng.normal(size=(6, J)), rng.normal(size=(6, H)), rng.normal(size=(6, H))
    state = [rng.normal(size=(6, H)) for _ in range(cell.states)]
    sides = (x, q) if cell.apart else ()

    def new(*arrays):
        z, *state = arrays[: 1 + cell.states]
        made = Pass(cell, z, state, arrays[-2] if sides else None).finish(arrays[-1] if sides else None)
        return [t.data for t in made.new] + ([made.staged.data] if made.staged is not None else [])

    local = linearise(Pass(cell, z, state, x if sides else None).finish(q if sides else None))
    given = [z, *state, *sides]
    d_out = [rng.normal(size=(6, H)) for _ in new(*given)]
    d = dict(enumerate(d_out[: cell.states])) | ({-1: d_out[-1]} if cell.staged else {})
    by_key = local.back(d, J)
    found = [by_key.get(key, 0) for key in ("z", *range(cell.states), "x", "q")]
    for at, a in enumerate(given):
        direction = rng.normal(size=a.shape)
        up, down = ([*given[:at], a + sign * 1e-6 * direction, *given[at + 1 :]] for sign in (1, -1))
        change = sum(((p - m) * g).sum() for p, m, g in zip(new(*up), new(*down), d_out, strict=True)) / 2e-6
        np.testing.assert_allclose((found[at] * direction).sum(), change, rtol=1e-7, atol=1e-8)


# --- in words ---------------------------------------------------------------------------------------------------------


def test_a_name_of_a_gate_is_seen_everywhere(tmp_path):
    case = make("named")
    trace = case.trace()
    text = trace.explain(3, 1)
    assert "forget_t = σ(Z_forget),  g_t = tanh(Z_g),  out_t = σ(Z_out)" in text
    assert "C_t = forget_t ⊙ C_{t-1} + (1 - forget_t) ⊙ g_t" in text
    assert "dL/dZ_forget = dL/dC_t ⊙ (C_{t-1} - g_t) ⊙ forget_t ⊙ (1 - forget_t)" in text
    assert "from H_t = dL/dH_t ⊙ out_t ⊙ (1 - tanh(C_t)²)" in text
    trace.to_html(tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text("utf-8")
    data = json.loads(re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.S)[1])
    lines = [line for part in ("forward", "backward") for e in data["equation"][part] for line in e["lines"]]
    assert "c⟦t⟧ = forget⟦t⟧ ⊙ c⟦b⟧ + (1 - forget⟦t⟧) ⊙ g⟦t⟧" in lines
    assert data["about"]["gates"] == ["forget", "g", "out"]
    assert "forget" in case.layer.to_svg()
    case.layer.W_xh.data = np.full(case.layer.W_xh.shape, 1e308)
    with mr.detect_anomaly(), pytest.raises(mr.AnomalyError, match=r"step t=0, row n=0: X_t W_xforget holds inf"):
        case.layer(np.ones((T, N, D)))


@pytest.mark.parametrize("backend", BACKENDS)
def test_an_anomaly_is_named_by_the_term_forward_and_back(backend):
    layer = layer_of(Waits(), backend=backend)
    x, (h, w) = inputs(layer)
    large = w.data.copy()
    large[2, 4] = 1e200
    with mr.detect_anomaly(), pytest.raises(mr.AnomalyError) as caught:
        layer(x, (h, large))
    assert "forward at step t=0, row n=2: mixed ⊙ mixed holds inf at [2, 4]" in str(caught.value)
    with mr.detect_anomaly():
        outputs, (_, last) = layer(x, (h, w))
        with pytest.raises(mr.AnomalyError) as caught:
            outputs.backward(np.full((T, N, H), 1e308))
    assert re.search(r"backward at step t=6, row n=\d: dL/d", str(caught.value)), caught.value
    assert last.shape == (N, H)


@pytest.mark.parametrize("backend", BACKENDS)
def test_within_detect_anomaly_the_numbers_of_any_equation_are_the_same(backend):
    class Fresh(mr.Cell):
        """Its second state is made anew at each step, so that nothing goes back to the one before."""

        states = 2

        def equation(self, z, h, s):
            return mr.tanh(z), z * 0.5

    for cell in (Fresh(), Waits(), Named(), Mixing()):
        layer = layer_of(cell, backend=backend)
        found = []
        for mode in (contextlib.nullcontext(), mr.detect_anomaly()):
            x, state = inputs(layer)
            layer.zero_grad()
            with mode:
                curved(layer, x, state, [3, 7, 1, 6]).backward()
            found.append([t.grad for t in [x, *(state if isinstance(state, list) else [state]), *layer.parameters()]])
        for a, b in zip(*found, strict=True):
            np.testing.assert_array_equal(a, b)


def test_an_equation_is_read_with_what_it_is_made_of():
    class Many(mr.Cell):
        blocks = 2

        def equation(self, z, h):
            a, b = z[:, :H], z[:, H:]
            low = mr.minimum(a, 2.0 * h) - b / 3.0
            return (mr.where(np.ones(h.shape, bool), low, h) + abs(-a) ** 2.0 - mr.sqrt(b * b + 1.0),)

    one = np.ones((2, H))
    text = Text(Many(), np.ones((2, 2 * H)), [one], None, None)
    (made,) = text.written()
    assert made.formula == (
        "(min(Z_z0, 2 H_{t-1}) - Z_z1 / 3 where a constant, else H_{t-1}) + |-Z_z0|² - √(Z_z1 ⊙ Z_z1 + 1)"
    )
    assert text.gradient(text.blocks["z0"]) == (
        "dL/dH_t ⊙ ([a constant] ⊙ [Z_z0 < 2 H_{t-1}] - 2 |-Z_z0| ⊙ sign(-Z_z0))"
    )


# --- what is no cell --------------------------------------------------------------------------------------------------


def test_names_must_be_as_many_as_there_are_blocks_and_states():
    def cell(**attributes):
        return type("Odd", (Coupled,), attributes)()

    message = (
        "RecurrentLayer: Odd.gates must be 3 different names, as blocks says, got ('f', 'g'): name each, or leave "
        "gates out"
    )
    with raises(ValueError, message):
        mr.RecurrentLayer(2, 4, cell=cell(blocks=3, gates=("f", "g")))
    with pytest.raises(
        ValueError, match=r"Odd\.state_names must be 2 different names, as states says, got \('h', 'h'\)"
    ):
        mr.RecurrentLayer(2, 4, cell=cell(states=2, state_names=("h", "h")))
    with pytest.raises(TypeError, match=r"Odd\.gates: the activation of 'f' must be one of 'tanh', .* got 'σ'"):
        mr.RecurrentLayer(2, 4, cell=cell(gates={"f": "σ", "g": "tanh", "o": "tanh"}))


def test_a_parameter_of_the_cells_own_is_learned_by_the_graph_and_refused_elsewhere():
    class Scaled(mr.Cell):
        def __init__(self):
            self.scale = mr.Tensor(np.full(H, 0.5), requires_grad=True)

        def equation(self, z, h):
            return (self.scale * mr.tanh(z) + 0.5 * h,)

    layer = layer_of(Scaled(), backend="graph")
    x, state = inputs(layer)
    assert mr.gradcheck(lambda *_: curved(layer, x, state), [x, layer.cell.scale])
    message = (
        "Scaled.equation reads a Tensor of its own that requires a gradient, of shape (5,), but the layer owns the "
        "parameters: detach() it, or, to learn it, use backend='graph'"
    )
    fused = layer_of(Scaled())
    with raises(TypeError, message):
        curved(fused, x, state).backward()
    with raises(TypeError, message):
        mr.bptt.trace(fused, x.data, lambda outputs: outputs.sum(), state.data)


def test_a_cell_travels_with_its_layer():
    layer = layer_of(Named())
    other = copy.deepcopy(layer)
    x, state = inputs(layer)
    np.testing.assert_array_equal(layer(x, state).outputs.numpy(), other(x, state).outputs.numpy())
