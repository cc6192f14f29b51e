"""The whole family against torch, in float64 with all gradients, and against onnxruntime, in float32."""

import functools
import itertools
import re
import warnings
import zlib
from typing import NamedTuple

import numpy as np
import pytest
from pairwise import pairwise
from recurrent_cases import BACKENDS, SHAPES, assert_equal, evaluate, flat, relative_error

import minirnn as mr

MAKERS = {
    "lstm": mr.LSTMLayer,
    "gru": mr.GRULayer,
    "gru before": functools.partial(mr.GRULayer, reset_after=False),
    "tanh": functools.partial(mr.RecurrentLayer, activation="tanh"),
    "relu": functools.partial(mr.RecurrentLayer, activation="relu"),
    "sigmoid": functools.partial(mr.RecurrentLayer, activation="sigmoid"),
}
DIRECTIONS = ("forward", "reverse", "bidirectional")
OF_TORCH = ("lstm", "gru", "tanh", "relu")
OTHER_WAY = {"tanh": "relu", "relu": "sigmoid", "sigmoid": "tanh"}  # ONNX lets each direction have its own

pytestmark = pytest.mark.peer


class Config(NamedTuple):
    """One point of a grid; ``shape`` is a name of SHAPES, and ``mixed`` gives the second direction another φ."""

    kind: str
    direction: str
    bias: bool
    ragged: bool
    shape: str
    mixed: bool = False


AXES = {"direction": DIRECTIONS, "bias": [True, False], "ragged": [True, False], "shape": SHAPES}
TORCH = {"kind": OF_TORCH} | AXES
ONNX = {"kind": MAKERS} | AXES | {"mixed": [False, True]}


def fits(point):
    return not point.get("mixed") or (point["kind"] in OTHER_WAY and point["direction"] == "bidirectional")


def pairs(settings):
    return pytest.mark.parametrize("config", [Config(**p) for p in pairwise(settings, allowed=fits)], ids=spell)


def everything(settings):
    """All configurations of one kind."""
    points = [dict(zip(settings, values, strict=True)) for values in itertools.product(*settings.values())]
    return [Config(**point) for point in points if fits(point)]


def spell(config):
    flags = [name for name in ("bias", "ragged", "mixed") if getattr(config, name)]
    return "-".join([config.kind, config.direction, *flags, config.shape])


class Problem:
    """Random inputs, lengths, states, weights and loss for one configuration; nothing in it is zero."""

    def __init__(self, config, dtype):
        self.config, self.dtype = config, np.dtype(dtype)
        self.T, self.N, self.D, self.H = T, N, D, H = SHAPES[config.shape]
        self.rng = np.random.default_rng(zlib.crc32(repr(config).encode()))
        ways = {"forward": [False], "reverse": [True], "bidirectional": [False, True]}[config.direction]
        kinds = [config.kind, OTHER_WAY[config.kind] if config.mixed else config.kind]
        self.ways = list(zip(kinds, ways, strict=False))
        while True:  # again, when all rectifiers happen to be off and there would be nothing to compare
            states = 2 if config.kind == "lstm" else 1
            self.lengths = self.rng.integers(1, T + 1, N) if config.ragged else None
            self.x, self.v = self._draw(T, N, D), self._draw(T, N, H * len(ways))
            self.state = [tuple(self._draw(N, H) for _ in range(states)) for _ in ways]
            self.u = [tuple(self._draw(N, H) for _ in range(states)) for _ in ways]
            self.parameters = [
                {p.name: 0.5 * self._draw(*p.shape) for p in layer.parameters()} for layer in self.layers("fused")
            ]
            if all(value.any() for value in self.run("graph").values()):
                break

    def _draw(self, *shape):
        return self.rng.standard_normal(shape).astype(self.dtype)

    def layers(self, backend):
        """Return the layer of each direction, with its weights as soon as they are drawn."""
        layers = [
            MAKERS[kind](self.D, self.H, bias=self.config.bias, reverse=way, backend=backend, dtype=self.dtype, rng=0)
            for kind, way in self.ways
        ]
        for layer, values in zip(layers, getattr(self, "parameters", ()), strict=False):
            for p in layer.parameters():
                p.data = values[p.name].copy()
        return layers

    def run(self, backend):
        """Return outputs, final states and all gradients by name, as `evaluate` does."""
        layers = self.layers(backend)
        whole = mr.Bidirectional(*layers) if len(layers) > 1 else layers[0]
        states = [state if len(state) > 1 else state[0] for state in self.state]
        state = tuple(states) if len(layers) > 1 else states[0]
        return evaluate(whole, self.x, state, self.v, flat(self.u), self.lengths)

    @property
    def prefixes(self):
        return ["forward_layer.", "backward_layer."] if len(self.ways) > 1 else [""]


