"""Models out to ONNX and in from it, against onnxruntime, torch's exporter and the ONNX project's own tests."""

import importlib
import itertools
import re
import resource
import warnings

import numpy as np
import pytest
from error_texts import raises
from interop_cases import holds
from notes import noted
from recurrent_cases import ACTIVATIONS, EVERY

import minirnn as mr
from minirnn.interop import InteropError, from_onnx, to_onnx

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # what it warns of while it is imported is not ours to mend
    onnx = pytest.importorskip("onnx", reason="onnx is not installed: pip install -e '.[bench]'")

pytestmark = pytest.mark.peer
T, N, D, H, LENGTHS = 5, 3, 2, 4, [2, 5, 4]
KINDS = [*(name for name in ACTIVATIONS if name != "pair"), "lstm", "gru", "gru before"]


@pytest.fixture(scope="module")
def ort():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pytest.importorskip("onnxruntime", reason="onnxruntime is not installed: pip install -e '.[bench]'")


def shapes(make, **options):
    def both(d):
        return mr.Bidirectional(make(d, H, **options), make(d, H - 1, reverse=True, **options))

    yield "forward", make(D, H, **options)
    yield "reverse", make(D, H, reverse=True, **options)
    yield "both", both(D)
    yield "stack", mr.Stacked([make(D, H, **options), make(H, 3, bias=False, **options)])
    yield "stack of both", mr.Stacked([both(D), both(2 * H - 1)])


def drawn(model, rng):
    for p in model.parameters():
        p.data = rng.standard_normal(p.shape).astype(p.dtype) * 0.5
    return model


def run(ort, proto, inputs):
    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = ort.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return session.run(None, dict(zip([i.name for i in session.get_inputs()], inputs, strict=True)))


def worst(found, exact):
    """The largest difference in units of the largest number."""
    scale = max(np.abs(b.numpy()).max() for b in exact)
    return max(np.abs(a - b.numpy()).max() for a, b in zip(found, exact, strict=True)) / scale


def state_like(model, x, rng):
    def like(part):
        if isinstance(part, tuple):
            return tuple(map(like, part))
        return rng.standard_normal(part.shape).astype(np.float32)

    return like(model(x).final_state)


@pytest.mark.parametrize("kind", KINDS)
def test_onnxruntime_computes_the_same_and_it_is_read_again(kind, ort):
    rng = np.random.default_rng(0)
    x = rng.standard_normal((T, N, D)).astype(np.float32)
    for start, lengths in itertools.product(("given", "zero", "learned"), (None, LENGTHS)):
        for name, model in shapes(EVERY[kind], learn_initial_state=start == "learned", rng=rng):
            with noted(f"{name}, {start}, {lengths}"):
                drawn(model, rng)
                proto = to_onnx(model, lengths=lengths is not None, initial_state=start == "given")
                state = state_like(model, x, rng) if start == "given" else None
                outputs, final = model(x, state, lengths)
                inputs = [x, *([] if lengths is None else [np.array(lengths, np.int32)])]
                inputs += [] if state is None else holds(state)
                assert worst(run(ort, proto, inputs), [outputs, *holds(final)]) <= 1e-6
                again = from_onnx(proto)
                assert repr(again) == repr(model)
                assert set(again.report.mapped) == {name for name, _ in again.named_parameters()}
                y, end = again(x, state, lengths)
                for a, b in zip([outputs, *holds(final)], [y, *holds(end)], strict=True):
                    np.testing.assert_array_equal(a.numpy(), b.numpy())


def whole(batch_first, readout, recurrent):
    head = mr.Sequential(mr.Linear(recurrent.output_size, 6), mr.Linear(6, 3, bias=False))
    return mr.SequenceModel(recurrent, head, readout, embedding=mr.Embedding(7, D, padding_idx=3))


