"""The layers of an ONNX graph: what a node of RNN, LSTM or GRU becomes, and what refuses it."""

from typing import Any, NamedTuple, NoReturn

import numpy as np

from minirnn.arguments import Array, one_of
from minirnn.interop.onnx_write import ACTIVATIONS, OF_PEEPHOLES, OPS, ORDER
from minirnn.interop.parts import Arrays, InteropError, Report, assembled, listed, made, reordered

KINDS = {op: kind for kind, op in OPS.items()}
_PHI = {name.lower(): phi for phi, name in ACTIVATIONS.items()}


class Seq(NamedTuple):
    """What has come of the input; its axes are those of the input by number, "D" features, "d" directions."""

    axes: tuple[Any, ...]
    levels: tuple[Any, ...] = ()
    embedding: Any = None
    heads: tuple[Any, ...] = ()
    last: bool = False  # the state after the last step, not every step
    way: int | None = None  # which one of two directions, if not both
    ragged: bool = False
    products: int = 0  # of the heads, those whose bias may still come


class Aux(NamedTuple):
    """A shape, lengths, or a state: of zeros, of the same ``row`` for each, given, or final ones, one after another."""

    start: str = "shape"
    row: str = ""
    finals: tuple[Seq, ...] = ()


class Layers:
    """The constants of a graph, and layers made of them."""

    def __init__(self) -> None:
        self.report = Report()
        self.constants: dict[str, Array] = {}
        self.arrays = Arrays(self.constants, "from_onnx", self.report)

    def refuse(self, fault: str, node: Any = None) -> NoReturn:
        """Raise an InteropError that names the node."""
        where = f"node {node.name or listed(node.output, 1)} ({node.op_type}): " if node is not None else ""
        raise InteropError(f"from_onnx: {where}{fault}")

    def time(self, seq: Seq) -> int:
        """Return which axis of the input is time."""
        return int(bool(seq.levels) and seq.levels[-1].batch_first)

    def recurrent(self, node: Any, inputs: list[Any], attributes: dict[str, Any]) -> Any:
        """Return [Y, Y_h, Y_c] of a node."""
        kind = KINDS[node.op_type]
        x, W, R, B, lengths, *more = [*inputs, *[None] * (8 - len(inputs))][:8]
        states, peepholes = more[: 1 + (kind == "lstm")], more[2] if kind == "lstm" else None
        if not isinstance(x, Seq) or x.heads or x.last or len(x.axes) != 3 or x.axes[2] != "D":
            self.refuse("what it reads is neither the input nor the outputs of another layer", node)
        if not all(isinstance(v, str) for v in (W, R)) or not all(isinstance(v, str | None) for v in (B, peepholes)):
            self.refuse("its weights must be constants: initializers or Constant nodes", node)
        if isinstance(lengths, str):
            self.refuse("its sequence_lens are fixed: they must be an input of the graph", node)
        layout = attributes.pop("layout", 0)
        time = x.axes[layout == 1]
        if x.axes[:2] not in ((0, 1), (1, 0)) or (x.levels and time != self.time(x)):
            self.refuse("it reads time where the layers below read rows", node)
        ways = {"forward": [False], "reverse": [True], "bidirectional": [False, True]}
        direction = one_of(attributes.pop("direction", "forward"), [*ways], "from_onnx: direction")
        settings = self._settings(node, kind, attributes, len(ways[direction]))
        layers = [
            self._layer(kind, (W, R, B, peepholes), (len(settings), way), states, node)(
                reverse=reverse, batch_first=time == 1, **own
            )
            for way, (reverse, own) in enumerate(zip(ways[direction], settings, strict=True))
        ]
        levels = (*x.levels, assembled([layers]))
        axes: tuple[Any, ...] = (x.axes[0], "d", x.axes[1], "D") if not layout else (*x.axes[:2], "d", "D")
        after = Seq(axes, levels, x.embedding, ragged=x.ragged or lengths is not None)
        final = after._replace(axes=tuple(a for a in axes if a != time), last=True)
        return [after, final, Aux("final c")]

    def _settings(self, node: Any, kind: str, attributes: dict[str, Any], ways: int) -> list[dict[str, Any]]:
        """Return what each direction's layer is made with; refuse what minirnn has not."""
        attributes.pop("hidden_size", None)  # the arrays say
        names = [str(n.decode() if isinstance(n, bytes) else n).lower() for n in attributes.pop("activations", [])]
        usual = {"elman": ["tanh"], "lstm": ["sigmoid", "tanh", "tanh"], "gru": ["sigmoid", "tanh"]}[kind] * ways
        alpha, beta = (attributes.pop(f"activation_{k}", []) for k in ("alpha", "beta"))
        before = not attributes.pop("linear_before_reset", 0) if kind == "gru" else False
        if other := [k for k, v in attributes.items() if v or k == "clip"]:  # runtimes clip to 0 as well
            self.refuse(f"its {listed(other)} has no equal here", node)
        names = names or usual
        if len(names) != len(usual) or (kind != "elman" and names != usual) or not {*names} <= {*_PHI, "sigmoid"}:
            self.refuse(f"its activations {names} have no equal here", node)
        if "affine" in names and (set(alpha) != {1.0} or set(beta) - {0.0}):  # without, runtimes differ
            self.refuse(f"its activations {names} with alpha {alpha} and beta {beta} have no equal here", node)
        if kind == "elman":
            return [{"activation": _PHI[name]} for name in names]
        return [{"reset_after": not before} if kind == "gru" else {}] * ways

    def _layer(self, kind: str, weights: Any, place: tuple[int, int], states: list[Any], node: Any) -> Any:
        """Return what makes the layer of one direction."""
        (W, R, B, P), (ways, way), order = weights, place, np.argsort(ORDER[kind]).tolist()
        G = len(order)
        H = self.arrays.take(R, ways, None, None).shape[2]
        found = {
            "W_xh": (reordered(self.arrays.take(W, ways, G * H, None)[way], order, 0).T, f"{W}[{way}]"),
            "W_hh": (reordered(self.arrays.take(R, ways, G * H, H)[way], order, 0).T, f"{R}[{way}]"),
        }
        after = any(a.name == "linear_before_reset" and a.i for a in node.attribute)
        if B is not None:
            of_input, of_state = (reordered(b, order) for b in np.split(self.arrays.take(B, ways, 2 * G * H)[way], 2))
            self.report.summed.append(f"the two halves of {B}[{way}]" + ", but for the block of h" * after)
            if after and kind == "gru":
                found["b_hn"] = of_state[2 * H :], f"{B}[{way}]"
                of_state = np.concatenate([of_state[: 2 * H], np.zeros_like(of_state[2 * H :])])
            found["b_h"] = of_input + of_state, f"{B}[{way}]"
        if P is not None:
            found["w_c"] = reordered(self.arrays.take(P, ways, 3 * H)[way], OF_PEEPHOLES), f"{P}[{way}]"
        for letter, state in zip("hc", states, strict=False):
            if isinstance(state, Seq):
                self.refuse("it starts from what has come of the input", node)
            start = self._start(state, ways, way, H, node)
            if start is not None:
                found[f"{letter}_0"] = start
        if "c_0" in found or ("h_0" in found and kind == "lstm"):
            zeros = np.zeros(H, found["W_hh"][0].dtype), "nothing: it is 0"
            found = {"h_0": zeros, "c_0": zeros} | found
        return lambda **settings: made(self.arrays, kind, found, **settings)

    def _start(self, state: Any, ways: int, way: int, H: int, node: Any) -> tuple[Array, str] | None:
        """Return the row that every sequence starts from; None for zeros and for what the caller gives."""
        name = state.row if isinstance(state, Aux) else state
        if isinstance(state, Aux) and state.start == "given":
            self.report.assumed.append("its states before the first step are inputs: pass them as initial_state")
        if not name or not self.constants[name].any():
            return None
        rows = self.constants[name].reshape(-1, H)
        each = len(rows) // ways
        mine = rows[way * each : (way + 1) * each]
        if len(rows) % ways or (mine != mine[0]).any():
            self.refuse("it starts from another state in each row", node)
        self.arrays.take(name, *self.constants[name].shape)
        return mine[0], name
