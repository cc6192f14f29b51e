import re
from typing import ClassVar

import numpy as np
import pytest
from drawing.reading import boxes, crossed, dots, heads, overlapping, panels, parsed, placed_texts, texts, viewbox
from error_texts import raises

import minirnn as mr


class Leaky(mr.Cell):
    states = 3

    def equation(self, z, *state):
        return (z, *state[1:])


def bidirectional(D=10, H=20):
    return mr.Bidirectional(mr.LSTMLayer(D, H), mr.GRULayer(D, H, reverse=True))


MODULES = {
    "elman": lambda: mr.RecurrentLayer(10, 20),
    "no bias": lambda: mr.RecurrentLayer(1, 1, bias=False, activation="relu"),
    "reverse": lambda: mr.RecurrentLayer(3, 4, reverse=True, backend="graph"),
    "wide": lambda: mr.RecurrentLayer(100_000, 1),
    "lstm": lambda: mr.LSTMLayer(10, 20),
    "lstm reverse": lambda: mr.LSTMLayer(10, 20, reverse=True),
    "gru": lambda: mr.GRULayer(3, 1000),
    "gru before": lambda: mr.GRULayer(3, 5, reset_after=False, learn_initial_state=True),
    "own cell": lambda: mr.RecurrentLayer(3, 5, cell=Leaky(), backend="graph"),
    "bidirectional": bidirectional,
    "stacked": lambda: mr.Stacked([mr.RecurrentLayer(3, 4), mr.LSTMLayer(4, 5)]),
    "deep": lambda: mr.Stacked([bidirectional(), bidirectional(40)]),
    "two towers": lambda: mr.Bidirectional(
        mr.Stacked([mr.GRULayer(2, 3), mr.GRULayer(3, 3)]), mr.Stacked([mr.LSTMLayer(2, 3, reverse=True)])
    ),
    "model": lambda: mr.SequenceModel(mr.GRULayer(10, 20), mr.Linear(20, 5)),
    "last": lambda: mr.SequenceModel(mr.LSTMLayer(4, 5), mr.Linear(5, 2), readout="last", embedding=mr.Embedding(7, 4)),
    "last of both": lambda: mr.SequenceModel(bidirectional(), mr.Linear(40, 5), readout="last"),
}


@pytest.fixture(params=MODULES, scope="module")
def module(request):
    return MODULES[request.param]()


@pytest.mark.parametrize("T", [1, 2, 6, 10**9])
def test_no_text_covers_another_or_is_cut_off(module, T):
    svg = module.to_svg(T)
    placed, cells = placed_texts(svg), boxes(svg, "cell")
    assert len(placed) > 8
    assert overlapping(placed) == []
    assert crossed(svg) == []
    left, top, right, bottom = viewbox(svg)
    for text, x, y, x_end, y_end in [*placed, *(("box", *box) for box in cells)]:
        assert left <= x < x_end <= right, text
        assert top <= y < y_end <= bottom, text
    for text, left, top, right, bottom in placed:  # none stands across the edge of a cell
        for x, y, x_end, y_end in cells:
            outside = right <= x or left >= x_end or bottom <= y or top >= y_end
            inside = x <= left and right <= x_end and y <= top and bottom <= y_end
            assert outside or inside, text


def near(point, points):
    return any(abs(point[0] - x) < 0.2 and abs(point[1] - y) < 0.2 for x, y in points)


@pytest.mark.parametrize("T", [1, 3, 6])
def test_lines_go_from_the_middle_of_an_edge_to_the_middle_of_an_edge(module, T):
    svg = panels(module.to_svg(T))
    placed = [box for style in ("cell", "plain", "input", "output") for box in boxes(svg, style)]
    tops = [((left + right) / 2, top) for left, top, right, _ in placed]
    bottoms = [((left + right) / 2, bottom) for left, _, right, bottom in placed]
    # A state of several arrays has two lines, 14 above and below the middle; a loop comes back 22 or 10 below it.
    sides = [
        (x, (top + bottom) / 2 + below)
        for left, top, right, bottom in placed
        for x in (left, right)
        for below in (0, 14, -14, 22, 10)
    ]
    free = []
    for begin, tip, way in heads(svg):
        if way == "up":
            assert near(begin, tops + dots(svg))
            wide = [box for box in placed if box[2] - box[0] > 96 and box[0] < tip[0] < box[2]]  # a head over all steps
            assert near(tip, bottoms) or near(tip, [(tip[0], bottom) for *_, bottom in wide])
        else:
            assert way in ("left", "right")
            free += [tip] * (not near(tip, sides))
    rows = [text for text, *_ in placed_texts(svg)].count("final")
    assert 0 < len(free) <= 2 * rows * (2 if T > 5 else 1)  # the final state, and where steps are left out


