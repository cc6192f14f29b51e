"""SequenceModel around every kind of recurrent module: sizes, readouts, lengths and resets, state, training."""

import numpy as np
import pytest
from error_texts import raises
from recurrent_cases import flat

import minirnn as mr
from minirnn.layers import GRULayer, LSTMLayer, RecurrentLayer
from minirnn.layers.composites import Bidirectional, Stacked

T, N, D, P = 5, 3, 2, 4
LENGTHS = [3, 5, 1]


def both_ways(**options):
    return Bidirectional(LSTMLayer(D, 6, rng=1, **options), RecurrentLayer(D, 7, reverse=True, rng=2, **options))


def tower(**options):
    return Stacked([GRULayer(D, 6, rng=1, **options), LSTMLayer(6, 7, rng=2, **options)], dropout=0.3, rng=3)


RECURRENT = {
    "RecurrentLayer": lambda **o: RecurrentLayer(D, 6, rng=1, **o),
    "RecurrentLayer, reverse": lambda **o: RecurrentLayer(D, 6, rng=1, reverse=True, **o),
    "LSTMLayer": lambda **o: LSTMLayer(D, 6, rng=1, **o),
    "GRULayer": lambda **o: GRULayer(D, 6, rng=1, **o),
    "Bidirectional": both_ways,
    "Stacked": tower,
}
every_kind = pytest.mark.parametrize("make", RECURRENT.values(), ids=RECURRENT.keys())
layouts = pytest.mark.parametrize("batch_first", [False, True])


def model_of(make, readout="all", batch_first=False):
    recurrent = make(dtype=np.float64, batch_first=batch_first)
    return mr.SequenceModel(recurrent, mr.Linear(recurrent.output_size, P, dtype=np.float64, rng=4), readout).eval()


def turned(array, batch_first):
    return array.swapaxes(0, 1) if batch_first else array


def inputs(batch_first=False):
    return turned(np.random.default_rng(0).standard_normal((T, N, D)), batch_first)


@every_kind
@layouts
def test_the_head_reads_every_output(make, batch_first):
    model = model_of(make, batch_first=batch_first)
    predictions, final_state = model(inputs(batch_first))
    outputs, expected = model.recurrent(inputs(batch_first))
    assert turned(predictions.numpy(), batch_first).shape == (T, N, P)
    np.testing.assert_array_equal(predictions.numpy(), model.head(outputs).numpy())
    for a, b in zip(flat(final_state), flat(expected), strict=True):
        np.testing.assert_array_equal(a.numpy(), b.numpy())


@every_kind
@layouts
@pytest.mark.parametrize("lengths", [None, LENGTHS])
def test_or_in_each_row_and_direction_the_last_that_was_processed(make, lengths, batch_first):
    """t = length − 1 going forward, t = 0 going back: never a step of the padding."""
    model = model_of(make, "last", batch_first)
    predictions, final_state = model(inputs(batch_first), None, lengths)
    outputs = turned(model.recurrent(inputs(batch_first), None, lengths).outputs.numpy(), batch_first)
    ends = np.asarray(lengths or [T] * N) - 1
    last = outputs[ends, range(N)]
    if getattr(model.recurrent, "reverse", None):
        last = outputs[0]
    elif isinstance(model.recurrent, Bidirectional):
        last[:, 6:] = outputs[0, :, 6:]
    assert predictions.shape == (N, P)
    np.testing.assert_allclose(predictions.numpy(), model.head(last).numpy(), rtol=0, atol=1e-14)
    np.testing.assert_array_equal(predictions.numpy(), model.head(model.recurrent.last_output(final_state)).numpy())


PRECISE = "make both with dtype=numpy.float64"
REFUSED = [
    ((mr.Linear(3, 5), mr.Linear(5, 2)), TypeError, "recurrent must be a recurrent layer, got Linear"),
    ((RecurrentLayer(3, 5), np.tanh), TypeError, "head must be a Module such as Linear, got ufunc"),
    (
        (RecurrentLayer(3, 5), mr.Linear(4, 2)),
        ValueError,
        "head takes 4 features and recurrent gives H=5: try Linear(5, …)",
    ),
    ((both_ways(), mr.Linear(6, P)), ValueError, "head takes 6 features and recurrent gives H=13: try Linear(13, …)"),
    ((tower(), mr.Linear(6, P)), ValueError, "head takes 6 features and recurrent gives H=7: try Linear(7, …)"),
    ((tower(), mr.Linear(7, P), "first"), ValueError, "readout must be one of 'all', 'last', got 'first'"),
    ((tower(dtype=np.float64), mr.Linear(7, P)), ValueError, f"recurrent is float64 and head float32: {PRECISE}"),
    (
        (both_ways(), tower()),
        TypeError,
        "head must not carry a state, got Stacked: its state would be lost; call the two layers one after the other in "
        "a Module of your own",
    ),
]


