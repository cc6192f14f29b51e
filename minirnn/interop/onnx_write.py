"""Models out to ONNX: a node for each layer and direction, what is between them, and a head."""

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np

from minirnn.arguments import Array, as_flag, as_size
from minirnn.interop import parts
from minirnn.interop.parts import InteropError
from minirnn.layers import Bidirectional, Embedding, Linear, LSTMLayer, SequenceModel, Stacked
from minirnn.layers.layer import Layer
from minirnn.layers.recurrence import Recurrence
from minirnn.storage import as_path, write_whole

OPS = {"elman": "RNN", "lstm": "LSTM", "gru": "GRU"}
ORDER = {"elman": (0,), "lstm": (0, 3, 1, 2), "gru": (1, 0, 2)}
"""ONNX's gates, i, o, f, c and z, r, h, as places among minirnn's."""
OF_PEEPHOLES = (0, 2, 1)
"""Its i, o, f of peepholes among minirnn's, and minirnn's among them."""
ACTIVATIONS = {"tanh": "Tanh", "relu": "Relu", "sigmoid": "Sigmoid", "identity": "Affine"}


def to_onnx(model: Any, path: Any = None, *, lengths: bool = True, initial_state: bool = True, opset: int = 18) -> Any:
    """Return a model as ONNX has it, in float32, and write it to a file if ``path`` is given.

    Parameters
    ----------
    model : Layer, Bidirectional, Stacked or SequenceModel
        Its head Linear, or a Sequential of Linear and Dropout.
    path : str or path, optional
    lengths : bool
        Whether ``lengths`` (N,) of int32 is an input. What stands in the padding does not matter then.
    initial_state : bool
        Whether the states are inputs, ``initial_h`` (N, H) and so on; without, they are zero or what has been learned.
    opset : int
        At least 15.

    Returns
    -------
    onnx.ModelProto
        Inputs ``x``, or ``ids`` with an Embedding, in the model's own layout; outputs ``outputs`` or ``predictions``,
        then the final states, ``final_h`` and so on, in the order of minirnn's state: of a layer in a stack or in one
        of two directions ``final_0_h``, ``final_forward_h``.

    Raises
    ------
    InteropError
        For a cell or an activation of one's own, modules of one's own, weights that are not finite in float32.
    ImportError
        Without the extra ``onnx``.

    Notes
    -----
    W, R and B have ONNX's order of gates; ``linear_before_reset`` is ``reset_after``, "identity" is Affine. float64 is
    rounded, with a warning. The last step's output is Y_h, not Y[-1], which is padding where rows differ.
    """
    onnx, caller = parts.package("onnx", "onnx", "to_onnx"), "to_onnx"
    opset = as_size(opset, "to_onnx: opset", 15)
    graph = _Graph(onnx, as_flag(lengths, "to_onnx: lengths"), as_flag(initial_state, "to_onnx: initial_state"))
    recurrent = model.recurrent if type(model) is SequenceModel else model
    if not isinstance(recurrent, Recurrence):
        raise InteropError(f"{caller}: model must be a recurrent layer or a SequenceModel, got {type(model).__name__}")
    embedding = model.embedding if isinstance(model, SequenceModel) else None
    x = graph.door(embedding, recurrent)
    outputs, last, final = graph.emit(recurrent, x, "")
    if isinstance(model, SequenceModel):
        y = graph.head(model, outputs if model.readout == "all" else last)
        name, rank = "predictions", 3 if model.readout == "all" else 2
    else:
        name, y, rank = "outputs", outputs, 3
    if recurrent.batch_first and rank == 3:
        y = graph.node("Transpose", [y], perm=[1, 0, 2])
    results = {name: (y, rank)} | {f"final_{state}": (value, 2) for state, value in final}
    parts.left_for_training(model, caller)
    if path is not None:
        path = as_path(path, caller, example="model.onnx")
    proto = graph.finished(results, opset)
    if path is not None:
        write_whole(path, proto.SerializeToString(deterministic=True), caller)
    return proto


