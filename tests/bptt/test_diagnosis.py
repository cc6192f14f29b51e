import json
import math
import re

import numpy as np
import pytest
from bptt_cases import Leaky, hold_report
from error_texts import raises

import minirnn as mr
from minirnn.bptt import doctor, trace
from minirnn.bptt.diagnosis import EXPLODED, OFF, SATURATED, VANISHED, VERDICTS, judge
from minirnn.bptt.findings import Finding, number, percent, say
from minirnn.bptt.measures import CLIP, survival

T, N, D, H = 17, 4, 3, 9


def inputs(T=T, seed=1):
    return np.random.default_rng(seed).normal(size=(T, N, D))


def last(outputs):
    return (outputs[-1] ** 2).sum()


def every(outputs):
    return (outputs**2).sum(axis=(1, 2))


def elman(activation="tanh", radius=None, dtype=np.float64, H=H, **settings):
    if radius is not None:
        settings["recurrent_initializer"] = mr.init.spectral(radius)
    return mr.RecurrentLayer(D, H, activation=activation, dtype=dtype, rng=0, **settings)


def linear(W, **settings):
    """A layer whose way back is the product with W alone."""
    layer = elman("identity", **settings)
    layer.W_hh.data = np.asarray(W, layer.dtype)
    return layer


def rotation():
    return mr.init.orthogonal((H, H), np.random.default_rng(3))


def shifted(layer, name, by):
    parameter = getattr(layer, name)
    parameter.data = parameter.data + np.asarray(by, layer.dtype)
    return layer


def saturated(activation):
    layer = elman(activation)
    layer.W_xh.data = 60 * layer.W_xh.data
    return layer


# --- the verdicts -----------------------------------------------------------------------------------------------------

ILL = {
    "rho 0.3": (lambda: elman(radius=0.3), "vanishing"),
    "rho 0.3, ReLU": (lambda: elman("relu", radius=0.3), "vanishing"),
    "rho 3": (lambda: elman(radius=3.0, H=30), "exploding"),
    "rho 3, ReLU": (lambda: elman("relu", radius=3.0), "exploding"),
    "rho 3, identity": (lambda: elman("identity", radius=3.0), "exploding"),
    "saturated tanh": (lambda: saturated("tanh"), "saturated"),
    "saturated sigmoid": (lambda: saturated("sigmoid"), "saturated"),
    "sigmoid": (lambda: elman("sigmoid"), "vanishing"),
    "dead ReLU": (lambda: shifted(elman("relu"), "b_h", -30), "dead"),
    "IRNN": (lambda: elman("relu", init="irnn"), "healthy"),
    "an LSTM that forgets": (lambda: mr.LSTMLayer(D, H, forget_bias=-2.0, rng=0), "vanishing"),
    "an LSTM that keeps": (lambda: mr.LSTMLayer(D, H, forget_bias=5.0, rng=0), "healthy"),
    "a GRU that keeps": (
        lambda: shifted(mr.GRULayer(D, H, rng=0), "b_h", [0.0] * H + [6.0] * H + [0.0] * H),
        "healthy",
    ),
    "an LSTM whose candidate is flat": (
        lambda: shifted(mr.LSTMLayer(D, H, rng=0), "b_h", [0.0] * 2 * H + [20.0] * H + [0.0] * H),
        "saturated",
    ),
}  # fmt: skip


@pytest.mark.parametrize("loss", [last, every])
@pytest.mark.parametrize("case", ILL)
def test_it_names_the_illness(case, loss):
    make, verdict = ILL[case]
    assert doctor(make(), inputs(), loss).verdict == verdict


def test_a_loss_that_does_not_look_at_the_layer():
    report = doctor(elman(), inputs(), lambda outputs: (0 * outputs).sum())
    assert report.verdict == "no gradient"
    assert report.figures["enters"] == 0
    assert report.figures["parameter_gradient_norm"] == 0
    assert "clip" not in report.figures
    assert "a gradient enters at 0 of 17 steps" in report.findings[0].text


