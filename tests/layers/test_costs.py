"""``summary(T=, N=)``: multiplications against the products of a pass, bytes against the memory that it takes."""

import gc
import io
import tracemalloc

import numpy as np
import pytest
from error_texts import raises
from recurrent_cases import UGRNN

import minirnn as mr
from minirnn.autograd.modes import observing
from minirnn.layers import costs

T, N, D, H = 7, 3, 4, 5


def told(module, T=T, N=N):
    """Return what stands in the two columns, by name, the total among them."""
    file = io.StringIO()
    module.summary(file, T=T, N=N)
    lines = file.getvalue().splitlines()
    head = lines[0]
    starts = [head.rindex("multiplications") + len("multiplications"), len(head)]
    assert head.endswith("bytes kept")
    found = {}
    for line in lines[2:]:
        if line.startswith("total"):
            found["total"] = line[: starts[1]].split()[-2:]
            break
        if not line.startswith("-"):
            found[line.split()[0]] = line.split()[-2:]
    return {name: tuple(None if s == "?" else int(s.replace(",", "")) for s in own) for name, own in found.items()}


def products(run):
    """Count the multiplications of all products that are recorded."""
    counted = []

    def saw(op, given, settings, y):
        if op.name == "matmul":
            a, b = (getattr(x, "data", x) for x in given)
            counted.append(a.size * b.shape[-1])

    with observing(saw):
        run()
    return sum(counted)


def both_ways(backend, cell=mr.RecurrentLayer):
    return mr.Bidirectional(cell(D, H, backend=backend), cell(D, H, backend=backend, reverse=True))


OF_PRODUCTS = {
    "elman": lambda: mr.RecurrentLayer(D, H, backend="graph"),
    "lstm": lambda: mr.LSTMLayer(D, H, backend="graph", bias=False),
    "narrow": lambda: mr.LSTMLayer(D, H, proj_size=2, peepholes=True),
    "gru": lambda: mr.GRULayer(D, H, backend="graph"),
    "reset before": lambda: mr.GRULayer(D, H, backend="graph", reset_after=False),
    "own cell": lambda: mr.RecurrentLayer(D, H, cell=UGRNN(), backend="graph"),
    "both ways": lambda: both_ways("graph"),
    "stacked": lambda: mr.Stacked([both_ways("graph"), mr.GRULayer(2 * H, 3, backend="graph")], dropout=0.3, rng=0),
    "every step": lambda: mr.SequenceModel(mr.RecurrentLayer(D, H, backend="graph"), mr.Linear(H, 2)),
    "last": lambda: mr.SequenceModel(both_ways("graph"), mr.Linear(2 * H, 2, bias=False), readout="last"),
    "deep head": lambda: mr.SequenceModel(
        mr.LSTMLayer(D, H, backend="graph"), mr.Sequential(mr.Linear(H, 6), mr.LayerNorm(6), mr.Linear(6, 2))
    ),
}


@pytest.mark.parametrize("make", OF_PRODUCTS.values(), ids=OF_PRODUCTS)
def test_multiplications_are_those_of_the_products(make):
    module = make()
    columns = told(module)
    wanted = products(lambda: module(np.ones((T, N, D), np.float32)))
    assert columns["total"][0] == wanted > 0
    assert sum(m for name, (m, _) in columns.items() if name != "total") == wanted


TOLERANCE = 0.02, 16_000
"""Of what stands after a pass: a part of it, and bytes for nodes, Tensors and other objects of Python."""

