import numpy as np
import pytest
from drawing.reading import boxes, heads, overlapping, placed_texts, texts, viewbox
from error_texts import raises

import minirnn as mr
from minirnn.autograd.tape import FreedGraphError
from minirnn.layers.module import Parameter


def outputs(T=3, backend="graph", layer=mr.RecurrentLayer):
    return layer(4, 5, backend=backend, rng=0)(np.ones((T, 2, 4)))[0]


def test_an_equation_is_drawn_as_it_is_written():
    W, b = Parameter(np.ones((2, 3)), name="W"), Parameter(np.ones(3), name="b")
    svg = mr.tanh(np.ones((4, 2)) @ W + b).to_svg()
    title = "The graph of a Tensor of shape (4, 3)"
    expected = [
        title,
        "tanh",
        "(4, 3) float64",
        "add",
        "matmul",
        "constant",
        "W",
        "(2, 3) float64",
        "b",
        "(3,) float64",
    ]
    assert sorted(texts(svg)) == sorted(expected)
    at = {text: x for text, x, *_ in placed_texts(svg)}
    assert at["W"] < at["matmul"] < at["add"] < at["tanh"]
    assert svg.count('<path class="line"') == 5
    assert [len(boxes(svg, style)) for style in ("input", "plain", "output", "constant")] == [2, 2, 1, 1]


def test_what_is_used_twice_is_drawn_once_with_two_lines():
    x = mr.Tensor([1.0, 2.0], requires_grad=True)
    svg = (x * x).to_svg()
    assert texts(svg).count("leaf") == 1
    assert svg.count('<path class="line"') == 2


def test_a_fused_layer_is_one_box_with_its_inputs():
    T = 100
    y = outputs(T, "fused")
    svg = y.sum().to_svg()
    assert texts(svg).count("RecurrentLayer") == 1
    assert {f"({T}, 2, 4) float32", "(2, 5) float32", "(4, 5) float32", "(5,) float32"} <= set(texts(svg))
    assert len(boxes(svg, "plain")) == 1
    assert f"({T}, 2, 5) float32" in texts(y.to_svg())


def test_both_outputs_of_a_fused_layer_come_from_one_box():
    layer = mr.LSTMLayer(4, 5, rng=0)
    y, (h, c) = layer(np.ones((3, 2, 4)))
    found = texts((y.sum() + h.sum() + c.sum()).to_svg())
    assert found.count("LSTMLayer") == 1
    assert found.count("sum") == 3


@pytest.mark.parametrize("make", [lambda: outputs(1), lambda: outputs(4), lambda: outputs(1, layer=mr.LSTMLayer)])
def test_no_text_covers_another_or_is_cut_off(make):
    svg = (make() ** 2).mean().to_svg()
    placed = placed_texts(svg)
    assert overlapping(placed) == []
    styles = ("input", "plain", "output", "constant")
    assert overlapping([(style, *box) for style in styles for box in boxes(svg, style)]) == []
    around = [box for style in styles for box in boxes(svg, style)]
    for text, x, y, x_end, y_end in placed:
        inside = [box for box in around if box[0] <= x and box[1] <= y and x_end <= box[2] and y_end <= box[3]]
        assert len(inside) == 1 or text.startswith("The graph of")
    edges = [(x, y, y_end) for style in styles for x, y, _, y_end in boxes(svg, style)]
    for _, (x, y), way in heads(svg):
        assert way == "right"
        assert any(abs(x - edge) < 0.2 and top < y < bottom for edge, top, bottom in edges)
    left, top, right, bottom = viewbox(svg)
    assert all(left <= x and top <= y and x_end <= right and y_end <= bottom for _, x, y, x_end, y_end in placed)


def test_a_leaf_is_one_box():
    p = Parameter(np.ones((2, 3)), name="W_hh")
    assert texts(p.to_svg()) == ["W_hh", "(2, 3) float64", "The graph of parameter W_hh (2, 3)"]
    assert texts(mr.Tensor([1.0]).to_svg())[:2] == ["constant", "(1,) float32"]
    with mr.no_grad():
        assert texts(outputs().to_svg())[:2] == ["constant", "(3, 2, 5) float32"]


def test_a_name_stays_text():
    svg = (Parameter([1.0], name="<script>alert(1)</script>&") * 2).to_svg()
    assert "<script" not in svg
    assert "<script>alert(1)</script>&" in texts(svg)


def test_a_large_graph_is_refused_with_its_size():
    y = outputs(50)
    message = (
        "Tensor.to_svg: max_nodes must be at least the 305 boxes of this graph, got 60: try a sequence of two or three "
        "steps, backend='fused', which makes a layer one box, or max_nodes=305"
    )
    with raises(ValueError, message):
        y.to_svg()
    assert len(texts(y.to_svg(max_nodes=305))) > 305


def test_a_deep_graph_needs_no_recursion():
    t = mr.Tensor(1.0, requires_grad=True)
    for _ in range(5000):
        t = t.tanh()
    with pytest.raises(ValueError, match="the 5001 boxes of this graph"):
        t.to_svg()


def test_max_nodes_is_checked():
    with raises(ValueError, "Tensor.to_svg: max_nodes must be an int ≥ 1, got 0: try 1 or more"):
        mr.Tensor([1.0]).to_svg(max_nodes=0)


@pytest.mark.parametrize("backend", ["graph", "fused"])
def test_after_backward_there_is_nothing_to_draw(backend):
    y = outputs(3, backend)
    loss = y.sum()
    before = loss.to_svg()
    loss.backward(retain_graph=True)
    assert loss.to_svg() == before
    loss.backward()
    message = (
        "Tensor.to_svg: there is nothing left to draw, because backward() has used the graph up: draw it before, or "
        "call backward(retain_graph=True)"
    )
    for t in (loss, y):
        with raises(FreedGraphError, message):
            t.to_svg()


def test_what_has_been_used_up_below_is_marked():
    w = mr.Tensor([1.0], requires_grad=True)
    shared = mr.tanh(w)
    shared.sum().backward()
    found = texts((shared * 2).to_svg())
    assert "tanh" in found
    assert "used up by backward()" in found
    assert "leaf" not in found


def test_drawing_changes_nothing():
    y = outputs(3, "fused").sum()
    y.to_svg()
    y.backward()
    assert not hasattr(y, "_repr_svg_")