@pytest.mark.parametrize("loss", [last, every])
def test_one_step_is_too_short(loss):
    report = doctor(elman(), inputs(T=1), loss)
    assert report.verdict == "too short"
    assert report.figures["steps_back"] == 0
    assert {"left", "rate", "half_life"}.isdisjoint(report.figures)
    assert report.findings[0].text == "The gradient goes back 0 steps: with T = 1 it enters at the first there is."


FIGURES = {"enters": 1, "carried": 0.5}


@pytest.mark.parametrize(
    ("figures", "verdict"),
    [
        (FIGURES, "healthy"),
        (FIGURES | {"carried": 0.99 * VANISHED}, "vanishing"),
        (FIGURES | {"carried": VANISHED}, "healthy"),
        (FIGURES | {"carried": EXPLODED}, "healthy"),
        (FIGURES | {"carried": 1.01 * EXPLODED}, "exploding"),
        (FIGURES | {"carried": math.inf}, "exploding"),
        (FIGURES | {"saturation": {"h": SATURATED}}, "saturated"),
        (FIGURES | {"saturation": {"h": 0.99 * SATURATED}}, "healthy"),
        (FIGURES | {"saturation": {"i": 1.0, "f": 1.0, "g": 0.0, "o": 1.0}}, "healthy"),
        (FIGURES | {"saturation": {"r": 0.0, "z": 0.0, "n": 0.6}, "carried": 0.0}, "saturated"),
        (FIGURES | {"off": OFF}, "dead"),
        (FIGURES | {"off": 0.99 * OFF}, "healthy"),
        ({"enters": 0, "off": 1.0}, "dead"),
        ({"enters": 0}, "no gradient"),
        ({"enters": 1}, "too short"),
        ({"enters": 1, "saturation": {"h": 1.0}}, "saturated"),
        (FIGURES | {"not_finite": {}, "off": 1.0}, "not finite"),
    ],
)
def test_thresholds_and_precedence(figures, verdict):
    assert judge(figures) == verdict
    assert verdict in VERDICTS


# --- the decay --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("loss", [last, every])
def test_decay_of_a_known_factor(loss):
    figures = doctor(linear(0.5 * rotation()), inputs(), loss).figures
    assert figures["rate"] == pytest.approx(0.5, rel=1e-12)
    assert figures["first_factor"] == pytest.approx(0.5, rel=1e-12)
    assert figures["half_life"] == pytest.approx(1.0, rel=1e-12)
    assert figures["left"] == pytest.approx(0.5 ** (T - 1), rel=1e-12)
    assert figures["reach"] == pytest.approx(math.log(100) / math.log(2), rel=1e-12)
    assert (figures["enters_at"], figures["steps_back"]) == (T - 1, T - 1)
    assert figures["enters"] == (1 if loss is last else T)


def test_what_is_left_is_the_ratio_of_the_norms_where_the_loss_is_of_the_last_step():
    traced = trace(elman(), inputs(), last)
    figures, norms = doctor(traced).figures, traced.gradient_norms
    assert figures["left"] == pytest.approx(norms[0] / norms[-1], rel=1e-10)
    assert figures["carried"] == pytest.approx(norms[0] / norms[-2], rel=1e-10)
    assert figures["rate"] == pytest.approx((norms[0] / norms[-2]) ** (1 / (T - 2)), rel=1e-10)
    assert figures["gradient_norms"] == pytest.approx(norms)


def test_the_decay_is_the_same_with_a_loss_at_every_step():
    """What is fed in at the steps between does not hide it: it is that of one injection."""
    layer, x = elman(radius=0.5), inputs()
    one = doctor(layer, x, last)
    both = doctor(layer, x, every)
    assert both.figures["left"] == pytest.approx(one.figures["left"], rel=1e-10)
    norms = both.figures["gradient_norms"]
    assert norms[0] / norms[-1] > 100 * both.figures["left"]


