"""SequenceModel around every kind of recurrent module: sizes, readouts, lengths and resets, state, training."""

import numpy as np
import pytest
from error_texts import raises
from recurrent_cases import BACKENDS, flat

import minirnn as mr
from minirnn import textbook
from minirnn.layers import GRULayer, LSTMLayer, RecurrentLayer
from minirnn.layers.composites import Bidirectional, Stacked
from minirnn.layers.plain import Dropout

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


@every_kind
@pytest.mark.parametrize("readout", ["all", "last"])
def test_every_gradient_with_lengths_by_central_differences(make, readout):
    """A loss that is masked does not see the padding; the readout of the last step has none.

    The gradients of a layer's own parameters are checked where the layer is; here what goes through it.
    """
    model = model_of(make, readout)
    x = mr.Tensor(inputs(), requires_grad=True)
    ids = np.random.default_rng(1).integers(0, P, (T, N) if readout == "all" else N)
    masked = {"lengths": LENGTHS} if readout == "all" else {}

    def loss(*_):
        return mr.losses.cross_entropy(model(x, None, LENGTHS).predictions, ids, **masked)

    assert mr.gradcheck(loss, [x, *model.head.parameters()])
    loss().backward()
    reached = x.grad.any(axis=2)
    np.testing.assert_array_equal(reached, np.arange(T)[:, None] < LENGTHS)


@every_kind
@layouts
def test_resets_are_passed_on(make, batch_first):
    model = model_of(make, batch_first=batch_first)
    reset = np.zeros((T, N), bool)
    reset[2] = True
    whole = turned(model(inputs(batch_first), reset=turned(reset, batch_first)).predictions.numpy(), batch_first)
    time = inputs()
    for part in (slice(None, 2), slice(2, None)):
        alone = turned(model(turned(time[part], batch_first)).predictions.numpy(), batch_first)
        np.testing.assert_allclose(whole[part], alone, rtol=0, atol=1e-13)


def test_names_and_counts_reach_through(capsys):
    model = mr.SequenceModel(both_ways(), mr.Sequential(Dropout(0.5, rng=0), mr.Linear(13, P)), embedding=None)
    names = [name for name, _ in model.named_parameters()]
    ways = [f"recurrent.{way}.{p}" for way in ("forward_layer", "backward_layer") for p in ("W_xh", "W_hh", "b_h")]
    assert names == [*ways, "head.1.weight", "head.1.bias"]
    assert list(model.state_dict()) == names
    total = 4 * 6 * (D + 6 + 1) + 7 * (D + 7 + 1) + 13 * P + P
    assert model.count_params() == total
    model.summary()
    lines = capsys.readouterr().out.splitlines()
    assert ["total", str(total)] in [line.split() for line in lines]
    assert f"recurrent.forward_layer, with m = {D}, n = 6; in other libraries:" in lines
    assert f"recurrent.backward_layer, with m = {D}, n = 7; in other libraries:" in lines


def test_a_stack_is_trained_with_its_state_carried():
    """As in truncated BPTT: `fit` detaches what a state holds, however it is nested, and passes it on."""
    rng = np.random.default_rng(0)
    recurrent = Stacked([LSTMLayer(1, 8, rng=rng), RecurrentLayer(8, 8, rng=rng)], dropout=0.1, rng=rng)
    model = mr.SequenceModel(recurrent, mr.Linear(8, 1, rng=rng))
    wave = np.sin(0.3 * np.arange(4000, dtype=np.float32))[:, None, None]
    batches = [(wave[t : t + 20], wave[t + 1 : t + 21], t == 0) for t in range(0, 3900, 20)]
    adam = mr.optim.Adam(model.parameters(), lr=0.02)
    history = mr.training.fit(
        model, batches, loss=mr.losses.mse, optimizer=adam, max_updates=195, carry_state=True, progress=False
    )
    assert history.updates == 195
    assert mr.training.evaluate(model, batches, loss=mr.losses.mse, carry_state=True) < 0.02
    assert model.training


@pytest.mark.parametrize("make", [tower, RECURRENT["LSTMLayer"], RECURRENT["GRULayer"]])
def test_text_is_sampled_step_by_step(make):
    task = mr.tasks.TextTask()
    recurrent = make()
    V = len(task.vocabulary)
    model = mr.SequenceModel(recurrent, mr.Linear(recurrent.output_size, V), embedding=mr.Embedding(V, D))
    assert len(mr.training.sample(model, task, 12, rng=0)) == 12


def test_text_cannot_be_sampled_both_ways():
    task = mr.tasks.TextTask()
    V = len(task.vocabulary)
    model = mr.SequenceModel(both_ways(), mr.Linear(13, V), embedding=mr.Embedding(V, D))
    with pytest.raises(TypeError, match="Bidirectional: there is no step, because backward_layer starts at the end"):
        mr.training.sample(model, task, 12, rng=0)


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


@pytest.mark.parametrize("make", [both_ways, tower])
def test_sequential_refuses_composites(make):
    kind = type(make()).__name__
    message = (
        f"Sequential: modules[0], a {kind}, returns a state beside its outputs, which a chain would lose: use "
        "SequenceModel(recurrent, head)"
    )
    with raises(TypeError, message):
        mr.Sequential(make(), mr.Linear(7, P))


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


def test_the_exams_network_trains_and_alike_in_both_backends():
    rng = np.random.default_rng(0)
    x = rng.standard_normal((6, 8, 10))
    targets = np.tanh(np.cumsum(x[..., :5], axis=0))  # to be remembered, step by step
    curves = {}
    for backend in BACKENDS:
        model = exam(backend=backend, dtype=np.float64)
        optimizer = mr.optim.Adam(model.parameters(), lr=0.01)
        curve = []
        for _ in range(60):
            optimizer.zero_grad()
            loss = mr.losses.mse(model(x).predictions, targets)
            loss.backward()
            optimizer.step()
            curve.append(loss.item())
        curves[backend] = curve
        assert curve[-1] < 0.1 * curve[0]
    np.testing.assert_allclose(curves["fused"], curves["graph"], rtol=1e-9)


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


def test_the_head_is_the_textbooks():
    model = exam(dtype=np.float64)
    x = np.random.default_rng(0).standard_normal((6, 2, 10))
    outputs, _ = model.recurrent(x)
    expected = textbook.head(outputs.numpy(), model.head.weight.data, np.zeros(5))
    np.testing.assert_allclose(model(x).predictions.numpy(), expected, rtol=0, atol=1e-14)


@pytest.mark.parametrize("batch_first", [False, True])
def test_an_embedding_is_a_product_with_one_hot_vectors(batch_first):
    rng = np.random.default_rng(0)
    layer = mr.RecurrentLayer(3, 5, batch_first=batch_first, dtype=np.float64, rng=rng)
    embedding = mr.Embedding(6, 3, dtype=np.float64, rng=rng)
    model = mr.SequenceModel(layer, mr.Linear(5, 6, dtype=np.float64, rng=rng), embedding=embedding)
    assert next(model.named_parameters())[0] == "embedding.weight"
    assert model.count_params() == 18 + 45 + 36
    ids = rng.integers(0, 6, (4, 2))
    found = []
    for one in (lambda: model(ids).predictions, lambda: model.head(layer(np.eye(6)[ids] @ embedding.weight).outputs)):
        model.zero_grad()
        (one() ** 2).sum().backward()
        found.append([p.grad for p in model.parameters()])
    for name, a, b in zip(model.state_dict(), *found, strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-13, err_msg=name)
