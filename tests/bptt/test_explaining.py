"""`explain`: a learner with a calculator, who knows the printed numbers alone, gets the printed results."""

import re

import numpy as np
import pytest
from bptt_cases import Leaky
from error_texts import raises

import minirnn as mr
from minirnn.bptt import explain, explanation, trace
from minirnn.bptt.places import number

T, N, D, H = 5, 3, 2, 4
LENGTHS = [5, 2, 4]
NEAR = 4e-3  # of the largest number around: what four digits, added up and multiplied, are good for
LAYERS = [mr.RecurrentLayer, mr.LSTMLayer, mr.GRULayer]
ENTRY = re.compile(r"^  (\S.*?)  +(\([^()]*=[^()]*\))(.*)$")


def made(kind, **settings):
    """A layer with random weights and biases, away from their usual values."""
    rng = np.random.default_rng(7)
    layer = kind(D, H, dtype=np.float64, rng=rng, **settings)
    for p in layer.parameters():
        p.data = rng.normal(size=p.shape) * 0.6
    return layer


def inputs():
    rng = np.random.default_rng(1)
    return rng.normal(size=(T, N, D)), rng.normal(size=(N, H)), rng.normal(size=(N, H))


def loss(outputs):
    return (outputs**2 * np.random.default_rng(3).normal(size=outputs.shape)).sum()


def parsed(text):
    """{name: numbers} of all terms, the last of a name; shares are named after their gradient: dW_xh of this row."""
    found, name, gradient = {}, "", ""
    for line in text.splitlines():
        term = ENTRY.match(line)
        if term:
            name = f"{gradient} {term[1]}" if term[1].startswith("of ") else term[1]
            found[name] = [term[3].split()]
        elif line.startswith(" "):
            found[name].append(line.split())
        elif line.startswith("d"):
            gradient = line.split()[0]
    arrays = {name: np.array([row for row in rows if row], float) for name, rows in found.items()}
    return {name: a[0] if len(a) == 1 else a for name, a in arrays.items()}


def near(a, b):
    a, b = np.asarray(a), np.asarray(b)
    assert a.shape == b.shape
    np.testing.assert_allclose(a, b, rtol=NEAR, atol=NEAR * max(np.abs(b).max(), 0.1))


def joined(v, name, gates):
    """[Z_i Z_f …] of what is printed gate by gate; without gates, what has that name."""
    return np.concatenate([v[name.replace("·", g)] for g in gates], axis=-1)


def sigmoid(a):
    return 1 / (1 + np.exp(-a))


PHI = {
    "tanh": (np.tanh, lambda h: 1 - h**2),
    "relu": (lambda z: np.maximum(0, z), lambda h: np.where(h > 0, 1.0, 0.0)),
    "sigmoid": (sigmoid, lambda h: h * (1 - h)),
    "identity": (lambda z: z, np.ones_like),
}

# --- a calculator in hand --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("activation", "reverse"), [*zip(PHI, [False, True, True, False], strict=True)])
def test_elman_by_calculator(activation, reverse):
    layer, (x, state, _) = made(mr.RecurrentLayer, activation=activation, reverse=reverse), inputs()
    text = explain(layer, x, 2, loss, row=1, initial_state=state)
    v = parsed(text)
    before, after = ("t+1", "t-1") if reverse else ("t-1", "t+1")
    assert f"Z_t = X_t W_xh + H_{{{before}}} W_hh + b_h" in text
    apply, slope = PHI[activation]
    h = v[f"H_{{{before}}}"]
    near(v["X_t"] @ v["W_xh"], v["X_t W_xh"])
    near(h @ v["W_hh"], v[f"H_{{{before}}} W_hh"])
    near(v["X_t W_xh"] + v[f"H_{{{before}}} W_hh"] + v["b_h"], v["Z_t"])
    near(apply(v["Z_t"]), v["H_t"])
    near(v[f"dL/dZ_{{{after}}}"] @ v["W_hh"].T, v["carried"])
    near(v["local"] + v["carried"], v["dL/dH_t"])
    near(slope(v["H_t"]), v["φ′"])
    near(v["dL/dH_t"] * v["φ′"], v["dL/dZ_t"])
    near(np.outer(v["X_t"], v["dL/dZ_t"]), v["dW_xh of this row"])
    near(np.outer(h, v["dL/dZ_t"]), v["dW_hh of this row"])
    near(v["dL/dZ_t"] @ v["W_hh"].T, v[f"to H_{{{before}}}"])