@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize("readout", ["all", "last"])
def test_whole_models(readout, batch_first, ort, tmp_path):
    rng = np.random.default_rng(1)
    ids = rng.integers(0, 7, (N, T) if batch_first else (T, N))
    for kind, (name, recurrent) in itertools.product(["lstm", "gru"], shapes(mr.LSTMLayer, batch_first=batch_first)):
        for lengths in None, LENGTHS:
            with noted(f"{kind} {name} {lengths}"):
                model = drawn(whole(batch_first, readout, recurrent), rng)
                path = tmp_path / "model.onnx"
                proto = to_onnx(model, path, lengths=lengths is not None, initial_state=False)
                given = ids.copy()
                if lengths is not None:
                    given[-1 if not batch_first else 0, 0 if not batch_first else -1] = 99  # in the padding
                exact, final = model(given, lengths=lengths)
                inputs = [given, *([] if lengths is None else [np.array(lengths, np.int32)])]
                assert worst(run(ort, proto, inputs), [exact, *holds(final)]) <= 1e-6
                again = from_onnx(path)
                assert again.readout == readout
                np.testing.assert_array_equal(again(given, lengths=lengths).predictions.numpy(), exact.numpy())


def test_it_writes_float32_and_says_what_it_leaves_out():
    model = mr.LSTMLayer(2, 3, dtype=np.float64, rng=0)
    with pytest.warns(UserWarning, match="^to_onnx: float64 is rounded to float32, which runtimes compute in$"):
        assert from_onnx(to_onnx(model)).dtype == np.float32
    with pytest.warns(UserWarning, match=r"^to_onnx: training only, left out: recurrent_dropout=0.5 of the layer$"):
        to_onnx(mr.LSTMLayer(2, 3, recurrent_dropout=0.5))
    assert (
        to_onnx(mr.LSTMLayer(2, 3, rng=0)).SerializeToString() == to_onnx(mr.LSTMLayer(2, 3, rng=0)).SerializeToString()
    )
    model.W_xh.data = model.W_xh.data * 1e300
    with raises(InteropError, "to_onnx: W is not finite in float32"):
        to_onnx(model)
    with raises(InteropError, "to_onnx: model must be a recurrent layer or a SequenceModel, got Linear"):
        to_onnx(mr.Linear(2, 3))


# --- torch's exporter -------------------------------------------------------------------------------------------------


def exports(torch):
    class Model(torch.nn.Module):
        def __init__(self, kind, both, layers, batch_first, last):
            super().__init__()
            self.words, self.last, self.batch_first = torch.nn.Embedding(7, D), last, batch_first
            make = {"LSTM": torch.nn.LSTM, "GRU": torch.nn.GRU, "RNN": torch.nn.RNN}[kind]
            self.rnn = make(D, H, layers, bidirectional=both, batch_first=batch_first)
            self.out = torch.nn.Linear(H * (1 + both), 3)

        def forward(self, ids):
            y, state = self.rnn(self.words(ids))
            h = state[0] if isinstance(state, tuple) else state
            if self.last:
                y = torch.cat([h[-2], h[-1]], 1) if self.rnn.bidirectional else y[:, -1] if self.batch_first else h[-1]
            return self.out(y), state

    grid = itertools.product(["LSTM", "GRU", "RNN"], [False, True], [1, 2], [False, True], [False, True])
    return [(point, Model(*point).eval()) for point in grid]


def test_what_torch_exports_is_read(torch, tmp_path):
    path, rng, cases = tmp_path / "torch.onnx", np.random.default_rng(2), exports(torch)
    assert len(cases) == 48
    for (kind, both, layers, batch_first, last), theirs in cases:
        with noted(f"{kind} both={both} layers={layers} batch_first={batch_first} last={last}"):
            ids = torch.from_numpy(rng.integers(0, 7, (N, T) if batch_first else (T, N)))
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                torch.onnx.export(
                    theirs, (ids,), str(path), dynamo=False, dynamic_axes={"x": [0, 1]}, input_names=["x"]
                )
            model = from_onnx(path)
            assert (model.readout, model.recurrent.batch_first) == ("last" if last else "all", batch_first)
            exact, _ = theirs(ids)
            np.testing.assert_allclose(model(ids.numpy()).predictions.numpy(), exact.detach(), atol=1e-6)


# --- the ONNX project's own tests -------------------------------------------------------------------------------------