class _Graph:
    """Nodes, constants and inputs as they come to be."""

    def __init__(self, onnx: Any, lengths: bool, initial_state: bool) -> None:
        self.onnx, self.nodes, self.constants = onnx, list[Any](), dict[str, Any]()
        self.inputs: dict[str, Any] = {}
        self.given, self.rounded, self.batch = initial_state, False, ""
        self.lengths = "lengths" if lengths else ""

    def node(self, op: str, inputs: Sequence[str], outputs: int = 1, **attributes: Any) -> Any:
        """Add a node; return the name of what it gives, or names."""
        k = len(self.nodes)
        names = [f"{op.lower()}_{k}" + f"_{i}" * (i > 0) for i in range(outputs)]
        self.nodes.append(self.onnx.helper.make_node(op, inputs, names, name=f"{op}_{k}", **attributes))
        return names if outputs > 1 else names[0]

    def constant(self, array: Any, name: str = "") -> str:
        """Add a constant, floats as float32; return its name."""
        array = np.asarray(array)
        if array.dtype.kind == "f":
            self.rounded |= array.dtype != np.float32
            with np.errstate(over="ignore"):
                array = array.astype(np.float32)
            if not np.isfinite(array).all():
                raise InteropError(f"to_onnx: {name} is not finite in float32")
        name = name or f"constant_{len(self.constants)}"
        self.constants[name] = self.onnx.numpy_helper.from_array(np.ascontiguousarray(array), name)
        return name

    def input(self, name: str, kind: str, *shape: Any) -> str:
        """Add an input of the graph."""
        self.inputs[name] = self.onnx.helper.make_tensor_value_info(
            name, getattr(self.onnx.TensorProto, kind), list(shape)
        )
        return name

    def door(self, embedding: Any, recurrent: Recurrence) -> str:
        """Add the input, the vectors of its ids, and the change of layout: (T, N, D)."""
        order = ["N", "T"] if recurrent.batch_first else ["T", "N"]
        if embedding is None:
            x = self.input("x", "FLOAT", *order, recurrent.input_size)
        else:
            if type(embedding) is not Embedding:
                raise InteropError(f"to_onnx: embedding must be minirnn's, got {type(embedding).__name__}")
            ids = self.input("ids", "INT64", *order)
            if self.lengths:  # any ids may stand in the padding, but Gather takes none that it does not know
                most = self.constant(np.int64(embedding.num_embeddings - 1))
                ids = self.node("Clip", [ids, self.constant(np.int64(0)), most])
            x = self.node("Gather", [self.constant(parts.weight_of(embedding), "embedding.weight"), ids], axis=0)
        if self.lengths:
            self.input("lengths", "INT32", "N")
        return str(self.node("Transpose", [x], perm=[1, 0, 2]) if recurrent.batch_first else x)

    def emit(self, module: Any, x: str, where: str) -> tuple[str, str, list[tuple[str, str]]]:
        """Add a recurrent module; return its outputs, what it gave last, and its final states by name."""
        if isinstance(module, Layer):
            return self._layer(module, x, where)
        final: list[tuple[str, str]] = []
        if type(module) is Stacked:
            last = ""
            for i, layer in enumerate(module.layers):
                x, last, own = self.emit(layer, x, f"{where}{i}_")
                final += own
            return x, last, final
        parts.check_merge(module, "to_onnx")
        both: Bidirectional = module
        f, f_last, f_final = self.emit(both.forward_layer, x, f"{where}forward_")
        b, b_last, b_final = self.emit(both.backward_layer, x, f"{where}backward_")
        outputs, last = (self.node("Concat", pair, axis=k) for pair, k in (([f, b], 2), ([f_last, b_last], 1)))
        return outputs, last, f_final + b_final

    def _layer(self, layer: Layer, x: str, where: str) -> tuple[str, str, list[tuple[str, str]]]:
        kind = parts.kind_of(layer, "to_onnx")
        attributes: dict[str, Any] = {"hidden_size": layer.hidden_size}
        attributes["direction"] = "reverse" if layer.reverse else "forward"
        if kind == "gru":
            attributes["linear_before_reset"] = int(layer.reset_after)  # type: ignore[attr-defined]
        elif kind == "elman":
            name = layer.activation.name  # type: ignore[attr-defined]
            attributes["activations"] = [ACTIVATIONS[name]]
            if name == "identity":
                attributes |= {"activation_alpha": [1.0], "activation_beta": [0.0]}
        arrays = {name: self.constant(a[None], f"{where}{name}") for name, a in weights_of(layer, kind).items()}
        states = [self._start(layer, letter, where) for letter in layer.state_names]
        own = [arrays["P"]] if "P" in arrays else []
        inputs = [x, arrays["W"], arrays["R"], arrays.get("B", ""), self.lengths, *states, *own]
        Y, *final = self.node(OPS[kind], inputs, 1 + len(states), **attributes)
        zero, one = self.constant(np.array([0])), self.constant(np.array([1]))
        y = self.node("Squeeze", [Y, one])
        final = [self.node("Squeeze", [state, zero]) for state in final]
        return y, final[0], [(where + letter, f) for letter, f in zip(layer.state_names, final, strict=True)]

    def _start(self, layer: Layer, letter: str, where: str) -> str:
        """Return the state before the first step, (1, N, H): given, learned, or none for zeros."""
        if self.given:
            given = self.input(f"initial_{where}{letter}", "FLOAT", "N", layer.hidden_size)
            return str(self.node("Unsqueeze", [given, self.constant(np.array([0]))]))
        if not layer.learn_initial_state:
            return ""
        if not self.batch:
            of, axis = next(iter(self.inputs)), int(not layer.batch_first)
            self.batch = self.node("Shape", [of], start=axis, end=axis + 1)
        ends = [self.constant(np.array([n])) for n in (1, layer.hidden_size)]
        shape = self.node("Concat", [ends[0], self.batch, ends[1]], axis=0)
        learned = self.constant(getattr(layer, f"{letter}_0").data[None, None], f"{where}{letter}_0")
        return str(self.node("Expand", [learned, shape]))

    def head(self, model: SequenceModel, x: str) -> str:
        """Add what reads the outputs."""
        for name, part in parts.parts_of(model.head, "to_onnx"):
            if type(part) is not Linear:
                raise InteropError(f"to_onnx: head must be made of Linear, got {type(part).__name__}")
            start = f"head.{name}.".replace("..", ".")
            x = self.node("MatMul", [x, self.constant(part.weight.data, f"{start}weight")])
            if part.bias is not None:
                x = self.node("Add", [x, self.constant(part.bias.data, f"{start}bias")])
        return x

    def finished(self, results: dict[str, tuple[str, int]], opset: int) -> Any:
        """Name the results, and return the whole, checked by onnx."""
        helper, TensorProto = self.onnx.helper, self.onnx.TensorProto
        for name, (value, _) in results.items():
            self.nodes.append(helper.make_node("Identity", [value], [name]))
        outputs = [helper.make_tensor_value_info(n, TensorProto.FLOAT, [None] * r) for n, (_, r) in results.items()]
        graph = helper.make_graph(
            self.nodes, "minirnn", list(self.inputs.values()), outputs, list(self.constants.values())
        )
        imports = [helper.make_opsetid("", opset)]
        try:
            ir = helper.find_min_ir_version_for(imports)
            proto = helper.make_model(graph, opset_imports=imports, ir_version=ir, producer_name="minirnn")
            self.onnx.checker.check_model(proto)
        except Exception as error:
            raise InteropError(f"to_onnx: onnx refuses the model with opset={opset}: {error}") from error
        if self.rounded:
            warnings.warn("to_onnx: float64 is rounded to float32, which runtimes compute in", stacklevel=3)
        return proto


def weights_of(layer: Layer, kind: str) -> dict[str, Array]:
    """Return W (G·H, D), R (G·H, H), with bias B (2·G·H,) and with peepholes P (3·H,) in ONNX's order of gates."""
    order = ORDER[kind]
    found = {"W": parts.reordered(layer.W_xh.data, order).T, "R": parts.reordered(layer.W_hh.data, order).T}
    if layer.b_h is not None:
        of_input = parts.reordered(layer.b_h.data, order)
        of_state = np.zeros_like(of_input)
        if getattr(layer, "b_hn", None) is not None:
            of_state[-layer.hidden_size :] = layer.b_hn.data  # type: ignore[union-attr]
        found["B"] = np.concatenate([of_input, of_state])
    if isinstance(layer, LSTMLayer) and layer.peepholes:
        found["P"] = parts.reordered(layer.w_c.data, OF_PEEPHOLES)
    return found