@pytest.mark.parametrize("reverse", [False, True])
def test_lstm_by_calculator(reverse):
    layer, (x, *state) = made(mr.LSTMLayer, reverse=reverse), inputs()
    v = parsed(explain(layer, x, 2, loss, row=1, initial_state=state))
    before, after = ("t+1", "t-1") if reverse else ("t-1", "t+1")
    h, c, gates = v[f"H_{{{before}}}"], v[f"C_{{{before}}}"], "ifgo"
    for g in gates:
        near(v["X_t"] @ v[f"W_x{g}"] + h @ v[f"W_h{g}"] + v[f"b_{g}"], v[f"Z_{g}"])
        near((np.tanh if g == "g" else sigmoid)(v[f"Z_{g}"]), v[f"{g}_t"])
    i, f, g, o = (v[f"{gate}_t"] for gate in gates)
    near(f * c + i * g, v["C_t"])
    near(np.tanh(v["C_t"]), v["tanh(C_t)"])
    near(o * v["tanh(C_t)"], v["H_t"])
    W_hh = joined(v, "W_h·", gates)
    near(joined(v, f"dL/dZ_{{{after}}}, ·", gates) @ W_hh.T, v["carried"])
    near(v["local"] + v["carried"], v["dL/dH_t"])
    near(v["dL/dH_t"] * o * (1 - v["tanh(C_t)"] ** 2), v["from H_t"])
    near(v[f"dL/dC_{{{after}}}"] * v[f"f_{{{after}}}"], v[f"from C_{{{after}}}"])
    near(v["from H_t"] + v[f"from C_{{{after}}}"], v["dL/dC_t"])
    near(v["dL/dC_t"] * g * i * (1 - i), v["dL/dZ_i"])
    near(v["dL/dC_t"] * c * f * (1 - f), v["dL/dZ_f"])
    near(v["dL/dC_t"] * i * (1 - g**2), v["dL/dZ_g"])
    near(v["dL/dH_t"] * v["tanh(C_t)"] * o * (1 - o), v["dL/dZ_o"])
    for gate in gates:
        near(np.outer(v["X_t"], v[f"dL/dZ_{gate}"]), v[f"dW_xh of this row, {gate}"])
        near(np.outer(h, v[f"dL/dZ_{gate}"]), v[f"dW_hh of this row, {gate}"])
    near(joined(v, "dL/dZ_·", gates) @ W_hh.T, v[f"to H_{{{before}}}"])
    near(v["dL/dC_t"] * f, v[f"to C_{{{before}}}"])


@pytest.mark.parametrize("settings", [{}, {"bias": False}, {"recurrent_dropout": 0.3, "message_clip": 0.2}])
@pytest.mark.parametrize("reset_after", [True, False])
def test_gru_by_calculator(reset_after, settings):
    layer, (x, state, _) = made(mr.GRULayer, reset_after=reset_after, **settings), inputs()
    layer._rng = np.random.default_rng(4)
    text = explain(layer, x, 2, loss, row=1, initial_state=state)
    v = parsed(text)
    h, gates = v["H_{t-1}"], "rzn"
    m = v.get("m", np.ones(H))
    fed = m * h
    if "recurrent_dropout" in settings:
        assert set(np.round(m, 3)) <= {0, 1.429}
        assert len(set(m)) > 1, "nothing is dropped in this row"
        near(fed, v["m ⊙ H_{t-1}"])
    bias = {g: v.get(f"b_{g}", np.zeros(H)) for g in gates}
    b_hn = v.get("b_hn", np.zeros(H))
    assert ("b_hn" in v) == (reset_after and layer.b_h is not None)
    z = {g: v["X_t"] @ v[f"W_x{g}"] + bias[g] for g in gates}
    near(v["X_t"] @ v["W_xn"], v["X_t W_xn"])
    for g in "rz":
        near(z[g] + fed @ v[f"W_h{g}"], v[f"Z_{g}"])
        near(sigmoid(v[f"Z_{g}"]), v[f"{g}_t"])
    r, u, n = (v[f"{g}_t"] for g in gates)
    if reset_after:
        near(fed @ v["W_hn"] + b_hn, v["Q_n"])
        near(z["n"] + r * v["Q_n"], v["Z_n"])
    else:
        near(z["n"] + (r * fed) @ v["W_hn"], v["Z_n"])
    near(np.tanh(v["Z_n"]), n)
    near((1 - u) * n + u * h, v["H_t"])

    dh, to = v["dL/dH_t"], v["dL/dH_{t+1}"] * v["z_{t+1}"]
    W_gates = joined(v, "W_h·", "rz")
    if reset_after:
        carried = m * (joined(v, "dL/dQ_{t+1}, ·", gates) @ joined(v, "W_h·", gates).T) + to
    else:
        inner = joined(v, "dL/dZ_{t+1}, ·", "rz") @ W_gates.T
        carried = m * (inner + v["r_{t+1}"] * (v["dL/dZ_{t+1}, n"] @ v["W_hn"].T)) + to
    near(carried, v["carried"])
    total = v["local"] + v["carried"]
    if "message_clip" in settings:
        assert np.linalg.norm(total) > 0.2
        total = total * 0.2 / np.linalg.norm(total)
    near(total, dh)
    near(dh * (1 - u) * (1 - n**2), v["dL/dZ_n"])
    near(dh * (h - n) * u * (1 - u), v["dL/dZ_z"])
    inner = v["Q_n"] * v["dL/dZ_n"] if reset_after else (v["dL/dZ_n"] @ v["W_hn"].T) * fed
    near(inner * r * (1 - r), v["dL/dZ_r"])
    if reset_after:
        near(r * v["dL/dZ_n"], v["dL/dQ_n"])
        near(v["dL/dZ_z"], v["dL/dQ_z"])
        onward = m * (joined(v, "dL/dQ_·", gates) @ joined(v, "W_h·", gates).T)
    else:
        onward = m * (joined(v, "dL/dZ_·", "rz") @ W_gates.T + r * (v["dL/dZ_n"] @ v["W_hn"].T))
    near(onward + dh * u, v["to H_{t-1}"])
    near(np.outer(v["X_t"], v["dL/dZ_n"]), v["dW_xh of this row, n"])
    near(np.outer(fed, v["dL/dZ_r"]), v["dW_hh of this row, r"])
    of_n = np.outer(fed, v["dL/dQ_n"]) if reset_after else np.outer(r * fed, v["dL/dZ_n"])
    near(of_n, v["dW_hh of this row, n"])


