"""`explain`: a learner with a calculator, who knows the printed numbers alone, gets the printed results."""

import itertools
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


# --- a calculator in hand --------------------------------------------------------------------------------------------

TERM = re.compile(r"(?:dL/d|from_)?[A-Za-zφ][A-Za-z0-9_′]*(?:\{t[+-]1\})?")
EQUATION = re.compile(r"(to \S+(?=:)|from \S+|\S+)(: | = | \+= )(.+)")
FUNCTIONS = {
    "σ": lambda a: 1 / (1 + np.exp(-a)),
    "tanh": np.tanh,
    "max": np.maximum,
    "clipped": lambda a: a * min(1, CLIP / np.linalg.norm(a)),
    "joined": lambda *parts: np.concatenate([np.zeros((1, H)) if isinstance(p, int) else p for p in parts], axis=-1),
}
CLIP = 0.2


def python_of(expression):
    """Write what the text says in Python: ⊙ is *, two terms side by side are @, [a b] is `joined(a, b)`."""
    text = expression.replace("from ", "from_").replace("[H_t > 0]", "(H_t > 0)")
    text = re.sub(r"\[(\S+) (\S+)\]_(\{t.1\})", r"[\1_\3 \2_\3]", text)
    text = re.sub(r"\[([^\s\[\]]+(?: [^\s⊙\[\]]+)+)\]", lambda m: f"joined({m[1].replace(' ', ', ')})", text)
    text = re.sub(r" {2,}", ", ", text).replace("[", "joined(").replace("]", ")")
    text = re.sub(r"(?<=[\w′)}]) (?=[\w(])", " @ ", text)
    text = TERM.sub(lambda m: m[0] if m[0] in FUNCTIONS else f"value({m[0]!r})", text)
    return text.replace("⊙", "*").replace("ᵀ", ".T").replace("²", "**2")


def calculated(text):
    """Yield (name, what is printed, what comes of the printed numbers) of each equation and each compound term."""
    v, sides = parsed(text), re.search(r"\[(Z_.*?)\] \(", text)
    gates = [z[2:] for z in sides[1].split()] if sides else []

    def value(name):
        name = re.sub(r"^(dL/d.)_(.)_(\{t.1\})", r"\1_\3, \2", name).replace("from_", "from ")
        parts = [f"{name}, {g}" if f"{name}, {g}" in v else name[:-1] + g for g in gates]
        return np.atleast_2d(v[name]) if name in v else np.concatenate([np.atleast_2d(v[p]) for p in parts], axis=-1)

    pairs = [
        (name, name) for name in v if re.search(r"^[^,]* [^,]*$|\(", name) and not re.match("to|from|d.* of", name)
    ]
    for line in text.replace("\n↳ ", " ").splitlines():
        for found in filter(None, map(EQUATION.fullmatch, line.split(",  "))):
            if found[1] not in ("L", "local") and "Σ" not in found[3]:
                name = found[1] + " of this row" * (found[2] == " += ")
                pairs.append((name, found[3].split(" = ")[-1]))
    for name, expression in pairs:
        yield name, value(name), eval(python_of(expression), FUNCTIONS | {"value": value})


SETTINGS = [{}, {"bias": False}, {"reverse": True}, {"recurrent_dropout": 0.3, "message_clip": CLIP}]


@pytest.mark.parametrize(
    ("kind", "settings"),
    [
        *((mr.RecurrentLayer, {"activation": name}) for name in ("relu", "sigmoid", "identity")),
        *((mr.GRULayer, {"reset_after": False, **more}) for more in SETTINGS),
        *itertools.product(LAYERS, SETTINGS),
    ],
)
def test_each_equation_gives_the_number_below_it(kind, settings):
    layer, (x, *states) = made(kind, **settings), inputs()
    layer._rng = np.random.default_rng(3)
    text = explain(layer, x, 2, loss, row=1, initial_state=states if kind is mr.LSTMLayer else states[0])
    names = set()
    for name, printed, found in calculated(text):
        names.add(name)
        near(np.broadcast_to(found, printed.shape), printed)
    before = "t+1" if "reverse" in settings else "t-1"
    assert names >= {"H_t", "carried", "dL/dH_t", "dW_xh of this row", "dW_hh of this row", f"to H_{{{before}}}"}
    assert ("b_hn" in parsed(text)) == (kind is mr.GRULayer and layer.b_h is not None and layer.reset_after)
    if "recurrent_dropout" in settings:
        assert set(np.round(parsed(text)["m"], 3)) == {0, 1.429}


def test_a_cell_of_ones_own():
    layer, (x, h, s) = made(mr.RecurrentLayer, cell=Leaky()), inputs()
    text = explain(layer, x, 2, loss, row=1, initial_state=(h, s))
    v = parsed(text)
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
            if kind is mr.LSTMLayer:
                expected |= {"C_t": seen.cs, "dL/dC_t": seen.dL_dc}
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
    with raises(IndexError, "trace: t must be a step 0 … 4, got -1: there are T=5"):
        seen.explain(-1)
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