def test_the_largest_layer_still_fits():
    """H = 100000 has 40 GB of weights, so what is drawn is told of it instead."""
    from minirnn.drawing.blocks import Cell, Picture, Weight
    from minirnn.drawing.unrolled import draw

    H = 100_000
    biases = [Weight("b_h", (4 * H,)), Weight("b_hn", (H,))]
    cell = Cell("LSTMLayer", "ifgo", "hc", Weight("W_xh", (H, 4 * H)), Weight("W_hh", (H, 4 * H)), biases, False, H)
    svg = draw(Picture("largest", cell, H), 5)
    assert "Whh (100000, 400000)" in texts(svg)
    assert overlapping(placed_texts(svg)) == []


@pytest.mark.parametrize(
    ("T", "inputs"),
    [(5, ["x0", "x1", "x2", "x3", "x4"]), (6, ["x0", "x1", "x2", "xT−1"]), (np.int64(2), ["x0", "x1"])],
)
def test_steps_in_the_middle_are_left_out(T, inputs):
    found = texts(mr.RecurrentLayer(3, 4).to_svg(T))
    assert [text for text in found if re.fullmatch(r"x[\dT].*", text)] == inputs
    assert found.count("⋯") == (3 if T > 5 else 0)
    assert len(boxes(mr.RecurrentLayer(3, 4).to_svg(T), "cell")) == len(inputs) + 1


def test_weights_and_sizes_are_named():
    found = texts(mr.RecurrentLayer(10, 20).to_svg(3))
    for text in ("Wxh (10, 20)", "Whh (20, 20)", "+ bh (20,)", "D = 10", "H = 20", "ht = tanh(xt Wxh + ht−1 Whh + bh)"):
        assert text in found
    assert found.count("Wxh") == 3, "the same at each step"
    assert [text for text in found if re.fullmatch(r"(h\d )?Whh", text)] == ["Whh", "h0 Whh", "h1 Whh"]


def test_without_bias_none_is_drawn():
    assert not any(
        "b" in text and "h" in text for text in texts(mr.LSTMLayer(2, 3, bias=False).to_svg()) if "+" in text[:2]
    )
    assert "zn = xt Wxn + r ⊙ (ht−1 Whn)" in texts(mr.GRULayer(2, 3, bias=False).to_svg())


def test_the_two_lines_of_an_lstm_and_its_gates():
    found = texts(panels(mr.LSTMLayer(10, 20).to_svg(2)))
    assert [text for text in found if text in "ifgo"] == list("ifgo") * 3
    assert {"ht−1", "ct−1", "h0 Whh", "c0", "h1", "c1"} <= set(found)


@pytest.mark.parametrize(("reverse", "way"), [(False, 1), (True, -1)])
def test_the_state_goes_the_way_of_time(reverse, way):
    svg = mr.RecurrentLayer(3, 4, reverse=reverse).to_svg(4)
    at = {text: x for text, x, *_ in placed_texts(svg)}
    assert (at["final"] - at["initial"]) * way > 0
    assert ("ht+1" in at) == reverse
    sideways = [tip for begin, tip, to in heads(svg) if to in ("left", "right") and begin[1] == tip[1]]
    assert [to for begin, tip, to in heads(svg) if tip in sideways] == ["right" if way > 0 else "left"] * 5


class Leaks(mr.Cell):
    gates: ClassVar = {"u": "sigmoid", "n": "tanh"}

    def equation(self, z, h):
        u, n = self.activated(z)
        return (u * h + 0.5 * (n - h) ** 2,)