def test_the_state_of_an_lstm_counts_as_a_whole():
    """With W_hh = 0, c alone goes on, by f: after the first step each multiplies by it."""
    layer = mr.LSTMLayer(D, H, dtype=np.float64, recurrent_initializer="zeros", input_initializer="zeros", rng=0)
    layer = shifted(layer, "b_h", [0.3] * 4 * H)
    figures = doctor(layer, inputs(), last).figures
    f = 1 / (1 + math.exp(-1.3))
    assert figures["rate"] == pytest.approx(f, rel=1e-12)
    assert figures["kept"] == pytest.approx(f, rel=1e-12)


@pytest.mark.parametrize("reverse", [False, True])
def test_rows_of_unequal_length(reverse):
    """Each row counts over its own steps: the figures are those of the rows put together one by one."""
    layer, x, lengths = elman(radius=0.8, reverse=reverse), inputs(), [5, 17, 2, 9]

    def loss(outputs):
        if reverse:
            return (outputs[0] ** 2).sum()
        return sum((outputs[length - 1, n] ** 2).sum() for n, length in enumerate(lengths))

    traced = trace(layer, x, loss, lengths=lengths)
    enters_at, growth = survival(traced)
    assert np.exp(growth).max() <= doctor(traced).figures["step_bound"] * (1 + 1e-12)
    assert enters_at == (0 if reverse else None)
    assert len(growth) == 16
    norms = np.zeros((17, N))
    for n, length in enumerate(lengths):
        rows = np.linalg.norm(traced.dL_dh[:length, n], axis=1)
        norms[:length, n] = rows if reverse else rows[::-1]
    alive = np.arange(17)[:, None] < np.array(lengths)
    expected = [np.linalg.norm(norms[j + 1, alive[j + 1]]) / np.linalg.norm(norms[j, alive[j + 1]]) for j in range(16)]
    np.testing.assert_allclose(np.exp(growth), expected, rtol=1e-9)
    assert doctor(traced).verdict == "vanishing"


def test_in_reverse_the_gradient_enters_at_the_first_step():
    report = doctor(elman(radius=0.3, reverse=True), inputs(), lambda outputs: (outputs[0] ** 2).sum())
    assert report.verdict == "vanishing"
    assert (report.figures["enters_at"], report.figures["steps_back"]) == (0, T - 1)
    assert "that enters at step t = 0, " in report.findings[0].text


def test_batch_first():
    x = inputs()
    there = doctor(elman(batch_first=True), x.swapaxes(0, 1), lambda outputs: (outputs[:, -1] ** 2).sum())
    assert str(there) == str(doctor(elman(), x, last))


def test_numbers_too_small_for_float32_are_no_zeros():
    report = doctor(linear(0.01 * rotation(), dtype=np.float32), inputs(T=60), last)
    assert report.figures["rate"] == pytest.approx(0.01, rel=1e-5)
    assert 1e-120 < report.figures["left"] < 1e-116
    zeros = report.figures["gradient_norms"].count(0.0)
    assert zeros > 30
    assert any(f"exactly 0 at {zeros} of 60 steps (float32 has no number so small)." in f.text for f in report.findings)


def test_steps_that_no_gradient_goes_to_are_no_underflow():
    report = doctor(elman(), inputs(), lambda outputs: (outputs[7] ** 2).sum())
    assert (report.figures["enters_at"], report.figures["steps_back"], report.figures["underflows"]) == (7, 7, 0)
    assert any(f.text.endswith("exactly 0 at 9 of 17 steps.") for f in report.findings)


def test_a_path_that_is_cut():
    report = doctor(linear(np.zeros((H, H))), inputs(), last)
    assert report.verdict == "vanishing"
    assert (report.figures["left"], report.figures["rate"], report.figures["steps_back"]) == (0, 0, 1)
    assert "0 % of the norm is left 1 step further back" in report.findings[0].text