def test_a_cell_of_ones_own():
    layer, (x, h, s) = made(mr.RecurrentLayer, cell=Leaky()), inputs()
    text = explain(layer, x, 2, loss, row=1, initial_state=(h, s))
    v = parsed(text)
    near(v["X_t W_xh"] + v["H_{t-1}"] @ v["W_hh"] + v["b_h"], v["Z_t"])
    near(0.7 * v["H_{t-1}"] + 0.3 * np.tanh(v["Z_t"]), v["H_t"])
    near(0.5 * v["S1_{t-1}"] + v["H_{t-1}"], v["S1_t"])
    near(v["local"] + v["carried"], v["dL/dH_t"])
    near(0.3 * v["dL/dH_t"] * (1 - np.tanh(v["Z_t"]) ** 2), v["dL/dZ_t"])
    assert "H_t, S1_t = Leaky.step(Z_t, H_{t-1}, S1_{t-1})" in text


# --- the numbers are the trace's -------------------------------------------------------------------------------------


@pytest.mark.parametrize(("kind", "reverse"), [*zip(LAYERS, [True, False, True], strict=True)])
def test_the_numbers_are_those_of_the_trace(kind, reverse):
    layer, (x, *_) = made(kind, reverse=reverse), inputs()
    seen = trace(layer, x, loss, None, LENGTHS)
    for row, length in enumerate(LENGTHS):
        for t in range(length):
            found = {p.name: p.values for e in explanation(seen, t=t, row=row).equations for p in e.entries}
            expected = {
                "X_t": seen.x, "H_t": seen.hs, "dL/dH_t": seen.dL_dh, "local": seen.dL_dh_local,
                "carried": seen.dL_dh_carried,
            }  # fmt: skip
            for name, values in expected.items():
                np.testing.assert_array_equal(found[name], values[t, row])
            gates = seen.gates if len(seen.gates) > 1 else ("t",)
            z, dz = (joined(found, name, gates) for name in ("Z_·", "dL/dZ_·"))
            np.testing.assert_array_equal(z, seen.pre_activations[t, row])
            np.testing.assert_array_equal(dz, seen.dL_dz[t, row])
            v = parsed(seen.explain(t, row))
            for name in ("X_t", "H_t", "dL/dH_t", "local", "carried"):
                assert [number(a) for a in v[name]] == [number(a) for a in found[name]]