@pytest.mark.parametrize(
    ("layer", "expected"),
    [
        (lambda: mr.RecurrentLayer(2, 3), ""),  # φ in its box is all there is
        (lambda: mr.RecurrentLayer(2, 3, cell=Leaky(), backend="graph"), ""),
        (
            lambda: mr.LSTMLayer(2, 3),
            "xt|ht−1|ct−1|ht|ct|i|f|g|o|σ|σ|σ|tanh|tanh|⊙|⊙|⊙|+|xt Wxh + ht−1 Whh + bh",
        ),
        (
            lambda: mr.GRULayer(2, 3, reset_after=False, bias=False, reverse=True),
            "xt|ht+1|ht|r|z|n|σ|σ|tanh|+|+|⊙|⊙|⊙|xt [Wxr Wxz] + ht+1 [Whr Whz]|xt Wxn|(r ⊙ ht+1) Whn|1 −",
        ),
        (
            lambda: mr.LSTMLayer(2, 3, peepholes=True, proj_size=1),
            "xt|ht−1|ct−1|ht|ct|i|f|g|o|σ|σ|σ|tanh|tanh|⊙|⊙|⊙|+|+|+|+|Whr|xt Wxh + ht−1 Whh + bh|wci ⊙|wcf ⊙|wco ⊙",
        ),
        (
            lambda: mr.RecurrentLayer(2, 3, cell=Leaks()),
            "xt|ht−1|ht|u|n|σ|tanh|⊙|+|−|^2|xt Wxh + ht−1 Whh + bh|0.5 ⊙",
        ),
    ],
)
def test_the_inside_of_a_step_has_each_op_of_the_equation_once(layer, expected):
    svg = layer().to_svg(2)
    inside = texts(svg)[len(texts(panels(svg))) :]
    assert sorted(inside) == sorted(expected.split("|") if expected else [])
    styles = ("input", "output", "plain", "gate", "op")
    places = {style: boxes(svg, style)[len(boxes(panels(svg), style)) :] for style in styles}
    assert overlapping([(style, *box) for style, found in places.items() for box in found]) == []
    ends = heads(svg)[len(heads(panels(svg))) :]
    every = [box for found in places.values() for box in found]
    for begin, tip, _ in ends:  # from a right edge to a left edge
        assert any(abs(begin[0] - right) < 0.2 and top < begin[1] < bottom for _, top, right, bottom in every)
        assert any(abs(tip[0] - left) < 0.2 and top < tip[1] < bottom for left, top, _, bottom in every)
    middles = [(box[0] + box[2]) / 2 for box in places["input"]]
    assert not middles or max(middles) - min(middles) < 0.2  # what enters a step stands on the left


def test_two_directions_read_the_same_and_are_joined():
    found = texts(bidirectional().to_svg(3))
    assert found.count("concatenate") == 4
    assert {"y0", "y1", "y2", "H = 40", "LSTMLayer", "GRULayer"} <= set(found)


@pytest.mark.parametrize(("reverse", "outputs"), [(False, ["h0", "h1", "o2"]), (True, ["h1", "h2", "o0"])])
def test_a_head_that_reads_the_last_step_stands_there_alone(reverse, outputs):
    model = mr.SequenceModel(mr.GRULayer(4, 5, reverse=reverse), mr.Linear(5, 2), readout="last")
    svg = model.to_svg(3)
    assert texts(svg).count("Linear") == 2
    pills = boxes(svg, "plain") + boxes(svg, "output")
    named = [
        t for t, x, y, r, b in placed_texts(svg) if any(p[0] <= x and r <= p[2] and p[1] <= y <= p[3] for p in pills)
    ]
    assert sorted(set(named) - {"Linear", "olast"}) == outputs


def test_a_head_of_two_directions_reads_the_last_of_each():
    model = mr.SequenceModel(bidirectional(), mr.Linear(40, 5), readout="last")
    assert {"the backward half", "the forward half", "olast"} <= set(texts(model.to_svg(3)))
    assert "both halves" in texts(model.to_svg(1))


def test_a_notebook_shows_the_drawing_and_repr_stays_text():
    module = MODULES["model"]()
    assert module._repr_svg_() == module.to_svg(T=5)
    assert "<svg" not in repr(module)


def test_names_stay_text():
    class Layer(mr.RecurrentLayer):
        pass

    Layer.__name__ = "<script>alert(1)</script>"
    svg = Layer(3, 4).to_svg()
    assert "<script" not in svg
    assert any(text.startswith("<script>alert(1)</script>(3, 4") for text in texts(svg))


def test_it_is_described_to_those_who_cannot_see_it():
    root = parsed(mr.LSTMLayer(10, 20, reverse=True).to_svg(7))
    title, description = (root.find("{http://www.w3.org/2000/svg}" + tag).text for tag in ("title", "desc"))
    assert title.startswith("LSTMLayer(10, 20")
    assert "T = 7 steps" in description
    assert "going back in time, its state h, c fed back through W_hh (20, 80)" in description


@pytest.mark.parametrize(
    ("T", "kind", "message"),
    [
        (-3, ValueError, "RecurrentLayer.to_svg: T must be an int ≥ 1, got -3: try 1 or more"),
        (2.0, TypeError, "RecurrentLayer.to_svg: T must be an int ≥ 1, got 2.0 (float): try 2"),
    ],
)
def test_T_must_be_a_number_of_steps(T, kind, message):
    with raises(kind, message):
        mr.RecurrentLayer(3, 4).to_svg(T)
    with raises(kind, message.replace("RecurrentLayer", "SequenceModel")):
        mr.SequenceModel(mr.RecurrentLayer(3, 4), mr.Linear(4, 1)).to_svg(T)


def test_a_recurrent_module_of_ones_own_says_what_is_missing():
    class Mine(mr.layers.Recurrence):
        input_size = output_size = 3

    with raises(NotImplementedError, "Mine.to_svg: define _block(), from minirnn.drawing.blocks"):
        Mine().to_svg()
