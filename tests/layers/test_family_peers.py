"""The whole family against torch, in float64 with all gradients, and against onnxruntime, in float32."""

import contextlib
import itertools
import warnings

import numpy as np
import pytest
from pairwise import pairwise
from recurrent_cases import BACKENDS, EVERY, SHAPES, Problem, assert_equal, flat, relative_error

import minirnn as mr

DIRECTIONS = {"forward": [False], "reverse": [True], "bidirectional": [False, True]}
OF_TORCH, OF_ONNX = ["lstm", "gru", "tanh", "relu"], ["lstm", "gru", "gru before", "tanh", "relu", "sigmoid"]
OTHER_WAY = {"tanh": "relu", "relu": "sigmoid", "sigmoid": "tanh"}  # ONNX lets each direction have its own
AXES = {"direction": DIRECTIONS, "bias": [True, False], "ragged": [True, False], "shape": SHAPES}
TORCH = {"kind": OF_TORCH} | AXES
ONNX = {"kind": OF_ONNX} | AXES | {"mixed": [False, True]}

pytestmark = pytest.mark.peer


class Peer(Problem):
    """A problem in one direction or two; ``mixed`` gives the second another φ. Rows end where ``lengths`` has it."""

    def __init__(self, dtype, kind, direction="forward", bias=True, ragged=False, shape="D≠H≠N≠T", mixed=False):
        kinds = [kind, OTHER_WAY[kind] if mixed else kind]
        self.name, self.direction, self.bias = kind, direction, bias
        self.ways = list(zip(kinds, DIRECTIONS[direction], strict=False))

        def make(D, H, **options):
            layers = [EVERY[kind](D, H, reverse=reverse, **options) for kind, reverse in self.ways]
            return mr.Bidirectional(*layers) if len(layers) > 1 else layers[0]

        make.__name__ = f"{kind} {direction} {bias} {ragged} {mixed}"  # for the seed
        T, N, _, _ = SHAPES[shape]
        self.lengths = np.random.default_rng(1).integers(1, T + 1, N) if ragged else None
        super().__init__(make, shape, dtype=dtype, scale=0.5, bias=bias)

    def all_off(self):
        return not all(value.any() for value in self.run("graph").values())

    def run(self, backend):
        return super().run(backend, lengths=self.lengths)

    def stacked(self, arrays):
        """[h of both directions, c of both] of a flat list, as torch and ONNX have them."""
        each = len(arrays) // len(self.ways)
        return [np.stack(arrays[k::each]) for k in range(each)]

    @property
    def values(self):
        """The parameters of each direction, by name; of those that there are."""
        names = {name for name, _ in self.layer().named_parameters()}
        return [
            {n.removeprefix(p): a for n, a in self.parameters.items() if n.startswith(p) and n in names}
            for p in self.prefixes
        ]

    @property
    def prefixes(self):
        return ["forward_layer.", "backward_layer."] if len(self.ways) > 1 else [""]


def fits(point):
    return not point.get("mixed") or (point["kind"] in OTHER_WAY and point["direction"] == "bidirectional")


def spell(point):
    return "-".join(k if v is True else v for k, v in point.items() if v)


def pairs(settings):
    return pytest.mark.parametrize("point", pairwise(settings, allowed=fits), ids=spell)


# --- torch ------------------------------------------------------------------------------------------------------------


def torch_module(torch, problem):
    """Return the torch module with the layers' weights."""
    kind, bias = problem.name, problem.bias
    options = {"bias": bias, "bidirectional": len(problem.ways) > 1, "dtype": torch.float64}
    if kind in ("tanh", "relu"):
        options["nonlinearity"] = kind
    make = {"lstm": torch.nn.LSTM, "gru": torch.nn.GRU}.get(kind, torch.nn.RNN)
    module = make(problem.D, problem.H, **options)
    layer = problem.layer()
    layer.reverse = layer.reverse and len(problem.ways) > 1  # alone, it is time that is turned round
    with pytest.warns(UserWarning, match="nonlinearity='relu'") if kind == "relu" else contextlib.nullcontext():
        arrays = mr.interop.to_torch(layer)
    module.load_state_dict({name: torch.from_numpy(a) for name, a in arrays.items()})
    return module