@pytest.mark.parametrize("kind", LAYERS)
def test_what_the_rows_and_steps_add_is_the_gradient(kind):
    layer, (x, *_) = made(kind), inputs()
    seen = trace(layer, x, loss, None, LENGTHS)
    sums = {f"d{name}": 0.0 for name in seen.gradients}  # each of them is written down
    for row, length in enumerate(LENGTHS):
        for t in range(length):
            for e in explanation(seen, t=t, row=row).equations:
                name = e.symbols[0].split()[0]
                if name not in sums:
                    continue
                share, added = np.concatenate([p.values for p in e.entries], axis=-1), seen.by_step[name[1:]][t]
                if name in ("dW_xh", "dW_hh"):
                    norm = number(np.linalg.norm(added))
                    assert e.words == f"Step t adds to it, of the N=3 rows together, ‖·‖ = {norm}."
                    sums[name] = sums[name] + share
                else:
                    np.testing.assert_allclose(share, added, atol=1e-14)
                    sums[name] = sums[name] + share * (row == 0)
    for name, total in sums.items():
        np.testing.assert_allclose(total, seen.gradients[name[1:]], atol=1e-13)


def test_a_trace_keeps_the_weights_it_was_made_with():
    layer, (x, *_) = made(mr.RecurrentLayer), inputs()
    seen = trace(layer, x, loss)
    before = seen.explain(1)
    for p in layer.parameters():
        p.data = p.data + 1.0
    assert seen.explain(1) == before


def test_with_no_loss_it_is_the_sum_of_all_outputs():
    layer, (x, *_) = made(mr.RecurrentLayer), inputs()
    text = explain(layer, x, 1)
    assert "No loss was given: L is the sum of all outputs." in text
    assert parsed(text)["local"].tolist() == [1.0] * H
    rest = explain(layer, x, 1, lambda outputs: outputs.sum())
    assert text.replace(" No loss was given: L is the sum of all outputs.", "") == rest


def test_a_model_with_a_head():
    layer, (x, *_) = made(mr.RecurrentLayer), inputs()
    model = mr.SequenceModel(layer, mr.Linear(H, 3, dtype=np.float64, rng=0))
    local = parsed(explain(model, x, 1))["local"]
    near(local, model.head.weight.data.sum(axis=1))


# --- where there is no step before or after --------------------------------------------------------------------------


@pytest.mark.parametrize(("kind", "reverse"), [*zip(LAYERS, [False, True, True], strict=True)])
def test_first_and_last_step_of_a_row(kind, reverse):
    layer, (x, *_) = made(kind, reverse=reverse), inputs()
    before, after = ("t+1", "t-1") if reverse else ("t-1", "t+1")
    first, last = (LENGTHS[1] - 1, 0) if reverse else (0, LENGTHS[1] - 1)
    text = explain(layer, x, first, loss, row=1, lengths=LENGTHS)
    assert f"H_{{{before}}} is the initial state: this is the first step processed." in text
    assert "The initial state gets this." in text
    assert "nothing is carried" not in text
    text = explain(layer, x, last, loss, row=1, lengths=LENGTHS)
    assert f"Row 1 has no step {after}: nothing is carried." in text
    assert f"Step {before} gets this, as “carried” there." in text
    assert parsed(text)["carried"].tolist() == [0.0] * H
    assert ("Processed from the last step to the first: t+1 comes before t." in text) == reverse


def test_one_step_of_one_row():
    layer, (x, *_) = made(mr.LSTMLayer), inputs()
    v = parsed(explain(layer, x[:1, :1], 0, loss))
    near(v["local"], v["dL/dH_t"])
    assert "of this one row" in explain(layer, x[:1, :1], 0, loss)


def test_padding_says_so():
    layer, (x, *_) = made(mr.RecurrentLayer), inputs()
    text = explain(layer, x, 3, loss, row=1, lengths=LENGTHS)
    assert text.splitlines()[0] == "RecurrentLayer, step t=3 of T=5 (0 … 4), row n=1 of N=3; D=2, H=4"
    assert text.splitlines()[2:] == [
        "Step 3 is padding: row 1 has length 2. Its state stays as it is; no gradient enters."
    ]
    assert explanation(layer, x, 3, loss, row=1, lengths=LENGTHS).equations == []


# --- how it looks ----------------------------------------------------------------------------------------------------


def wide_numbers(size, scale):
    return -np.abs(np.random.default_rng(0).normal(size=size)) * scale


@pytest.mark.parametrize(
    "layer",
    [
        made(mr.RecurrentLayer), made(mr.RecurrentLayer, recurrent_dropout=0.5, message_clip=1e-5, reverse=True),
        made(mr.RecurrentLayer, cell=Leaky(), recurrent_dropout=0.5), made(mr.LSTMLayer, recurrent_dropout=0.5),
        made(mr.GRULayer, recurrent_dropout=0.5), made(mr.GRULayer, reset_after=False, recurrent_dropout=0.5),
    ],
    ids=["elman", "everything", "cell", "lstm", "gru", "gru before"],
)  # fmt: skip
def test_no_line_is_longer_than_100_columns(layer):
    x = wide_numbers((T, N, D), 1e-5)
    for t in range(T):
        text = explain(layer, x, t, loss)
        assert max(map(len, text.splitlines())) <= 100
        assert not any(line != line.rstrip() for line in text.splitlines())