OF_MEMORY = {
    "elman": lambda: mr.RecurrentLayer(8, 16, dtype="float64"),
    "elman, checkpoints": lambda: mr.RecurrentLayer(8, 16, remat=True),
    "lstm": lambda: mr.LSTMLayer(8, 16),
    "lstm, checkpoints": lambda: mr.LSTMLayer(8, 16, remat=40),
    "gru": lambda: mr.GRULayer(8, 16, reverse=True),
    "reset before": lambda: mr.GRULayer(8, 16, reset_after=False),
    "dropout": lambda: mr.GRULayer(8, 16, recurrent_dropout=0.3, rng=0),
    "stacked": lambda: mr.Stacked([mr.LSTMLayer(8, 16), mr.GRULayer(16, 24)], dropout=0.3, rng=0),
    "both ways": lambda: mr.Bidirectional(mr.GRULayer(8, 16), mr.GRULayer(8, 16, reverse=True)),
    "last, checkpoints": lambda: mr.SequenceModel(mr.LSTMLayer(8, 16, remat=True), mr.Linear(16, 3), readout="last"),
    "text": lambda: mr.SequenceModel(mr.RecurrentLayer(8, 16), mr.Linear(16, 40), embedding=mr.Embedding(9, 8)),
    "padding": lambda: mr.SequenceModel(
        mr.RecurrentLayer(8, 16),
        mr.Sequential(mr.Dropout(0.2, rng=0), mr.LayerNorm(16), mr.Dropout(0.2, rng=1), mr.Linear(16, 3)),
        embedding=mr.Embedding(9, 8, padding_idx=0),
    ),
}


@pytest.mark.parametrize("make", OF_MEMORY.values(), ids=OF_MEMORY)
def test_bytes_are_what_stands_between_forward_and_backward(make):
    module = make()
    T, N = 200, 16
    ids = getattr(module, "embedding", None) is not None
    dtype = getattr(module, "recurrent", module).dtype
    x = np.ones((T, N), int) if ids else mr.Tensor(np.ones((T, N, 8), dtype), requires_grad=True)
    module(x)  # scratch that stays is made here
    gc.collect()
    tracemalloc.start()
    try:
        made = module(x)
        gc.collect()
        taken, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert made is not None
    kept = told(module, T, N)["total"][1]
    part, fixed = TOLERANCE
    assert abs(taken - kept) < part * taken + fixed


@pytest.mark.parametrize(
    "module",
    [mr.LSTMLayer(D, H, backend="graph"), mr.RecurrentLayer(D, H, cell=UGRNN()), mr.LSTMLayer(D, H, peepholes=True)],
    ids=["graph", "own cell", "peepholes"],
)
def test_bytes_that_are_not_known_beforehand(module):
    columns = told(module)
    assert columns["W_xh"][1] is columns["total"][1] is None
    assert columns["W_hh"][1] == 0


def test_a_layer_that_is_used_twice_works_twice_and_stands_once():
    layer = mr.Linear(4, 4, bias=False)
    columns = told(mr.Sequential(layer, layer))
    assert columns == {"0.weight": (2 * T * N * 16, 2 * 4 * T * N * 4), "total": (2 * T * N * 16, 2 * 4 * T * N * 4)}


def test_evaluation_keeps_no_masks():
    stack = mr.Stacked([mr.GRULayer(8, 16), mr.GRULayer(16, 8)], dropout=0.3, rng=0)
    assert told(stack)["dropout"] == (0, 2 * 4 * T * N * 16)
    assert "dropout" not in told(stack.eval())


def test_the_table(capsys):
    mr.SequenceModel(mr.RecurrentLayer(10, 20), mr.Linear(20, 5)).summary(T=50, N=32)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].endswith("  count  multiplications  bytes kept")
    assert [line.split()[-2:] for line in lines[2:7]] == [
        ["320,000", "135,680"],  # 51 states before and after 50 steps, and h of before and after: 53·32·20·4
        ["640,000", "0"],
        ["0", "0"],
        ["160,000", "32,000"],
        ["0", "0"],
    ]
    assert lines[8].split() == ["total", "725", "1,120,000", "167,680"]
    assert lines[-4:-2] == [
        "Multiplications are those of the products of a forward pass, T = 50, N = 32; the way back has twice as",
        "many, or less: the product for the gradient of x is not made where nobody wants it.",
    ]


def test_T_and_N_come_together():
    layer = mr.RecurrentLayer(D, H)
    with raises(TypeError, "summary: T and N must come together, got T alone: how large is N?"):
        layer.summary(T=5)
    with raises(TypeError, "summary: T and N must come together, got N alone: how large is T?"):
        layer.summary(N=5)
    with pytest.raises(ValueError, match=r"^summary: T must be"):
        layer.summary(T=0, N=5)


def test_of_a_place():
    place = costs.Place(2, 3, "a").within("b", 4)
    assert (place.name, place.width, place.numbers(5)) == ("a.b", 4, 30)
    assert costs.Place(2, 3, "").within("b").name == "b"