def run_torch(torch, problem):
    """Return what `Problem.run` does, from torch; ragged rows are packed, and turned round for a layer in reverse."""
    T, N, H = problem.T, problem.N, problem.H
    module = torch_module(torch, problem)
    lengths = np.full(N, T) if problem.lengths is None else problem.lengths
    x = torch.from_numpy(problem.x.copy()).requires_grad_()
    states = [torch.from_numpy(part).requires_grad_() for part in problem.stacked(flat(problem.state))]
    steps = np.arange(T)[:, None]
    turn = torch.from_numpy(np.where(steps < lengths, lengths - 1 - steps, steps)), torch.arange(N)
    alone_in_reverse = problem.direction == "reverse"
    given = x[turn] if alone_in_reverse else x
    if problem.lengths is not None:
        given = torch.nn.utils.rnn.pack_padded_sequence(given, torch.from_numpy(lengths), enforce_sorted=False)
    outputs, final = module(given, tuple(states) if len(states) > 1 else states[0])
    if problem.lengths is not None:
        outputs, _ = torch.nn.utils.rnn.pad_packed_sequence(outputs, total_length=T)
    outputs = outputs[turn] if alone_in_reverse else outputs
    final = list(final) if len(states) > 1 else [final]
    loss = (outputs * torch.from_numpy(problem.v)).sum()
    for f, u in zip(final, problem.stacked(problem.u), strict=True):
        loss = loss + (f * torch.from_numpy(u)).sum()
    loss.backward()
    found = {"outputs": outputs.detach().numpy(), "x": x.grad.numpy()}
    places = list(itertools.product(range(len(problem.ways)), range(len(states))))
    found |= {f"final {i}": final[k].detach().numpy()[way] for i, (way, k) in enumerate(places)}
    found |= {f"initial {i}": states[k].grad.numpy()[way] for i, (way, k) in enumerate(places)}
    for prefix, suffix, values in zip(problem.prefixes, ["", "_reverse"], problem.values, strict=False):
        found[f"{prefix}W_xh"] = getattr(module, f"weight_ih_l0{suffix}").grad.numpy().T
        found[f"{prefix}W_hh"] = getattr(module, f"weight_hh_l0{suffix}").grad.numpy().T
        if problem.bias:
            found[f"{prefix}b_h"] = getattr(module, f"bias_ih_l0{suffix}").grad.numpy()
        if "b_hn" in values:
            found[f"{prefix}b_hn"] = getattr(module, f"bias_hh_l0{suffix}").grad.numpy()[-H:]
    return found


@pairs(TORCH)
def test_it_is_torchs(point, torch):
    problem = Peer(np.float64, **point)
    exact = run_torch(torch, problem)
    for backend in BACKENDS:
        assert_equal(problem.run(backend), exact)


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
    kind, H = problem.name, problem.H
    states = problem.stacked(flat(problem.state))
    W, R, B = [], [], []
    for values in problem.values:
        W.append(onnx_gates(values["W_xh"], kind, H).T)
        R.append(onnx_gates(values["W_hh"], kind, H).T)
        if problem.bias:
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
        "initial_h": states[0],
        "initial_c": states[1] if kind == "lstm" else None,
    }


def run_onnx(problem):
    """Return outputs and final states as `Problem.run` does, from a model of the one node."""
    import onnx
    import onnxruntime as ort
    from onnx import TensorProto, helper

    kind, inputs = problem.name, onnx_inputs(problem)
    attributes = {"hidden_size": problem.H, "direction": problem.direction}
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


@pairs(ONNX)
def test_it_is_onnxruntimes(point, onnxruntime):
    problem = Peer(np.float32, **point)
    exact = run_onnx(problem)
    for backend in BACKENDS:
        found = problem.run(backend)
        assert found["outputs"].dtype == np.float32
        assert max(relative_error(found[name], value) for name, value in exact.items()) <= 1e-5


@pytest.mark.parametrize("kind", ["lstm", "gru", "gru before"])
def test_gates_in_another_order_are_caught(kind, onnxruntime, monkeypatch):
    problem = Peer(np.float32, kind, "bidirectional", ragged=True)
    monkeypatch.setitem(ORDER, kind, tuple(range(len(ORDER[kind]))))
    assert relative_error(problem.run("fused")["outputs"], run_onnx(problem)["outputs"]) > 1e-2
