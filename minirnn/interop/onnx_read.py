"""Models in from ONNX: the graph is walked once, and nothing in it is run.

Each value of the graph is one of three: a constant; what has come of the input x, and through which layers; or what
only says where a sequence starts, how long it is, or of which shape something is.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from minirnn.arguments import Array
from minirnn.interop import parts
from minirnn.interop.onnx_file import numbers, parsed
from minirnn.interop.onnx_layers import KINDS, Aux, Layers, Seq
from minirnn.interop.parts import InteropError
from minirnn.layers import Embedding, Linear, SequenceModel, Sequential
from minirnn.layers.layer import Layer

_NODES = 20_000
_SHAPES = {"Slice", "Concat", "Unsqueeze", "Squeeze", "Reshape", "Transpose", "Gather", "Cast", "Identity", "Expand"}
_SHAPES |= {"Shape", "Mul", "Add", "Sub", "Div"}
"""What may be made of shapes and of states before the first step."""


def from_onnx(source: Any) -> Any:
    """Make a model of an ONNX graph of RNN, LSTM and GRU, with an embedding before and linear maps after them.

    Parameters
    ----------
    source : path, bytes or onnx.ModelProto
        External data are read from the file's own folder alone.

    Returns
    -------
    Layer, Bidirectional, Stacked or SequenceModel
        With ``model.report``; it is ``batch_first`` where the graph turns (N, T, …) round, or has layout=1.

    Raises
    ------
    InteropError
        For any node that has no equal here, and for what is damaged, too large, or reads elsewhere. Nothing is run.
    ImportError
        Without the extra ``onnx``.

    Notes
    -----
    The two biases are summed, but for the block of h of a GRU with ``linear_before_reset``. A constant state before the
    first step is read as one that has been learned.
    """
    onnx = parts.package("onnx", "onnx", "from_onnx")
    proto, folder = (source, None) if hasattr(source, "graph") else parsed(onnx, source)
    try:
        return _Reader(onnx, proto, folder).model()
    except InteropError:
        raise
    except Exception as error:  # attributes of another kind, axes that are not there: a graph may hold anything
        raise InteropError(f"from_onnx: the graph is not one of ONNX's ({error})") from error


class _Reader(Layers):
    def __init__(self, onnx: Any, proto: Any, folder: Path | None) -> None:
        super().__init__()
        self.onnx, self.folder, self.graph = onnx, folder, proto.graph
        self.values: dict[str, Any] = {}
        if len(self.graph.node) > _NODES:
            self.refuse(f"it has {len(self.graph.node):,} nodes, of at most {_NODES:,}")
        if proto.functions or self.graph.sparse_initializer:
            self.refuse("functions of its own and sparse arrays are not read")

    def model(self) -> Any:
        """Walk the graph, and put together what its outputs are."""
        for tensor in self.graph.initializer:
            self.constants[tensor.name] = self.array(tensor)
        data = self._data()
        for value in self.graph.input:
            if value.name not in self.constants:
                rank = len(value.type.tensor_type.shape.dim)
                if value.name == data and rank not in (2, 3):
                    self.refuse(f"its input {data!r} must have three axes, or two for ids, got {rank}")
                axes = (0, 1) if rank == 2 else (0, 1, "D")
                self.values[value.name] = Seq(axes) if value.name == data else Aux("given")
        for node in self.graph.node:
            if node.domain not in ("", "ai.onnx"):
                self.refuse(f"it is of another domain, {node.domain!r}", node)
            inputs = [self._value(name, node) for name in node.input]
            attributes = {a.name: self._attribute(a, node) for a in node.attribute}
            results = self._run(node, inputs, attributes)
            for name, value in zip(node.output, results if isinstance(results, list) else [results], strict=False):
                if isinstance(value, np.ndarray):
                    self.constants[name] = value
                else:
                    self.values[name] = value
        return self._assembled()

    def _data(self) -> str:
        """Return the input that the first layer reads: walk back from there."""
        made_by = {name: node for node in self.graph.node for name in node.output}
        first = next((node for node in self.graph.node if node.op_type in KINDS), None)
        if first is None:
            self.refuse("there is no RNN, LSTM or GRU in it")
        name = first.input[0]
        for _ in self.graph.node:
            if name not in made_by:
                break
            node = made_by[name]
            name = node.input[node.op_type == "Gather"] if len(node.input) > (node.op_type == "Gather") else ""
        return str(name)

    def _value(self, name: str, node: Any) -> Any:
        if not name:
            return None
        if name in self.constants:
            return name
        if name not in self.values:
            self.refuse(f"its input {name!r} is made nowhere before", node)
        return self.values[name]

    def _attribute(self, attribute: Any, node: Any) -> Any:
        kinds = self.onnx.AttributeProto
        if attribute.type == kinds.TENSOR:
            return self.array(attribute.t)
        if attribute.type not in (kinds.FLOAT, kinds.INT, kinds.STRING, kinds.FLOATS, kinds.INTS, kinds.STRINGS):
            self.refuse(f"its attribute {attribute.name} is a graph or something else that is not read", node)
        value = self.onnx.helper.get_attribute_value(attribute)
        return value.decode("utf-8", "replace") if isinstance(value, bytes) else value

    def array(self, tensor: Any) -> Array:
        """Return the numbers of a tensor."""
        try:
            return numbers(self.onnx, tensor, self.folder)
        except Exception as error:  # onnx's own kinds among them
            self.refuse(f"the array {tensor.name[:80]!r} cannot be read: {error}")

    # --- nodes -------------------------------------------------------------------------------------------------------

    def _run(self, node: Any, inputs: list[Any], attributes: dict[str, Any]) -> Any:
        op = node.op_type
        if op in KINDS:
            return self.recurrent(node, inputs, attributes)
        if op == "Constant":
            if len(attributes) != 1:
                self.refuse("it must hold one value", node)
            return np.asarray(next(iter(attributes.values())))
        first = inputs[0] if inputs else None
        moved = [value for value in inputs if isinstance(value, Seq)]
        if op == "Dropout" and len(inputs) < 3:  # a third input could switch it on
            return first
        if op == "Shape":
            return Aux()
        if op == "Concat" and moved:
            return self._concatenated(node, inputs, attributes)
        if moved:
            found = self._of_input(node, inputs, attributes)
        elif op == "ConstantOfShape":
            found = Aux("zeros") if not np.any(attributes.get("value", 0)) else None
        elif op == "Expand" and isinstance(first, str):
            found = Aux("row", first) if self.constants[first].any() else Aux("zeros")
        elif op in _SHAPES and any(isinstance(value, Aux) for value in inputs):
            found = self._of_states(op, inputs, attributes)
        elif all(isinstance(value, str | None) for value in inputs):
            found = self._folded(op, [self.constants[v] for v in inputs if v is not None], attributes)
        else:
            found = None
        if found is None:
            self.refuse("nothing in minirnn corresponds to it here", node)
        return found

    def _folded(self, op: str, arrays: list[Array], attributes: dict[str, Any]) -> Array | None:
        """Return what a node makes of constants, where that is no more than another order of the same numbers."""
        a, *others = arrays
        axes = tuple(others[0].tolist()) if others and others[0].ndim == 1 else attributes.get("axes")
        if op in ("Identity", "Cast"):
            return a
        if op == "Transpose":
            return a.transpose(attributes.get("perm"))
        if op == "Reshape" and others[0].size < 10:
            return a.reshape([a.shape[i] if n == 0 else n for i, n in enumerate(others[0])])
        if op in ("Unsqueeze", "Squeeze") and axes:
            return np.expand_dims(a, axes) if op == "Unsqueeze" else a.squeeze(axes)
        if op == "Concat" and sum(b.size for b in arrays) <= sum(b.size for b in self.constants.values()) < 2**28:
            return np.concatenate(arrays, attributes["axis"])
        return None

    def _of_states(self, op: str, inputs: list[Any], attributes: dict[str, Any]) -> Any:
        """Return what is made of shapes, and of states before the first step or after the last one."""
        known = [value for value in inputs if isinstance(value, Aux)]
        finals = tuple(f for value in known for f in value.finals)
        if finals:
            if op == "Gather" and isinstance(inputs[1], str) and attributes.get("axis", 0) == 0:
                return self._picked(finals, int(self.constants[inputs[1]]))
            return known[0]._replace(finals=finals) if op in ("Concat", "Identity") else None
        starts = {value.start for value in known} - {"shape"}
        if op == "Slice" or len(starts) < 2:
            return next((value for value in known if value.start != "shape"), known[0])
        return None

    def _of_input(self, node: Any, inputs: list[Any], attributes: dict[str, Any]) -> Any:
        """Return what a node makes of what has come of the input; None for what has no equal."""
        op, first = node.op_type, inputs[0]
        second = self.constants.get(inputs[1]) if len(inputs) > 1 and isinstance(inputs[1], str) else None
        if op == "Gather" and isinstance(first, str) and inputs[1].axes == (0, 1) and not attributes.get("axis", 0):
            weight = self.arrays.take(first, None, None)
            return Seq((0, 1, "D"), embedding=parts.made_plain(self.arrays, Embedding, {"weight": (weight, first)}))
        if op in ("MatMul", "Gemm", "Add"):
            return self._linear(op, node, inputs, attributes)
        if not isinstance(first, Seq):
            return None
        axes = first.axes
        floats = "D" in axes
        if (
            op == "Identity"
            or (op == "Clip" and not floats)
            or (op == "Cast" and (attributes["to"] in (1, 11)) == floats)
        ):
            return first
        if op == "Transpose":
            perm = attributes.get("perm", range(len(axes))[::-1])
            return first._replace(axes=tuple(axes[i] for i in perm)) if sorted(perm) == [*range(len(axes))] else None
        both = bool(first.levels) and self._directions(first) == 2 and first.way is None
        if op == "Squeeze":
            which = attributes.get("axes") if second is None else np.ravel(second).tolist()
            if which is None or len(which) != 1 or which[0] >= len(axes) or axes[which[0]] != "d" or both:
                return None
            return first._replace(axes=tuple(a for a in axes if a != "d"))
        if op == "Reshape" and "d" in axes:  # the directions side by side
            rank = len(second) if second is not None else len(axes) - 1
            side_by_side = axes[-2:] == ("d", "D") or not both
            return (
                first._replace(axes=tuple(a for a in axes if a != "d")) if side_by_side and rank < len(axes) else None
            )
        if op == "Gather" and second is not None and second.ndim == 0:
            axis, index = attributes.get("axis", 0), int(second)
            if axes[axis] == "d" and first.last:
                return self._picked((first,), index)
            time = axes[axis] == self.time(first) and index == -1 and "d" not in axes
            if time and first.levels[-1].reverse is False and not first.ragged and not first.last:
                return first._replace(axes=tuple(a for i, a in enumerate(axes) if i != axis), last=True)
        return None

    def _directions(self, seq: Seq) -> int:
        return 1 if hasattr(seq.levels[-1], "W_xh") else 2

    def _picked(self, finals: Sequence[Seq], index: int) -> Any:
        """Return one of the final states that stand one after the other, a direction each."""
        each = [(f, way) for f in finals for way in range(self._directions(f))]
        if not -len(each) <= index < len(each):
            return None
        seq, way = each[index]
        return seq._replace(
            axes=tuple(a for a in seq.axes if a != "d"), way=way if self._directions(seq) == 2 else None
        )

    def _concatenated(self, node: Any, inputs: list[Any], attributes: dict[str, Any]) -> Any:
        """Join two directions to a Bidirectional, or line final states up."""
        if not all(isinstance(value, Seq) for value in inputs):
            self.refuse("it joins what has come of the input with something else", node)
        a, *others = inputs
        if all(v.last and v.axes[0] == "d" for v in inputs) and attributes.get("axis") == 0:
            return Aux("final", finals=tuple(inputs))
        if len(others) == 1 and attributes.get("axis") in (-1, len(a.axes) - 1) and a.axes[-1] == "D":
            b = others[0]
            if a.levels == b.levels and (a.way, b.way) == (0, 1):
                return a._replace(way=None)
            k = next((i for i, (p, q) in enumerate(zip(a.levels, b.levels, strict=False)) if p is not q), 0)
            alike = a._replace(levels=(), ragged=False) == b._replace(levels=(), ragged=False)
            if a.levels[k:] and b.levels[k:] and alike and not a.heads and a.way is None:
                pair = [parts.assembled([[level] for level in v.levels[k:]]) for v in (a, b)]
                if [layer.reverse for layer in pair] == [False, True]:
                    return a._replace(levels=(*a.levels[:k], parts.assembled([pair])), ragged=a.ragged or b.ragged)
        return self.refuse(
            "it joins what minirnn does not: only a forward and a backward direction, in this order", node
        )

    def _linear(self, op: str, node: Any, inputs: list[Any], attributes: dict[str, Any]) -> Any:
        """Return the input after a linear map; a bias that is added makes one with the product before it."""
        names = [value for value in inputs if isinstance(value, str)]
        (seq, *others) = [value for value in inputs if isinstance(value, Seq)]
        if others or not names or seq.axes[-1] != "D" or "d" in seq.axes or not seq.levels or seq.way is not None:
            return None
        if op == "Add":
            if not seq.products or self.constants[names[0]].ndim != 1:
                return None
            weight, bias = seq.heads[-1][0], names[0]
            return seq._replace(heads=(*seq.heads[:-1], (weight, bias, False)), products=0)
        if (
            inputs[0] is not seq
            or attributes.get("transA")
            or {attributes.get(k, 1.0) for k in ("alpha", "beta")} != {1.0}
        ):
            return None
        head = names[0], names[1] if op == "Gemm" and len(names) > 1 else None, bool(attributes.get("transB"))
        if head[2]:
            self.constants[f"{head[0]} transposed"] = self.constants[head[0]].T
            head = f"{head[0]} transposed", head[1], False
        return seq._replace(heads=(*seq.heads, head), products=int(head[1] is None))

    # --- the whole ---------------------------------------------------------------------------------------------------

    def _assembled(self) -> Any:
        values = [(out.name, self._value(out.name, None)) for out in self.graph.output]
        reached = [(n, v) for n, v in values if isinstance(v, Seq)]
        reached += [(n, f) for n, v in values if isinstance(v, Aux) for f in v.finals]
        if not reached:
            self.refuse("none of its outputs comes of the input")

        def leaves(v: Seq) -> set[int]:
            return {id(layer) for level in v.levels for _, layer in parts.modules_of(level) if isinstance(layer, Layer)}

        name, best = max(reached, key=lambda pair: (len(pair[1].heads), len(pair[1].levels), not pair[1].last))
        for other, v in reached:
            if not leaves(v) <= leaves(best) or v.heads not in ((), best.heads):
                self.refuse(f"its outputs {name!r} and {other!r} are of different models")
        time = self.time(best)
        order = [a for a in best.axes if a != "d"]
        if best.way is not None or order != ([1 - time, "D"] if best.last else [0, 1, "D"]):
            self.refuse(f"its output {name!r} has other axes than its input, or one direction alone")
        if "d" in best.axes and not best.heads:
            self.report.assumed.append(f"{name} has an axis for its directions; here they stand side by side")
        model = parts.assembled([[level] for level in best.levels])
        if best.heads:
            heads = [self._head(*head) for head in best.heads]
            head = heads[0] if len(heads) == 1 else Sequential(*heads)
            model = SequenceModel(model, head, "last" if best.last else "all", embedding=best.embedding)
        elif best.embedding is not None:
            self.refuse("it has an embedding and no head: minirnn has no model of these alone")
        return self.report.closed(model)

    def _head(self, weight: str, bias: str | None, _: bool) -> Linear:
        array = self.arrays.take(weight, None, None)
        found = {"weight": (array, weight)}
        if bias is not None:
            found["bias"] = self.arrays.take(bias, array.shape[1]), bias
        return parts.made_plain(self.arrays, Linear, found)  # type: ignore[no-any-return]