def node_tests():
    from onnx.backend.test.case import node

    for op in ("rnn", "lstm", "gru"):
        importlib.import_module(f"onnx.backend.test.case.node.{op}")  # which makes the cases of one op, not of all
    return [case for case in node._NodeTestCases if case.model.graph.node[0].op_type in ("RNN", "LSTM", "GRU")]


def test_the_onnx_projects_own_tests_pass():
    cases, passed = node_tests(), 0
    assert len(cases) == 18
    for case in cases:
        with noted(case.name):
            proto, ((inputs, outputs),) = case.model, case.data_sets
            given = dict(zip([i.name for i in proto.graph.input], inputs, strict=True))
            for name in ("W", "R", "B", "P"):
                if name in given:  # they are inputs there; any program that uses the node has them as constants
                    proto.graph.initializer.append(onnx.numpy_helper.from_array(given.pop(name), name))
            model = from_onnx(proto)
            result = model(given["X"])
            y, states, axis = result.outputs.numpy(), [f.numpy() for f in holds(result.final_state)], model.batch_first
            each = 2 if proto.graph.node[0].op_type == "LSTM" else 1
            found = {name: np.stack(states[k::each], int(axis)) for k, name in enumerate(["Y_h", "Y_c"][:each])}
            found["Y"] = np.stack(np.split(y, len(states) // each, -1), 1 + axis)
            for value, exact in zip(proto.graph.output, outputs, strict=True):
                np.testing.assert_allclose(found[value.name], exact, rtol=case.rtol, atol=case.atol)
            passed += 1
    assert passed == 18


# --- graphs that are not such -----------------------------------------------------------------------------------------


def graph(*nodes, arrays=None, outputs=("y",), inputs=(("x", [T, N, D]),), **more):
    """A model of nodes (op, inputs, outputs, attributes) around weights W and R of an RNN."""
    make, FLOAT = onnx.helper, onnx.TensorProto.FLOAT
    arrays = {"W": np.ones((1, H, D), np.float32), "R": np.ones((1, H, H), np.float32)} | (arrays or {})
    return make.make_model(
        make.make_graph(
            [make.make_node(op, ins, outs, **attributes) for op, ins, outs, attributes in nodes],
            "hostile",
            [make.make_tensor_value_info(name, FLOAT, shape) for name, shape in inputs],
            [make.make_tensor_value_info(name, FLOAT, None) for name in outputs],
            [onnx.numpy_helper.from_array(a, name) if isinstance(a, np.ndarray) else a for name, a in arrays.items()],
        ),
        **more,
    )


def external(where, **more):
    tensor = onnx.numpy_helper.from_array(np.ones((1, H, D), np.float32), "W")
    tensor.ClearField("raw_data")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    for key, value in {"location": where, **more}.items():
        tensor.external_data.add(key=key, value=str(value))
    return {"W": tensor}


def rnn(ins=("x", "W", "R"), op="RNN", out="y", **attributes):
    return op, list(ins), [out], attributes


LOOP = onnx.helper.make_graph([], "body", [], [])
REFUSED = [  # model, what is said of it
    (graph(("Loop", ["", ""], ["y"], {"body": LOOP})), "there is no RNN, LSTM or GRU in it"),
    (graph(rnn(out="a"), ("Loop", ["", "", "a"], ["y"], {"body": LOOP})), "(Loop): its attribute body is a graph"),
    (graph(rnn(out="a"), ("If", ["a"], ["y"], {"then_branch": LOOP})), "(If): its attribute then_branch is a graph"),
    (graph(rnn(out="a"), ("Softmax", ["a"], ["y"], {})), "node 'y' (Softmax): nothing in minirnn corresponds to it"),
    (graph(rnn(out="a"), ("Tanh", ["a"], ["y"], {"domain": "evil"})), "it is of another domain, 'evil'"),
    (graph(rnn(clip=3.0, hidden_size=H)), "node 'y' (RNN): its 'clip' has no equal here"),
    (graph(rnn(clip=0.0)), "node 'y' (RNN): its 'clip' has no equal here"),
    (graph(rnn(activations=["Affine"])), "with alpha [] and beta [] have no equal here"),
    (graph(rnn(op="LSTM", input_forget=1)), "node 'y' (LSTM): its 'input_forget' has no equal here"),
    (graph(rnn(activations=["HardSigmoid"])), "its activations ['hardsigmoid'] have no equal here"),
    (graph(rnn(activations=["Affine"], activation_alpha=[2.0])), "with alpha [2.0] and beta [] have no equal here"),
    (graph(rnn(direction="sideways")), "direction must be one of 'forward', 'reverse', 'bidirectional'"),
    (graph(rnn(["x", "x", "R"])), "its weights must be constants: initializers or Constant nodes"),
    (graph(rnn(["x", "W", "Q"])), "node 'y' (RNN): its input 'Q' is made nowhere before"),
    (graph(rnn(["x", "W", "R", "", "L"]), arrays={"L": np.ones(3, np.int32)}), "its sequence_lens are fixed"),
    (graph(rnn(direction="bidirectional")), "R must have shape (2, any, any), got (1, 4, 4)"),
    (graph(rnn(), arrays={"W": np.full((1, H, D), np.nan, np.float32)}), "W holds NaN or inf"),
    (graph(rnn(), arrays={"R": np.ones((1, H, H), int)}), "R must be float32 or float64, got an array"),
    (graph(rnn(), inputs=(("x", [T, N, D, 1]),)), "its input 'x' must have three axes, or two for ids, got 4"),
    (graph(rnn(), outputs=("W",)), "none of its outputs comes of the input"),
    (graph(rnn(["x", "W", "R", "", "", "s"]), arrays={"s": np.arange(12, dtype=np.float32).reshape(1, N, H)}),
     "it starts from another state in each row"),
    (graph(rnn(), arrays=external("../secret")), "the array 'W' cannot be read: it lies elsewhere than the model"),
    (graph(rnn(), arrays=external("/etc/hostname")), "the array 'W' cannot be read: it lies elsewhere than the model"),
    (graph(rnn(), arrays=external("link")), "the array 'W' cannot be read: it lies elsewhere than the model"),
    (graph(rnn(), arrays=external("W.bin", offset=8)), "the array 'W' cannot be read: it is longer than its file"),
]  # fmt: skip


def test_what_has_no_equal_is_refused_by_name_and_nothing_is_read_elsewhere(tmp_path):
    folder, secret = tmp_path / "model", tmp_path / "secret"
    folder.mkdir()
    secret.write_bytes(bytes(4 * H * D))
    (folder / "link").symlink_to(secret)
    (folder / "W.bin").write_bytes(np.ones(H * D, np.float32).tobytes())
    for proto, message in REFUSED:
        with noted(message):
            (folder / "model.onnx").write_bytes(proto.SerializeToString())
            with pytest.raises(InteropError, match=re.escape(message)) as caught:
                from_onnx(folder / "model.onnx")
            assert str(caught.value).startswith("from_onnx: ")
    many = graph(rnn(), *[("Identity", ["y"], [f"y{i}"], {}) for i in range(20_000)])
    with raises(InteropError, "from_onnx: it has 20,001 nodes, of at most 20,000"):
        from_onnx(many)
    (folder / "model.onnx").write_bytes(graph(rnn(), arrays=external("W.bin")).SerializeToString())
    assert from_onnx(folder / "model.onnx").W_xh.data.all()  # from a file beside it


def field(number, data):
    """A field of a protobuf message that holds bytes."""
    return varint(number << 3 | 2) + varint(len(data)) + data


def varint(n):
    return bytes([n]) if n < 128 else bytes([n & 127 | 128]) + varint(n >> 7)


@pytest.mark.parametrize("data", [
    field(7, field(1, b"") * 10**6),  # nodes
    field(7, field(1, field(5, field(6, field(1, b"") * 10**6)))),  # nodes of a subgraph
    field(7, field(5, field(6, b"") * 10**6)),  # strings of an initializer
    field(25, field(7, b"") * 10**6),  # functions
    b"\x3a\xff\xff\xff\xff\x7f", b"\xff" * 100, b"", b"PK\3\4" * 100,
], ids=range(8))  # fmt: skip
def test_what_is_no_model_takes_no_memory(data):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(InteropError, match=r"^from_onnx: "):
        from_onnx(data)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 30_000  # kB