# --- torch ------------------------------------------------------------------------------------------------------------


def torch_module(torch, problem):
    """Return the torch module with the layers' weights: transposed, of its second bias only GRU's b_hn not zero."""
    kind, bias = problem.config.kind, problem.config.bias
    options = {"bias": bias, "bidirectional": len(problem.ways) > 1, "dtype": torch.float64}
    if kind in ("tanh", "relu"):
        options["nonlinearity"] = kind
    make = {"lstm": torch.nn.LSTM, "gru": torch.nn.GRU}.get(kind, torch.nn.RNN)
    module = make(problem.D, problem.H, **options)
    with torch.no_grad():
        for values, suffix in zip(problem.parameters, ["", "_reverse"], strict=False):
            getattr(module, f"weight_ih_l0{suffix}").copy_(torch.from_numpy(values["W_xh"].T.copy()))
            getattr(module, f"weight_hh_l0{suffix}").copy_(torch.from_numpy(values["W_hh"].T.copy()))
            if bias:
                getattr(module, f"bias_ih_l0{suffix}").copy_(torch.from_numpy(values["b_h"]))
                getattr(module, f"bias_hh_l0{suffix}").zero_()
            if "b_hn" in values:
                getattr(module, f"bias_hh_l0{suffix}")[-problem.H :] = torch.from_numpy(values["b_hn"])
    return module


def run_torch(torch, problem):
    """Return what `Problem.run` does, from torch; ragged rows are packed, and turned round for a layer in reverse."""
    T, N, H = problem.T, problem.N, problem.H
    module = torch_module(torch, problem)
    lengths = np.full(N, T) if problem.lengths is None else problem.lengths
    x = torch.from_numpy(problem.x.copy()).requires_grad_()
    states = [torch.from_numpy(np.stack(part)).requires_grad_() for part in zip(*problem.state, strict=True)]
    steps = np.arange(T)[:, None]
    turn = torch.from_numpy(np.where(steps < lengths, lengths - 1 - steps, steps)), torch.arange(N)
    alone_in_reverse = problem.config.direction == "reverse"
    given = x[turn] if alone_in_reverse else x
    if problem.lengths is not None:
        given = torch.nn.utils.rnn.pack_padded_sequence(given, torch.from_numpy(lengths), enforce_sorted=False)
    outputs, final = module(given, tuple(states) if len(states) > 1 else states[0])
    if problem.lengths is not None:
        outputs, _ = torch.nn.utils.rnn.pad_packed_sequence(outputs, total_length=T)
    outputs = outputs[turn] if alone_in_reverse else outputs
    final = list(final) if len(states) > 1 else [final]
    loss = (outputs * torch.from_numpy(problem.v)).sum()
    for f, u in zip(final, zip(*problem.u, strict=True), strict=True):
        loss = loss + (f * torch.from_numpy(np.stack(u))).sum()
    loss.backward()
    found = {"outputs": outputs.detach().numpy(), "x": x.grad.numpy()}
    places = list(itertools.product(range(len(problem.ways)), range(len(states))))
    found |= {f"final {i}": final[k].detach().numpy()[way] for i, (way, k) in enumerate(places)}
    found |= {f"initial {i}": states[k].grad.numpy()[way] for i, (way, k) in enumerate(places)}
    for prefix, suffix, values in zip(problem.prefixes, ["", "_reverse"], problem.parameters, strict=False):
        found[f"{prefix}W_xh"] = getattr(module, f"weight_ih_l0{suffix}").grad.numpy().T
        found[f"{prefix}W_hh"] = getattr(module, f"weight_hh_l0{suffix}").grad.numpy().T
        if problem.config.bias:
            found[f"{prefix}b_h"] = getattr(module, f"bias_ih_l0{suffix}").grad.numpy()
        if "b_hn" in values:
            found[f"{prefix}b_hn"] = getattr(module, f"bias_hh_l0{suffix}").grad.numpy()[-H:]
    return found


def check_against_torch(torch, config):
    problem = Problem(config, np.float64)
    exact = run_torch(torch, problem)
    for backend in BACKENDS:
        assert_equal(problem.run(backend), exact)


@pairs(TORCH)
def test_it_is_torchs(config, torch):
    check_against_torch(torch, config)


