"""The explorer's builder: the numbers that travel, the size of the page, what is written, and what is refused.

How the page looks and behaves in a browser is tests/browser/test_explorer.py.
"""

import base64
import html
import itertools
import json
import os
import re

import numpy as np
import pytest
from bptt_cases import KINDS, WAYS, D, H, N, T, covering, make
from error_texts import raises

import minirnn as mr
from minirnn.bptt.page import numbers

BIG = 5_000_000  # bytes
KINDS_OF_NUMBERS = {"f8": np.float64, "f4": np.float32, "u2": np.uint16, "i1": np.int8, "u1": np.uint8}


def unpacked(packed):
    """Read an array as the page does."""
    raw = np.frombuffer(base64.b64decode(packed["data"]), KINDS_OF_NUMBERS[packed["type"]])
    values = raw.reshape(packed["shape"])
    if packed["type"] != "i1":
        return values
    scaled = values * unpacked(packed["scale"])[..., None]
    return np.where(values == numbers.NOT_FINITE, np.nan, scaled)


def page_of(trace, tmp_path, title=None):
    path = tmp_path / "page.html"
    assert trace.to_html(path, title) is None
    return path.read_text(encoding="utf-8")


def strict(text):
    """Read JSON as a browser does: NaN and Infinity are no numbers there."""

    def refuse(word):
        raise AssertionError(f"{word} is no JSON")

    return json.loads(text, parse_constant=refuse)


def data_of(page):
    return strict(re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.DOTALL)[1])


# --- the numbers ------------------------------------------------------------------------------------------------------


@covering(ways=["plain", "reverse", "no bias"])
def test_the_numbers_that_travel_are_the_traces(kind, settings, tmp_path):
    trace = make(kind, **settings).trace()
    data = data_of(page_of(trace, tmp_path))
    about, units = data["about"], {k: v for k, v in data["units"].items() if isinstance(v, dict)}
    assert (about["T"], about["N"], about["D"], about["H"]) == (T, N, D, H)
    assert about["rows"] == list(range(N))
    assert unpacked(about["total_loss"]) == trace.total_loss
    fields = {"x": trace.x, "h": trace.hs, "dh": trace.dL_dh, "local": trace.dL_dh_local}
    fields |= {"carried": trace.dL_dh_carried, "valid": trace.valid}
    if kind in ("lstm", "named"):
        fields |= {"c": trace.cs, "dc": trace.dL_dc}
    assert units.keys() == fields.keys()
    for name, field in fields.items():
        assert np.array_equal(unpacked(units[name]), field), name
    states = trace.unrolled.states
    assert all(
        np.array_equal(unpacked(a), s[0]) for a, s in zip(data["units"]["initial"], states[:2], strict=len(states) < 3)
    )
    weights = data["weights"]
    assert {n: list(unpacked(a)) for n, a in weights["by_step"].items()} == {
        n: list(a) for n, a in trace.norms_by_step.items()
    }
    assert {n: float(unpacked(a)) for n, a in weights["total"].items()} == pytest.approx(
        {n: np.linalg.norm(g) for n, g in trace.gradients.items()}, rel=1e-14
    )
    assert list(unpacked(data["state_norms"]["together"]["dh"])) == list(trace.gradient_norms)
    assert data["doctor"] == mr.bptt.doctor(trace).to_dict()


@pytest.mark.parametrize(("kind", "way"), [("elman", "plain"), ("lstm", "reverse"), ("gru-before", "plain")])
def test_the_norms_of_states_are_by_row(kind, way, tmp_path):
    trace = make(kind, lengths=[3, 7, 1, 6], **WAYS[way]).trace()
    by_row = data_of(page_of(trace, tmp_path))["state_norms"]["by_row"]
    fields = {"dh": trace.dL_dh, "local": trace.dL_dh_local, "carried": trace.dL_dh_carried, "dz": trace.dL_dz}
    fields |= {"h": trace.hs}
    for name, field in fields.items():
        assert np.abs(unpacked(by_row[name]) - np.linalg.norm(field, axis=2)).max() < 1e-14, name
    assert ("carried_c" in by_row) == (kind == "lstm")
    if kind == "lstm":  # dL/dc_t = dL/dh_t ⊙ o ⊙ (1 − tanh²(c_t)) + carried
        o = 1 / (1 + np.exp(-trace.pre_activations[..., 3 * H :]))
        carried = trace.dL_dc - trace.dL_dh * o * (1 - np.tanh(trace.cs) ** 2)
        assert np.abs(unpacked(by_row["carried_c"]) - np.linalg.norm(carried, axis=2)).max() < 1e-14


