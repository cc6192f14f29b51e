"""Who can be compared: names for the command line and the tables. Loads nothing, so that names are checked first."""

from typing import NamedTuple


class Peer(NamedTuple):
    """A contestant beside minirnn.

    Attributes
    ----------
    name : as given to ``--peers``
    label : as shown in tables
    packages : what has to be installed
    by_op : bool
        Whether it records the loop op by op: slower by so much that it gets fewer turns.
    """

    name: str
    label: str
    packages: tuple[str, ...]
    by_op: bool = False


FLOOR = Peer("floor", "bare products", ("minirnn",))
TORCH = Peer("torch", "torch.nn.RNN", ("torch",))
JAX = Peer("jax", "jax.lax.scan", ("jax",))
ONNX = Peer("onnxruntime", "onnxruntime", ("onnxruntime", "onnx"))
GRAPH = Peer("graph", "minirnn, graph", ("minirnn",), by_op=True)
EAGER = Peer("torch-eager", "torch eager", ("torch",), by_op=True)
AUTOGRAD = Peer("autograd", "HIPS autograd", ("autograd",), by_op=True)
MYGRAD = Peer("mygrad", "MyGrad", ("mygrad",), by_op=True)
UNGUARDED = Peer("mygrad-unguarded", "MyGrad (unguarded)", ("mygrad",), by_op=True)

ONE_THREAD = Peer("one-thread", "minirnn, one thread", ("minirnn",))  # only beside minirnn on several

MINIRNN = "minirnn"  # takes part in everything; the others are divided by it

PEERS: dict[str, tuple[Peer, ...]] = {  # command -> who can take part
    "layer": (ONE_THREAD, FLOOR, TORCH, JAX, GRAPH, EAGER, AUTOGRAD, MYGRAD),
    "ragged": (TORCH,),
    "forward": (FLOOR, TORCH, JAX, ONNX),
    "step": (TORCH, JAX),
    "stream": (TORCH, JAX),
    "door": (),
    "cold": (TORCH,),
    "slope": (TORCH, JAX),
    "trace": (),
    "tape": (EAGER, AUTOGRAD, MYGRAD, UNGUARDED),
}


CELLS = {"elman": "torch.nn.RNN", "lstm": "torch.nn.LSTM", "gru": "torch.nn.GRU"}  # cell -> what it is called in torch
OF_GATED = (ONE_THREAD, FLOOR, TORCH, JAX, GRAPH)  # who can take part in ``layer`` with --cell lstm or gru


def of(command: str, cell: str | None) -> tuple[Peer, ...]:
    """Return who can take part in a command with this cell, torch's layer called by its name."""
    peers = OF_GATED if command == "layer" and cell != "elman" else PEERS[command]
    return tuple(peer._replace(label=CELLS[cell]) if peer == TORCH and cell else peer for peer in peers)


def choose(command: str, cell: str | None, text: str) -> tuple[Peer, ...]:
    """Return the peers that a list such as ``torch,jax`` names, in the roster's order.

    Raises
    ------
    ValueError
        For a name that is not known to this command, or not with this cell.
    """
    known = {peer.name: peer for peer in of(command, cell)}
    wanted = [name.strip() for name in text.split(",")]
    for name in wanted:
        if name not in known:
            unknown = (
                f"peer {name!r} has no {cell}" if name in {p.name for p in PEERS[command]} else f"unknown peer {name!r}"
            )
            raise ValueError(f"{command}: {unknown}: known are {', '.join(known)}")
    return tuple(peer for name, peer in known.items() if name in wanted)