@pytest.mark.exhaustive
@pytest.mark.parametrize("kind", OF_TORCH)
def test_it_is_torchs_everywhere(kind, torch):
    for config in everything(TORCH | {"kind": [kind]}):
        check_against_torch(torch, config)


@pytest.mark.parametrize("wrong", ["gates", "bias", "lengths"])
def test_a_wrong_answer_is_caught(wrong, torch):
    """The comparison rejects exchanged gates, a bias on the wrong side of r, and a length that is one too long."""
    problem = Problem(Config("gru", "forward", True, True, "D≠H≠N≠T"), np.float64)
    exact = run_torch(torch, problem)
    H, values = problem.H, problem.parameters[0]
    if wrong == "gates":
        values["W_hh"] = np.concatenate(
            [values["W_hh"][:, H : 2 * H], values["W_hh"][:, :H], values["W_hh"][:, 2 * H :]], 1
        )
    elif wrong == "bias":
        values["b_h"][2 * H :] += values["b_hn"]
        values["b_hn"][...] = 0
    else:
        shortest = problem.lengths.argmin()
        assert problem.lengths[shortest] < problem.T
        problem.lengths[shortest] += 1
    found = problem.run("fused")
    for name in ("outputs", "x", "W_hh"):
        assert relative_error(found[name], exact[name]) > 1e-3, name


# --- onnxruntime ------------------------------------------------------------------------------------------------------

ORDER = {"lstm": (0, 3, 1, 2), "gru": (1, 0, 2), "gru before": (1, 0, 2)}  # iofc of i, f, g, o; zrh of r, z, n


@pytest.fixture
def onnxruntime():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what they warn of while they are imported is not ours to mend
        pytest.importorskip("onnx", reason="onnx is not installed: pip install -e '.[bench]'")
        return pytest.importorskip("onnxruntime", reason="onnxruntime is not installed: pip install -e '.[bench]'")


def onnx_gates(array, kind, H):
    """Return (…, G·H) with the blocks in ONNX's order."""
    blocks = np.split(array, array.shape[-1] // H, axis=-1)
    return np.concatenate([blocks[i] for i in ORDER.get(kind, (0,))], axis=-1)


def onnx_inputs(problem):
    """Return X, W, R, B, sequence_lens, initial_h, initial_c, as far as they are used; the rest are None.

    B is [Wb Rb]; Rb is zero but for GRU's b_hn with linear_before_reset=1.
    """
    kind, H = problem.config.kind, problem.H
    W, R, B = [], [], []
    for values in problem.parameters:
        W.append(onnx_gates(values["W_xh"], kind, H).T)
        R.append(onnx_gates(values["W_hh"], kind, H).T)
        if problem.config.bias:
            Wb = onnx_gates(values["b_h"], kind, H)
            Rb = np.zeros_like(Wb)
            if "b_hn" in values:
                Rb[-H:] = values["b_hn"]
            B.append(np.concatenate([Wb, Rb]))
    return {
        "X": problem.x,
        "W": np.stack(W),
        "R": np.stack(R),
        "B": np.stack(B) if B else None,
        "sequence_lens": None if problem.lengths is None else problem.lengths.astype(np.int32),
        "initial_h": np.stack([state[0] for state in problem.state]),
        "initial_c": np.stack([state[1] for state in problem.state]) if kind == "lstm" else None,
    }


def run_onnx(problem):
    """Return outputs and final states as `Problem.run` does, from a model of the one node."""
    import onnx
    import onnxruntime as ort
    from onnx import TensorProto, helper

    kind, inputs = problem.config.kind, onnx_inputs(problem)
    attributes = {"hidden_size": problem.H, "direction": problem.config.direction}
    if kind.startswith("gru"):
        attributes["linear_before_reset"] = int(kind == "gru")
    elif kind != "lstm":
        attributes["activations"] = [of.capitalize() for of, _ in problem.ways]
    results = ["Y", "Y_h", "Y_c"] if kind == "lstm" else ["Y", "Y_h"]
    names = [name if value is not None else "" for name, value in inputs.items()]
    node = helper.make_node({"lstm": "LSTM"}.get(kind, "GRU" if kind.startswith("gru") else "RNN"),
                            names[: 7 if kind == "lstm" else 6], results, **attributes)  # fmt: skip
    used = {name: value for name, value in inputs.items() if value is not None}
    types = {name: TensorProto.INT32 if name == "sequence_lens" else TensorProto.FLOAT for name in used}
    graph = helper.make_graph(
        [node],
        "layer",
        [helper.make_tensor_value_info(name, types[name], value.shape) for name, value in used.items()],
        [
            helper.make_tensor_value_info(name, TensorProto.FLOAT, [None] * (4 if name == "Y" else 3))
            for name in results
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 14)], ir_version=8)
    onnx.checker.check_model(model)
    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    Y, *final = session.run(results, used)  # Y (T, directions, N, H), Y_h (directions, N, H)
    places = itertools.product(range(len(problem.ways)), range(len(final)))
    found = {f"final {i}": final[k][way] for i, (way, k) in enumerate(places)}
    return found | {"outputs": Y.transpose(0, 2, 1, 3).reshape(problem.T, problem.N, -1)}