def test_many_singular_values_travel_as_quantiles(monkeypatch, tmp_path):
    trace = make("lstm", sizes=(6, 2, 3, 9)).trace()
    monkeypatch.setattr(numbers, "MULTIPLICATIONS", 6 * 18 * 18 * (2 * 36 + 30 * 2 * 18) / 2.5)
    found = data_of(page_of(trace, tmp_path))["singular"]
    assert (found["every"], found["steps"], found["size"], found["few"]) == (3, [0, 3], 18, False)
    assert found["names"] == ["100%", "90%", "75%", "50%", "25%", "10%", "0%"]
    values = trace.singular_values(3, 2)[1]
    assert np.allclose(unpacked(found["values"])[1, 1], np.quantile(values, numbers.QUANTILES), rtol=1e-12)
    assert not unpacked(found["zeros"]).any()


@pytest.mark.parametrize("neurons", [8, 20])
def test_singular_values_that_are_zero_but_for_rounding_are_counted(neurons, tmp_path):
    layer = mr.RecurrentLayer(3, neurons, activation="relu", dtype=np.float64, rng=0)
    x = np.random.default_rng(0).normal(size=(5, 2, 3))
    trace = mr.bptt.trace(layer, x, lambda outputs: (outputs**2).sum())
    found = data_of(page_of(trace, tmp_path))["singular"]
    dead = (trace.hs == 0).sum(axis=2)  # a ReLU that is off takes away a row of the Jacobian, and no more
    assert dead.min() > 0
    assert np.array_equal(unpacked(found["zeros"]), dead)
    shown = unpacked(found["values"])
    for t, row in itertools.product(range(5), range(2)):
        alive = trace.singular_values(t, t - 1)[row][: neurons - dead[t, row]]
        if neurons > numbers.FEW:
            assert np.allclose(shown[t, row], np.quantile(alive, numbers.QUANTILES), rtol=1e-12)
        else:
            assert np.allclose(shown[t, row], [*alive, *np.zeros(dead[t, row])], rtol=1e-12, atol=0)