@pytest.mark.parametrize(
    ("kind", "size", "scale"), [*zip(LAYERS, [8] * 3, [1e-5, 1e-200, 1e200], strict=True), (mr.GRULayer, 200, 1.0)]
)
def test_wide_numbers_and_large_layers_fit_too(kind, size, scale):
    layer = kind(size, size, dtype=np.float64, rng=0)
    layer.W_xh.data = wide_numbers(layer.W_xh.shape, 1e-5)
    text = explain(layer, wide_numbers((T, 2, size), scale), 2)
    assert max(map(len, text.splitlines())) <= 100
    assert ("‖·‖ = " in text.split("FORWARD")[1].split("dW_xh")[0]) == (size > 8)


def test_large_layers_show_norms():
    rng = np.random.default_rng(0)
    layer, x = mr.RecurrentLayer(D, 9, dtype=np.float64, rng=0), rng.normal(size=(T, N, D))
    seen = trace(layer, x, loss)
    text = seen.explain(2, 1)
    assert "D or H is above 8: ‖·‖ is the norm of row 1, or of a matrix." in text
    line = next(line for line in text.splitlines() if line.startswith("  dL/dH_t "))
    assert line.split() == ["dL/dH_t", "(N=3,", "H=9)", "‖·‖", "=", number(np.linalg.norm(seen.dL_dh[2, 1]))]
    assert "(D=2, H=9)" in text


def test_shapes_stand_beside_the_terms():
    text = explain(made(mr.GRULayer), inputs()[0], 1)
    assert "Gates lie side by side: Z_t = [Z_r Z_z Z_n] (N=3, 3H=12)," in text
    assert "and so in W_xh (D=2, 3H=12) and W_hh (H=4, 3H=12)." in text
    for shape in ("X_t       (N=3, D=2)", "W_xr      (D=2, H=4)", "Z_z       (N=3, H=4)"):
        assert shape in text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0"), (-0.0, "0"), (1.0, "1.000"), (-0.123456, "-0.1235"), (12345.6, "1.235e4"), (1234.5678, "1235"),
        (1.23456e-5, "1.235e-5"), (0.99996, "1.000"), (np.float32(0.1), "0.1000"), (np.nan, "nan"), (-np.inf, "-inf"),
        (1e-300, "1.000e-300"),
    ],
)  # fmt: skip
def test_numbers_have_four_digits(value, text):
    assert number(value) == text
    assert np.isnan(value) or float(text) == pytest.approx(float(value), rel=5.1e-4)


def test_an_activation_of_ones_own():
    layer = made(mr.RecurrentLayer, activation=(lambda z: z * 0.5, lambda h: h * 0 + 0.5))
    text = explain(layer, inputs()[0], 2, loss)
    assert "H_t = φ(Z_t)\n" in text
    assert "φ′ = φ′(H_t)\n" in text
    assert parsed(text)["φ′"].tolist() == [0.5] * H


# --- errors ----------------------------------------------------------------------------------------------------------


def test_errors():
    layer, (x, *_) = made(mr.RecurrentLayer), inputs()
    seen = trace(layer, x, loss)
    with raises(IndexError, "trace: t must be a step 0 … 4, got 5: there are T=5"):
        explain(layer, x, 5)
    with raises(IndexError, "trace: t must be a step 0 … 4, got -1: there are T=5"):
        seen.explain(-1)
    with raises(TypeError, "trace: t must be a step 0 … 4, got 1.0 (float): there are T=5"):
        explain(layer, x, 1.0)
    with raises(IndexError, "explain: row must be a row 0 … 2, got 3: there are N=3"):
        explain(layer, x, 0, row=3)
    with raises(TypeError, "explain: row must be a row 0 … 2, got True (bool): there are N=3"):
        explain(layer, x, 0, row=True)
    with raises(TypeError, "explain: x must be given with a model, got None: pass it, or a Trace alone"):
        explain(layer, t=0)
    with raises(TypeError, "explain: x is known to a Trace already, got 2 (int): leave it out, or pass the model"):
        explain(seen, 2)
    with raises(
        TypeError,
        "explain: model must be a recurrent layer or a SequenceModel of one, got Linear, which has no recurrence: "
        "nothing goes back through time in it",
    ):
        explain(mr.Linear(D, H), x, 0)
    with raises(TypeError, "explain: loss must be a callable (outputs) -> Tensor, got 3 (int)"):
        explain(layer, x, 0, 3)