def test_message_clip_is_left_out_of_the_factors():
    x = inputs()
    free, bound = elman(radius=3.0, H=30), elman(radius=3.0, H=30, message_clip=0.1)
    report = doctor(bound, x, last)
    assert report.verdict == "exploding"
    assert report.figures["left"] == pytest.approx(doctor(free, x, last).figures["left"], rel=1e-10)
    assert any(f.text.startswith("message_clip = 0.1 bounds each row") for f in report.findings)


# --- the other figures ------------------------------------------------------------------------------------------------


def test_figures_of_W_hh():
    layer = elman()
    layer.W_hh.data = np.random.default_rng(5).normal(size=(H, H)) / 3
    W = layer.W_hh.data
    figures = doctor(layer, inputs(), last).figures
    assert figures["spectral_radius"] == pytest.approx(np.abs(np.linalg.eigvals(W)).max(), rel=1e-10)
    assert figures["spectral_norm"] == pytest.approx(math.sqrt(np.linalg.eigvalsh(W @ W.T).max()), rel=1e-10)
    assert figures["largest_slope"] == 1.0
    assert figures["step_bound"] == figures["spectral_norm"]
    assert not figures["identity"]
    assert doctor(elman("relu", init="irnn"), inputs(), last).figures["identity"]


def test_the_bound_takes_the_slope_and_the_mask_into_account():
    x = inputs()
    report = doctor(linear(rotation(), recurrent_dropout=0.5), x, last)
    assert report.figures["step_bound"] == pytest.approx(2.0, rel=1e-12)
    assert (
        "with the 2 of recurrent_dropout no step back multiplies a gradient by more than 2." in report.findings[3].text
    )
    figures = doctor(elman("sigmoid"), x, last).figures
    assert figures["step_bound"] == pytest.approx(0.25, rel=1e-6)
    own = elman((lambda z: 0.5 * z, lambda h: 0 * h + 0.5))
    assert doctor(own, x, last).figures["largest_slope"] == 0.5
    for bound, follows in (1 - 2e-5, "Below 1 it must"), (1 - 5e-6, "At 1"), (1 + 5e-6, "At 1"), (1 + 2e-5, "Above 1"):
        said = doctor(linear(bound * rotation()), x, last)
        assert said.figures["step_bound"] == pytest.approx(bound, rel=1e-9)
        assert f" {follows} " in " ".join(str(said).split())


@pytest.mark.parametrize(("layer", "gates"), [(mr.LSTMLayer, "ifgo"), (mr.GRULayer, "rzn")])
def test_gated_cells_by_gate(layer, gates):
    layer = layer(D, H, recurrent_initializer="glorot", dtype=np.float64, rng=0)
    figures = doctor(layer, inputs(), every).figures
    assert list(figures["spectral_norm"]) == list(figures["saturation"]) == list(gates)
    j = gates.index("n" if "n" in gates else "g")
    block = layer.W_hh.data[:, j * H : (j + 1) * H]
    assert figures["spectral_norm"][gates[j]] == pytest.approx(np.linalg.norm(block, 2), rel=1e-12)
    assert {"step_bound", "largest_slope"}.isdisjoint(figures)


def test_saturation_is_the_traces_over_the_steps_that_count():
    layer, x, lengths = saturated("tanh"), inputs(), [5, 17, 2, 9]
    figures = doctor(layer, x, every, lengths=lengths).figures
    hs = trace(layer, x, every, lengths=lengths).hs
    inside = np.arange(17)[:, None] < np.array(lengths)
    flat = (1 - hs[inside] ** 2 <= 0.05).mean()
    assert figures["saturation"]["h"] == pytest.approx(flat, rel=1e-12)
    assert figures["mean_slope"] == pytest.approx((1 - hs[inside] ** 2).mean(), rel=1e-12)