@pytest.mark.parametrize("way", ["plain", "reverse"])
def test_the_pictures_are_block_means_and_the_sum_so_far_goes_back_in_time(way, tmp_path):
    trace = make("gru", sizes=(5, 3, 2, 18), **WAYS[way]).trace()
    weights = data_of(page_of(trace, tmp_path))["weights"]
    pictures = unpacked(weights["pictures"]).reshape(5, 3, 16, 16)
    step = trace.dW_hh_by_step[2]
    edges = [0, *np.arange(1, 16) * 18 // 16, 18]
    for gate in range(3):
        block = step[:, gate * 18 : (gate + 1) * 18]
        means = [[block[a:b, c:d].mean() for c, d in _pairs(edges)] for a, b in _pairs(edges)]
        assert np.abs(pictures[2, gate] - means).max() <= np.abs(pictures[2]).max() / 254 * (1 + 1e-12)
    turn = slice(None) if way == "reverse" else slice(None, None, -1)
    so_far = np.linalg.norm(np.cumsum(trace.dW_hh_by_step[turn], axis=0), axis=(1, 2))[turn]
    assert np.allclose(unpacked(weights["so_far"]), so_far, rtol=1e-12)


def _pairs(edges):
    return list(itertools.pairwise(edges))


@pytest.mark.parametrize(
    ("sizes", "way"), [((5, 2, 8, 8), "plain"), ((5, 2, 9, 8), "reverse"), ((5, 2, 8, 9), "plain")]
)
def test_the_numbers_of_the_equation_travel_where_they_are_few(sizes, way, tmp_path):
    trace = make("elman", sizes=sizes, **WAYS[way]).trace()
    equation = data_of(page_of(trace, tmp_path))["equation"]
    arrays = {name: unpacked(packed) for name, packed in equation["arrays"].items()}
    assert np.array_equal(unpacked(equation["saturation"]), trace.saturation)
    assert equation["numbers"] == (sizes[2:] == (8, 8))
    names = {"Wₓₕ": trace.layer.W_xh.data, "Wₕₕ": trace.layer.W_hh.data, "b": trace.layer.b_h.data}
    of_steps = {"z⟦t⟧": trace.pre_activations, "dL/dz⟦t⟧": trace.dL_dz, "h⟦t⟧": trace.hs, "dL/dh⟦t⟧": trace.dL_dh}
    if equation["numbers"]:
        for name, values in (names | of_steps).items():
            assert np.array_equal(arrays[name], values), name
    else:
        for name, values in of_steps.items():
            assert np.allclose(arrays[name], np.linalg.norm(values, axis=-1), rtol=1e-12), name
            units, entries = (unpacked(equation["largest"][name][part]) for part in ("units", "values"))
            assert np.array_equal(entries, np.take_along_axis(values, units.astype(int), axis=-1)), name
            assert np.array_equal(-np.abs(entries), np.sort(-np.abs(values))[..., : numbers.LARGEST]), name
        for name, values in names.items():
            assert np.isclose(arrays[name], np.linalg.norm(values), rtol=1e-12), name
            assert name not in equation["largest"]


@covering(ways=["plain", "reverse"])
def test_the_equations_are_those_of_explain(kind, settings, tmp_path):
    trace = make(kind, **settings | {"lengths": None}).trace()
    equation = data_of(page_of(trace, tmp_path))["equation"]
    before, after = ("t+1", "t-1") if trace.layer.reverse else ("t-1", "t+1")
    explained = trace.explain(3, 1)

    def plain(text):
        for token, at in (("⟦t⟧", "_t"), ("⟦b⟧", f"_{{{before}}}"), ("⟦a⟧", f"_{{{after}}}")):
            text = text.replace(token, at)
        for symbol, name in (("Wₓₕ", "W_xh"), ("Wₕₕ", "W_hh"), ("Wₓₙ", "W_xn"), ("Wₕₙ", "W_hn"), ("bₕₙ", "b_hn")):
            text = text.replace(symbol, name)
        return text.removesuffix(" b") + " b_h" * text.endswith(" b")

    def same(text):
        return text.lower().replace("\n↳ ", " ")

    for part in ("forward", "backward"):
        lines = [plain(line) for found in equation[part] for line in found["lines"]]
        assert len(lines) >= 2
        for line in lines:
            assert same(line) in same(explained), line


# --- packing ----------------------------------------------------------------------------------------------------------


def test_rounded_values_are_off_by_half_a_step_and_zero_stays_zero():
    a = np.random.default_rng(0).normal(size=(4, 3, 50)) * np.logspace(-200, 200, 12).reshape(4, 3, 1)
    a[1, 2] = 0
    back = unpacked(numbers.rounded(a))
    assert (np.abs(back - a) <= np.abs(a).max(axis=-1, keepdims=True) / 254 * (1 + 1e-12)).all()
    assert not back[1, 2].any()


def test_nan_and_inf_are_packed_as_what_they_are():
    a = np.array([[1.0, np.nan, -np.inf, np.inf, -4.0]])
    assert np.array_equal(unpacked(numbers.exact(a)), a, equal_nan=True)
    assert np.array_equal(np.isnan(unpacked(numbers.rounded(a))), [[False, True, True, True, False]])
    assert unpacked(numbers.rounded(a))[0, 4] == -4


# --- size -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "sizes"), [("elman", (200, 8, 128, 128)), ("lstm", (200, 8, 128, 128)), ("elman", (60, 8, 2, 60))]
)
def test_a_page_stays_under_5_mb(kind, sizes, monkeypatch, tmp_path):
    monkeypatch.setattr(numbers, "MULTIPLICATIONS", 1e9)  # the time is another matter
    steps, rows, inputs, hidden = sizes
    layer = KINDS[kind][0](inputs, hidden, rng=0)
    x = np.random.default_rng(0).normal(size=(steps, rows, inputs))
    trace = mr.bptt.trace(layer, x, lambda outputs: (outputs[-1] ** 2).sum())  # one row of credit: quick, as large
    page = page_of(trace, tmp_path)
    assert len(page.encode()) < BIG
    data = data_of(page)
    assert data["about"]["rows"] == list(range(8))
    h = unpacked(data["units"]["h"])
    assert np.abs(h - trace.hs).max() <= 1 / 254
    assert data["units"]["rounded"] == (steps == 200)
    assert len(data["singular"]["steps"]) * data["singular"]["every"] >= steps