def check_against_onnx(config):
    problem = Problem(config, np.float32)
    exact = run_onnx(problem)
    for backend in BACKENDS:
        found = problem.run(backend)
        assert found["outputs"].dtype == np.float32
        assert max(relative_error(found[name], value) for name, value in exact.items()) <= 1e-5


@pairs(ONNX)
def test_it_is_onnxruntimes(config, onnxruntime):
    check_against_onnx(config)


@pytest.mark.exhaustive
@pytest.mark.parametrize("kind", MAKERS)
def test_it_is_onnxruntimes_everywhere(kind, onnxruntime):
    for config in everything(ONNX | {"kind": [kind]}):
        check_against_onnx(config)


@pytest.mark.parametrize("kind", ["lstm", "gru", "gru before"])
def test_gates_in_another_order_are_caught(kind, onnxruntime, monkeypatch):
    problem = Problem(Config(kind, "bidirectional", True, True, "D≠H≠N≠T"), np.float32)
    monkeypatch.setitem(ORDER, kind, tuple(range(len(ORDER[kind]))))
    assert relative_error(problem.run("fused")["outputs"], run_onnx(problem)["outputs"]) > 1e-2


def test_the_two_places_of_the_reset_gate_are_two_cells(onnxruntime):
    after, before = (
        Problem(Config(kind, "forward", False, False, "D≠H≠N≠T"), np.float32) for kind in ("gru", "gru before")
    )
    before.x, before.state, before.parameters = after.x, after.state, after.parameters
    assert relative_error(run_onnx(before)["outputs"], run_onnx(after)["outputs"]) > 1e-2
    assert relative_error(before.run("fused")["outputs"], run_onnx(before)["outputs"]) <= 1e-5


# --- counting ---------------------------------------------------------------------------------------------------------


def said(module, library, capsys):
    """Return what the summary says that a library counts, added up over all layers."""
    capsys.readouterr()
    module.summary()
    lines = capsys.readouterr().out.splitlines()
    return sum(int(re.search(r": (\d+)", line)[1]) for line in lines if line.startswith(f"  {library} "))


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("kind", ["lstm", "gru", "tanh"])
def test_the_summary_says_what_torch_counts(kind, bias, torch, capsys):
    D, H = 3, 5
    make = functools.partial(MAKERS[kind], bias=bias)
    peer = {"lstm": torch.nn.LSTM, "gru": torch.nn.GRU, "tanh": torch.nn.RNN}[kind]

    def count(**options):
        return sum(p.numel() for p in peer(D, H, bias=bias, **options).parameters())

    layer, learned = make(D, H), make(D, H, learn_initial_state=True)
    assert said(layer, "torch", capsys) == said(learned, "torch", capsys) == count()
    both = mr.Bidirectional(make(D, H), make(D, H, reverse=True))
    assert said(both, "torch", capsys) == count(bidirectional=True)
    assert said(mr.Stacked([make(D, H), make(H, H), make(H, H)]), "torch", capsys) == count(num_layers=3)
    above = mr.Bidirectional(make(2 * H, H), make(2 * H, H, reverse=True))
    assert said(mr.Stacked([both, above]), "torch", capsys) == count(num_layers=2, bidirectional=True)
    model = mr.SequenceModel(mr.Stacked([both, above]), mr.Linear(2 * H, 3))
    assert said(model, "torch", capsys) == count(num_layers=2, bidirectional=True)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("kind", MAKERS)
def test_the_summary_says_what_the_onnx_model_holds(kind, bias, onnxruntime, capsys):
    direction = "bidirectional" if bias else "forward"
    problem = Problem(Config(kind, direction, bias, False, "D≠H≠N≠T"), np.float32)
    layers = problem.layers("fused")
    inputs = onnx_inputs(problem)
    held = sum(inputs[name].size for name in "WRB" if inputs[name] is not None)
    assert said(mr.Bidirectional(*layers) if len(layers) > 1 else layers[0], "ONNX", capsys) == held