def test_units_that_are_off_and_dead():
    layer = shifted(elman("relu"), "b_h", [-30.0] * 2 + [0.0] * (H - 2))
    traced = trace(layer, inputs(), every)
    figures = doctor(traced).figures
    assert figures["dead_units"] == (traced.hs == 0).all(axis=(0, 1)).sum() >= 2
    assert figures["off"] == pytest.approx((traced.hs == 0).mean(), rel=1e-12)
    assert "saturation" not in figures


def test_terms_of_the_pre_activations():
    layer, x = shifted(elman(), "b_h", -0.7), inputs()
    traced = trace(layer, x, last)
    before = np.concatenate([np.zeros((1, N, H)), traced.hs[:-1]])
    figures = doctor(traced).figures
    assert figures["mean_input_term"] == pytest.approx(np.abs(x @ layer.W_xh.data).mean(), rel=1e-12)
    assert figures["mean_recurrent_term"] == pytest.approx(np.abs(before @ layer.W_hh.data).mean(), rel=1e-12)
    assert figures["mean_bias"] == pytest.approx(0.7)


def test_the_threshold():
    layer, x = elman(), inputs()
    figures = doctor(layer, x, last).figures
    last(layer(x).outputs).backward()
    norm = math.sqrt(sum((p.grad**2).sum() for p in layer.parameters()))
    assert figures["parameter_gradient_norm"] == pytest.approx(norm, rel=1e-12)
    assert figures["clip"] == pytest.approx(CLIP * norm, rel=1e-12)
    assert figures["clip_from"] == pytest.approx(norm / 2, rel=1e-12)
    assert figures["clip_to"] == pytest.approx(10 * norm, rel=1e-12)


def test_the_threshold_of_an_exploding_layer_is_what_the_last_step_gives():
    traced = trace(elman(radius=3.0, H=30), inputs(), last)
    figures = doctor(traced).figures
    of_last = math.sqrt(sum((a[-1] ** 2).sum() for a in traced.by_step.values()))
    assert figures["clip_step"] == T - 1
    assert figures["clip"] == pytest.approx(of_last, rel=1e-12)
    assert figures["clip"] < figures["parameter_gradient_norm"]


def test_a_cell_of_ones_own_is_reported_without_slopes():
    report = doctor(elman(cell=Leaky()), inputs(), last)
    assert report.verdict in ("vanishing", "healthy")
    assert {"saturation", "mean_slope", "step_bound"}.isdisjoint(report.figures)
    assert any("of which nothing is known here" in f.text for f in report.findings)


# --- not finite -------------------------------------------------------------------------------------------------------


def poisoned(at, value):
    x = inputs()
    x[at] = value
    return x


@pytest.mark.parametrize(
    ("layer", "x", "loss", "where"),
    [
        (elman, poisoned((6, 1, 2), np.nan), last, ("forward", "x_t", 6, "NaN")),
        (elman, poisoned((0, 1, 2), np.inf), every, ("forward", "x_t", 0, "inf")),
        (lambda: shifted(elman(), "W_hh", np.nan), inputs(), last, ("given", "the parameter W_hh", None, "NaN")),
        (
            lambda: shifted(mr.GRULayer(D, H), "b_hn", np.inf),
            inputs(),
            last,
            ("given", "the parameter b_hn", None, "inf"),
        ),
        (elman, inputs(), lambda o: (o[-1] * np.inf).sum(), ("loss", "the loss", None, "NaN")),
        (
            elman,
            inputs(),
            lambda o: mr.sqrt(mr.maximum(o[7], 0.0) * 0.0).sum() + 0.0,
            ("backward", "dL/dh_t as it enters", 7, "NaN"),
        ),
    ],
)  # fmt: skip
def test_what_is_not_finite_first(layer, x, loss, where):
    report = doctor(layer(), x, loss)
    assert report.verdict == "not finite"
    bad = report.figures["not_finite"]
    assert (bad["pass"], bad["what"], bad["step"], bad["value"]) == where
    assert bad["what"] in report.findings[0].text
    if bad["step"] is not None:
        assert f"at step t = {bad['step']}," in report.findings[0].text
    json.loads(report.to_json(), parse_constant=pytest.fail)