@pytest.mark.parametrize(("arguments", "kind", "message"), REFUSED)
def test_what_a_model_refuses(arguments, kind, message):
    with raises(kind, f"SequenceModel: {message}"):
        mr.SequenceModel(*arguments)


@pytest.mark.parametrize(
    ("embedding", "kind", "message"),
    [
        (np.ones((6, 3)), TypeError, "must be a Module such as Embedding, or None, got ndarray"),
        (mr.Embedding(9, 5), ValueError, f"gives 5 features and recurrent takes D={D}: try Embedding(…, {D})"),
    ],
)
def test_what_is_no_embedding_for_it(embedding, kind, message):
    with raises(kind, f"SequenceModel: embedding {message}"):
        mr.SequenceModel(tower(), mr.Linear(7, P), embedding=embedding)


@pytest.mark.parametrize("batch_first", [False, True])
def test_any_ids_may_stand_in_the_padding(batch_first):
    layer = mr.GRULayer(3, 4, batch_first=batch_first, dtype=np.float64, rng=0)
    embedding = mr.Embedding(5, 3, dtype=np.float64, rng=1)
    model = mr.SequenceModel(layer, mr.Linear(4, 2, dtype=np.float64, rng=2), embedding=embedding)
    ids = np.array([[1, 4, 0], [2, 3, 1], [0, 0, 2], [4, 1, 3]])  # T = 4, N = 3
    lengths = [2, 4, 1]
    garbage = np.where(np.arange(4)[:, None] < lengths, ids, -7)
    found = []
    for given in (ids, garbage):
        model.zero_grad()
        predictions, final_state = model(given.T if batch_first else given, lengths=lengths)
        ((predictions**2).sum() + final_state.sum()).backward()
        found.append([predictions.numpy(), final_state.numpy(), *(p.grad for p in model.parameters())])
    for one, two in zip(*found, strict=True):
        np.testing.assert_array_equal(one, two)
    with pytest.raises(IndexError, match="must be integers 0 … 4, got -7"):
        model(garbage.T if batch_first else garbage)


# --- the exam of note 000 --------------------------------------------------------------------------------------------

EXAM = """\
name            shape (row convention)  shape (column convention)  formula        count
--------------  ----------------------  -------------------------  -------------  -----
recurrent.W_xh  (10, 20)                (20, 10)                   n·m = 20·10      200
recurrent.W_hh  (20, 20)                (20, 20)                   n·n = 20·20      400
head.weight     (20, 5)                 (5, 20)                    in·out = 20·5    100
--------------  ----------------------  -------------------------  -------------  -----
total                                                                               700
recurrent, with m = 10, n = 20; in other libraries:
  torch nn.RNN: 600, the same: bias=False.
  Keras SimpleRNN: 600, the same: use_bias=False.
  ONNX RNN: 600, the same: its input B is optional and left out.
The count does not depend on the length T of the sequence: every step uses the same arrays.
The count does not depend on the activation φ: sigmoid, tanh and ReLU have no parameters.
"""


def exam(**options):
    """The network of note 000's exam."""
    recurrent = mr.RecurrentLayer(10, 20, bias=False, rng=0, **options)
    return mr.SequenceModel(recurrent, mr.Linear(20, 5, bias=False, rng=1, dtype=recurrent.dtype))


def test_the_exam_of_note_000(capsys):
    model = exam(activation="relu")
    assert [p.shape for p in model.parameters()] == [(10, 20), (20, 20), (20, 5)]
    assert [p.shape[::-1] for p in model.parameters()] == [(20, 10), (20, 20), (5, 20)]  # the exam's three answers
    assert model.count_params() == sum(p.data.size for p in model.parameters()) == 700
    model.summary()
    assert capsys.readouterr().out == EXAM


def test_a_model_takes_and_returns_a_state():
    model = exam(dtype=np.float64)
    x = np.random.default_rng(0).standard_normal((6, 2, 10))
    whole, final_state = model(x)
    first, state = model(x[:4])
    second, state = model(x[4:], initial_state=state)
    np.testing.assert_allclose(np.concatenate([first.numpy(), second.numpy()]), whole.numpy(), rtol=0, atol=1e-14)
    np.testing.assert_allclose(state.numpy(), final_state.numpy(), rtol=0, atol=1e-14)
    assert isinstance(model(x), mr.SequenceOutput)
    assert isinstance(model.recurrent(x), mr.RecurrentOutput)