def test_beyond_that_rows_and_units_stay_behind(monkeypatch, tmp_path):
    monkeypatch.setattr(numbers, "MULTIPLICATIONS", 1e9)
    x = np.random.default_rng(0).normal(size=(numbers.STEPS, 12, 3))
    trace = mr.bptt.trace(mr.RecurrentLayer(3, numbers.UNITS + 1, rng=0), x, lambda outputs: outputs[-1].sum())
    page = page_of(trace, tmp_path)
    assert len(page.encode()) < BIG
    data = data_of(page)
    assert data["units"]["h"]["shape"] == [numbers.STEPS, 4, numbers.UNITS]
    assert data["about"]["rows"] == [0, 1, 2, 3]
    h = trace.hs[:, :4, : numbers.UNITS]
    assert np.abs(unpacked(data["units"]["h"]) - h).max() <= np.abs(h).max() / 254


# --- worst inputs -----------------------------------------------------------------------------------------------------


def test_a_matrix_that_would_not_fit_is_left_out(monkeypatch, tmp_path):
    trace = make("elman").trace()
    monkeypatch.setattr("minirnn.bptt.unrolled.LARGEST", 100)
    data = data_of(page_of(trace, tmp_path))
    assert "bytes" in data["credit"]["missing"]
    assert "bytes" in data["singular"]["missing"]


def test_names_stay_text_whatever_is_in_them(tmp_path):
    title = '</title><script>alert("1")</script> {{data}} &amp;'
    own = type("<script>alert(2)</script>", (type(KINDS["own"][1]["cell"]),), {})
    trace = mr.bptt.trace(mr.RecurrentLayer(3, 5, cell=own(), rng=0), np.ones((4, 2, 3)), lambda o: (o**2).sum())
    page = page_of(trace, tmp_path, title)
    assert "<script>alert" not in page
    assert f"<title>{html.escape(title)} · " in page
    data = data_of(page)
    assert data["about"]["title"] == title
    assert "cell=<script>alert(2)</script>" in data["about"]["layer"]
    assert page.count("<script") == 2
    assert page.count("</script>") == 2


def test_the_page_needs_nothing_else(tmp_path):
    page = page_of(make("lstm").trace(), tmp_path)
    csp = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data:"
    assert f'content="{csp}"' in page
    without_names = page.replace("http://www.w3.org/2000/svg", "")
    assert not re.search(
        r"https?:|src=|@import|url\(|fetch\(|XMLHttp|innerHTML|outerHTML|insertAdjacent", without_names
    )
    assert "{{" not in page.split('id="data"')[0]


def test_half_a_character_in_a_title_is_replaced(tmp_path):
    page = page_of(make("elman").trace(), tmp_path, "a \ud800 title \N{GRINNING FACE}")
    assert "<title>a � title \N{GRINNING FACE} · " in page
    assert '"title":"a \\ufffd title \\ud83d\\ude00"' in page


# --- a training -------------------------------------------------------------------------------------------------------


def training(updates):
    history = mr.training.History()
    for k in range(updates):
        history.append(loss=1 / (k + 1), grad_norm=k + 2.0, seconds=k)
    return history