def test_a_gradient_that_overflows_on_its_way_back():
    layer = linear(1000 * np.eye(H), dtype=np.float32)
    report = doctor(layer, np.zeros((40, N, D)), lambda outputs: outputs[-1].sum())
    assert report.verdict == "not finite"
    bad = report.figures["not_finite"]
    assert (bad["pass"], bad["what"], bad["value"]) == ("backward", "dL/dh_t as it is carried", "inf")
    assert bad["step"] == 39 - 13  # 1000¹³ = 1e39 is more than float32 holds
    assert report.figures["rate"] == pytest.approx(1000, rel=1e-6)
    assert report.advice[0].figures == ("spectral_norm",)


def test_growth_beyond_all_numbers():
    report = doctor(linear(1e8 * np.eye(H)), np.zeros((45, N, D)), lambda outputs: 1e-200 * outputs[-1].sum())
    assert report.figures["left"] == math.inf
    assert "not_finite" not in report.figures
    assert report.verdict == "exploding"
    assert "more than 1e308 times" in str(report).replace("\n  ", " ")
    assert report.to_dict()["figures"]["left"] is None


# --- the report -------------------------------------------------------------------------------------------------------

REPORTS = {name: (make, inputs(), every) for name, (make, _) in ILL.items()} | {
    "NaN": (elman, poisoned((6, 1, 2), np.nan), last),
    "nothing": (elman, inputs(), lambda outputs: (0 * outputs).sum()),
    "too short": (elman, inputs(T=1), last),
    "overflow": (lambda: linear(1e30 * np.eye(H), dtype=np.float32), inputs(), last),
    "cell": (lambda: elman(cell=Leaky()), inputs(), last),
}


@pytest.mark.parametrize("name", REPORTS)
def test_every_sentence_is_backed_by_figures_and_the_report_can_be_read_and_stored(name):
    make, x, loss = REPORTS[name]
    report = doctor(make(), x, loss)
    hold_report(report)
    lines = str(report).splitlines()
    assert lines[0] == f"verdict: {report.verdict} ({VERDICTS[report.verdict]})"
    assert "what to try" in lines
    assert repr(report) == f"<Report: {report.verdict}, {len(report.figures)} figures>"
    assert list(report.to_dict()) == ["verdict", "meaning", "figures", "findings", "advice"]
    assert [f["text"] for f in report.to_dict()["findings"]] == [f.text for f in report.findings]


def test_figures_stand_in_the_text_as_they_are():
    report = doctor(linear(0.5 * rotation()), inputs(), every)
    assert [f.text for f in report.findings[:2]] == [
        "Of the gradient that enters at step t = 16 (the last of 17 steps at which one enters), 1.53e-05 of the norm "
        "is left 16 steps further back.",
        "The first step back multiplies it by 0.5, the other 15 by 3.05e-05 in all, 0.5 each on average: its half-life "
        "is 1 step, and 1 % is left after 6.64.",
    ]  # fmt: skip
    assert report.findings[3].text == (
        "W_hh has the norm σ₁ = 0.5 and φ′ is at most 1, so that no step back multiplies a gradient by more than 0.5. "
        "Below 1 it must vanish, whatever the input (a theorem: Pascanu et al. 2013)."
    )


OFF_IRNN, DEAD = (lambda: shifted(elman("relu", init="irnn"), "b_h", -0.2)), ILL["dead ReLU"][0]
SAID = [
    (lambda: linear(rotation(), dtype=np.float32), inputs(), "healthy", "it neither shrinks nor grows"),
    (lambda: saturated("tanh"), inputs(), "saturated", "Of the terms of z_t X_t W_xh is the largest ("),
    (DEAD, inputs(), "dead", "30 of b_h, on average): start b_h at 0."),
    (lambda: elman("identity", radius=9.0), inputs(), "exploding", "too much to suggest a threshold"),
    (
        lambda: linear(1e30 * np.eye(H), dtype=np.float32),
        inputs(),
        "not finite",
        "inf: the pre-activation z_t at step t = 2,",
    ),
    (lambda: linear(1e30 * np.eye(H), dtype=np.float32), inputs(), "not finite", "spectral radius is 1e+30"),
    (
        lambda: elman("relu", recurrent_dropout=0.5, bias=False),
        inputs(T=60),
        "exploding",
        "what to try - Drop less: recurrent_dropout multiplies what it keeps of h by 2, ",
    ),
    (
        OFF_IRNN,
        200 * inputs(T=60),
        "vanishing",
        "what to try - Keep its rectifiers on: W_hh is the identity already, but ",
    ),
]


@pytest.mark.parametrize(("make", "x", "verdict", "sentence"), SAID)
def test_what_is_said_of_it(make, x, verdict, sentence):
    report = doctor(make(), x, every)
    assert report.verdict == verdict
    said = re.sub(r"\s+", " ", str(report))
    assert sentence in said
    assert "too much to suggest a threshold" not in said or "clip" not in report.figures


def test_the_advice_helps():
    """What it says to try makes a patient healthy."""
    x = inputs(T=50)
    assert doctor(elman(radius=0.3), x, last).advice[0].text.startswith("Start as an IRNN: ")
    assert doctor(elman("relu", init="irnn"), 0.1 * np.abs(x), last).verdict == "healthy"
    lstm = doctor(mr.LSTMLayer(D, H, forget_bias=-2.0, rng=0), x, last)
    (bias,) = re.findall(r"forget_bias=([\d.]+)", lstm.advice[0].text)
    cured = doctor(mr.LSTMLayer(D, H, forget_bias=float(bias), rng=0), x, last)
    assert cured.figures["left"] > 1e3 * lstm.figures["left"]
    assert cured.verdict == "healthy"
    exploding = doctor(elman(radius=3.0, H=30), x, last)
    assert 'recurrent_initializer="orthogonal"' in exploding.advice[0].text
    assert doctor(elman(), x, last).verdict != "exploding"


def test_numbers_in_words():
    assert [number(x) for x in (0.12345, 12.345, 999.6, 1234.5, 1.234e7, 1e-12, 0.0)] == [
        "0.123", "12.3", "1,000", "1,234", "1.23e+07", "1e-12", "0",
    ]  # fmt: skip
    assert [percent(x) for x in (0.0, 0.5, 0.00123, 1e-5)] == ["0 %", "50 %", "0.123 %", "1e-05"]


def test_the_figures_of_a_sentence_are_the_fields_of_its_template():
    figures = {"T": 1, "left": 0.5, "large": 1234.5, "norms": [0.25, 2.0], "of": {"h": 3.0}, "W": True, "kind": "LSTM"}
    template = """{W:=It} has {left:percent} of {large}, {norms[1]} and {of[h]} after {T:steps}: {{x}}, {left:.3f} in
        an {kind}."""
    text = "It has 50 % of 1,234, 2 and 3 after 1 step: {x}, 0.500 in an LSTM."
    assert say(template, figures) == Finding(text, ("W", "left", "large", "norms", "of", "T", "kind"))
    assert say("All⟦, {T:steps}⟧⟦ or {none}⟧{left:=}.", figures) == Finding("All, 1 step.", ("T", "left"))
    assert say("{none} of {T}", figures) is None


# --- arguments --------------------------------------------------------------------------------------------------------