def test_a_training_has_its_curves_and_the_trace_of_each_moment(tmp_path):
    traces = {np.int64(7): make("elman").trace(), 0: make("gru").trace(), 9: make("lstm").trace()}
    path = tmp_path / "training.html"
    assert mr.bptt.training_to_html(traces, path, history=training(9), title="adding") is None
    data = data_of(path.read_text(encoding="utf-8"))
    run, moments = data["run"], data["moments"]
    assert [moment["about"]["title"] for moment in moments] == [f"adding, after {k} updates" for k in (0, 7, 9)]
    assert np.array_equal(unpacked(run["loss"]), 1 / np.arange(1, 10))
    assert np.array_equal(unpacked(run["grad_norm"]), np.arange(2, 11))
    assert (run["every"], run["places"]) == (1, [0, 6, 8])
    alone = data_of(page_of(traces[7], tmp_path, "adding, after 7 updates"))
    assert moments[1] == alone
    pictures = [unpacked(m["levels"]).reshape(-1, m["side"]).astype(float) for m in run["moments"]]
    norms = [traces[k].credit().norms for k in (0, 7, 9)]
    top = max(a.max() for a in norms)
    for picture, a in zip(pictures, norms, strict=True):
        with np.errstate(divide="ignore"):
            wanted = np.where(a > 0, 1 + np.rint(253 * (1 + np.log10(a / top) / 6).clip(0, 1)), 0)
        assert np.array_equal(picture, wanted)


def test_many_updates_and_moments_are_fewer_in_the_page(tmp_path):
    trace, path = make("elman", sizes=(40, 2, 3, 4)).trace(), tmp_path / "training.html"
    mr.bptt.training_to_html(dict.fromkeys(range(0, 1001, 100), trace), path, history=training(1001))
    run = data_of(path.read_text(encoding="utf-8"))["run"]
    assert [moment["update"] for moment in run["moments"]] == [0, 100, 300, 400, 600, 700, 900, 1000]
    assert run["every"] == 3
    loss = unpacked(run["loss"])
    assert np.allclose(loss[[0, -1]], [(1 + 1 / 2 + 1 / 3) / 3, (1 / 1000 + 1 / 1001) / 2], rtol=1e-12)
    assert run["places"][-1] == 333
    picture = unpacked(run["moments"][0]["levels"]).reshape(32, 32)
    assert picture.max() == 254
    assert run["text"].startswith("Each point is the mean of 3 updates. 8 of 11 checkpoints are shown. ")


def test_what_is_no_training(tmp_path):
    trace, path = make("elman").trace(), tmp_path / "training.html"
    name = "training_to_html: "
    expected = name + "expected traces by updates from 0 to 3, those of the history, got "
    for traces, got in (({}, "no traces"), ({4: trace}, "4"), ({"1": trace}, "'1'"), ({-1: trace}, "-1")):
        with raises(ValueError, expected + got):
            mr.bptt.training_to_html(traces, path, history=training(3))
    with raises(TypeError, name + "traces must be a dict of traces by their update, got [1] (list)"):
        mr.bptt.training_to_html([1], path, history=training(3))
    with raises(TypeError, name + "history must be what fit returned, got [0.1] (list)"):
        mr.bptt.training_to_html({0: trace}, path, history=[0.1])
    assert os.listdir(tmp_path) == []


# --- notebooks --------------------------------------------------------------------------------------------------------


# --- writing ----------------------------------------------------------------------------------------------------------


def test_too_many_steps_are_refused(tmp_path):
    trace = mr.bptt.trace(mr.RecurrentLayer(1, 2, rng=0), np.ones((501, 1, 1)), lambda outputs: outputs.sum())
    message = "trace.to_html: the page shows at most 500 steps, got T=501: trace a shorter piece of the sequence"
    with raises(ValueError, message):
        trace.to_html(tmp_path / "long.html")
    assert os.listdir(tmp_path) == []
    assert trace._repr_html_().startswith("<p>&lt;Trace of RecurrentLayer: T=501")


def test_a_path_that_cannot_be_written_is_an_error_that_leaves_nothing(tmp_path):
    path = tmp_path / "no" / "page.html"
    with pytest.raises(FileNotFoundError, match=f"^trace.to_html: cannot write {re.escape(repr(str(path)))}: No such"):
        make("elman").trace().to_html(path)
    assert os.listdir(tmp_path) == []


def test_a_file_that_was_there_is_replaced(tmp_path):
    trace = make("elman").trace()
    (tmp_path / "page.html").write_text("what was there")
    first = page_of(trace, tmp_path)
    assert first == page_of(trace, tmp_path)  # and the page is the same each time
    assert os.listdir(tmp_path) == ["page.html"]
    trace.to_html(str(tmp_path / "page.html"))