def test_a_trace_or_a_model():
    layer, x = elman(), inputs()
    head = mr.Linear(H, 2, dtype=np.float64, rng=1)
    model = mr.SequenceModel(layer, head, readout="last")
    assert doctor(trace(layer, x, last)) == doctor(layer, x, last)
    report = doctor(model, x, lambda predictions: (predictions**2).sum())
    assert report.figures["enters"] == 1
    h0 = np.full((N, H), 0.5)
    assert doctor(layer, x, last, h0).figures["left"] != doctor(layer, x, last).figures["left"]


def test_a_trace_has_all_of_it_and_a_model_needs_x_and_loss():
    known = (
        f"is known to a Trace already, got an array of shape ({T}, {N}, {D}) and dtype float64: leave it out, or pass"
    )
    for name in ("x", "loss", "initial_state", "lengths"):
        with raises(TypeError, f"doctor: {name} {known} the model"):
            doctor(trace(elman(), inputs(), last), **{name: inputs()})
    for name, given in {"x": (elman(),), "loss": (elman(), inputs())}.items():
        with raises(TypeError, f"doctor: {name} must be given with a model, got None: pass it, or a Trace alone"):
            doctor(*given)
    with pytest.raises(TypeError, match=r"^doctor: model must be a recurrent layer or a SequenceModel of one, got Lin"):
        doctor(mr.Linear(3, 2), inputs(), last)


class Opaque(mr.Cell):
    """A cell whose step back gives NaN."""

    def step(self, z, h):
        return (z + h,), None

    def step_backward(self, d_state, saved):
        return np.full_like(d_state[0], np.nan), (d_state[0],)


def test_a_gradient_of_z_that_is_not_finite_is_named_before_those_of_the_parameters():
    with np.errstate(all="ignore"):
        report = doctor(elman(cell=Opaque()), inputs(), lambda outputs: outputs[0].sum())
    assert report.figures["not_finite"] == {"pass": "backward", "what": "dL/dz_t", "step": T - 1, "value": "NaN"}


def test_a_matrix_of_norm_1_is_not_told_to_be_smaller():
    """What makes the gradient grow is φ alone; σ₁ = 1 but for the rounding of float32."""
    steep = elman((lambda z: 2 * z, lambda h: 0 * h + 2), recurrent_initializer="orthogonal", dtype=np.float32)
    for by in (0, 1 - 5e-6, 1 + 5e-6):
        steep.W_hh.data = by * steep.W_hh.data if by else np.eye(H, dtype=np.float32)
        report = doctor(steep, inputs(), last)
        assert report.verdict == "exploding"
        assert not any("smaller W_hh" in advice.text for advice in report.advice)


# --- how far the gradient has to go -----------------------------------------------------------------------------------


def test_the_way_back_is_judged_as_far_as_the_task_asks():
    layer, x = elman(radius=1.2), inputs(T=40)
    whole, three = doctor(layer, x, every), doctor(layer, x, every, delay=3)
    assert (whole.verdict, three.verdict) == ("vanishing", "healthy")
    assert (three.figures["delay"], three.figures["steps_back"]) == (3, 3)
    assert doctor(layer, x, every, delay=39).figures["left"] == whole.figures["left"] < three.figures["left"]
    assert "is left 3 steps further back, as far as the task asks." in three.findings[0].text
    assert doctor(elman(radius=0.3), x, every, delay=3).verdict == "vanishing"
    assert doctor(elman(radius=3.0, H=30), x, every, delay=1).verdict == "healthy"


def test_a_delay_must_be_a_number_of_steps():
    with raises(TypeError, "doctor: delay must be an int ≥ 1, got 2.0 (float): try 2"):
        doctor(elman(), inputs(), last, delay=2.0)


@pytest.mark.parametrize("case", ILL)
def test_nothing_is_told_to_clip_and_not_to_clip(case):
    report = doctor(ILL[case][0](), inputs(), last)
    said = " ".join(f.text for f in (*report.findings, *report.advice)).lower()
    assert ("clip at about" in said) == (report.verdict == "healthy")
    assert ("do not clip" in said) == (report.verdict == "vanishing")
