"""Everything travels: through pickle, copy.deepcopy and to a spawned process, and does there what it would do here.

What there is to try is found by walking the package's public names: a schedule, an initialiser, a stop rule, a
callback, an optimiser or a task that is added is tried by itself; a layer wants a case in `MODULES`.
"""

import collections.abc
import copy
import inspect
import itertools
import multiprocessing
import pickle
import types
import typing
from functools import partial

import numpy as np
import pytest

import minirnn as mr
from minirnn.kernels.cells import ACTIVATIONS
from minirnn.optim import Optimizer
from minirnn.training import Checkpointing, History, schedules

WAYS = {f"pickle {p}": lambda thing, p=p: pickle.loads(pickle.dumps(thing, p)) for p in (2, 5)}
WAYS["deepcopy"] = copy.deepcopy


# --- what a user brings -----------------------------------------------------------------------------------------------


def softsign(z):
    return z / (1 + abs(z))


def softsign_slope(y):
    return (1 - abs(y)) ** 2


def note(history):
    history.record("noted", history.updates)


def halve(gradient):
    return 0.5 * gradient


def squares(outputs):
    return (outputs**2).sum()


class Leaky(mr.Cell):
    def equation(self, z, h):
        return (0.9 * h + 0.1 * mr.tanh(z),)


class Tied(mr.Module):
    """Two layers with one weight, and one module under two names."""

    def __init__(self):
        super().__init__()
        self.first, self.second = mr.Linear(4, 4, rng=0), mr.Linear(4, 4, rng=1)
        self.second.weight = self.first.weight
        self.third = self.second

    def forward(self, x):
        return self.third(self.second(self.first(x)))


# --- what there is ----------------------------------------------------------------------------------------------------


def public(module=mr):
    """Yield (name, object) of all that is public in the package, modules excepted."""
    names = getattr(module, "__all__", None)
    for name in names or [name for name in vars(module) if not name.startswith("_")]:
        value = getattr(module, name)
        if isinstance(value, types.ModuleType):
            if names and value.__name__.startswith("minirnn"):
                yield from public(value)
        elif (inspect.isroutine(value) or inspect.isclass(value)) and (names or value.__module__ == module.__name__):
            yield f"{module.__name__}.{name}", value


PUBLIC = dict(public())
CLASSES = list(dict.fromkeys(value for value in PUBLIC.values() if inspect.isclass(value)))  # in a fixed order


def made_by(kind):
    """Return the functions that return a callable with such arguments, by name."""
    found = {}
    for name, value in PUBLIC.items():
        if inspect.isfunction(value):
            hint = typing.get_type_hints(value).get("return")
            if typing.get_origin(hint) is collections.abc.Callable and typing.get_args(hint)[0] == kind:
                found[name] = value
    return found


ARGUMENTS = {
    "updates": 4, "every": 3, "to": 0.1, "factor": 0.5, "then": schedules.cosine(5, 0.2), "action": note, "at": [3, 9],
    "name": "held-out loss", "patience": 2, "min_delta": 0.01, "task": mr.tasks.AddingTask(T=5),
    "value": 0.3, "std": 0.2, "mean": 0.1, "low": -1.0, "high": 1.0, "radius": 0.9, "initializer": "orthogonal",
    "message": "said", "history": None, "pid": 7, "host": "here",
}  # fmt: skip
"""By the names of parameters."""


def call(function):
    """Call with `ARGUMENTS`."""
    parameters = inspect.signature(function).parameters.values()
    lacking = [p.name for p in parameters if p.name not in ARGUMENTS and p.default is p.empty]
    assert not lacking, f"{function.__qualname__} takes {lacking}: give a value in ARGUMENTS"
    return function(**{p.name: ARGUMENTS[p.name] for p in parameters if p.name in ARGUMENTS})


# --- what it does -----------------------------------------------------------------------------------------------------


def initialises(initializer):
    return initializer((4, 4), np.random.default_rng(3))


def schedules_rates(schedule):
    if schedule.func.__name__ == "_plateau":
        return [schedule([(k, 0.5) for k in range(update)]) for update in range(20)]
    return [schedule(update) for update in range(20)]


def decides(rule):
    """Ask a stop rule, or call a callback, after every update of a training."""
    history, said = History(), []
    for update, loss in enumerate((3.0, 2.0, 2.5, 2.1, 2.2, 0.0, 0.0)):
        history.append(loss, 1.0, update)
        history.record("held-out loss", loss)
        said.append(rule(history))
    return said, history.evaluations


def draws(task):
    if isinstance(task, mr.tasks.TextTask):
        batches = list(itertools.islice(task.streams(4, 9, 1), 3))
        return batches, next(task.evaluation_streams(4, 9)), task.baseline, task.vocabulary
    assert not any(a.flags.writeable for part in ("train", "held_out") for a in getattr(task, part, ()))
    return task.batch(3, 0), list(itertools.islice(task.batches(3, 1), 2)), task.evaluation_batch(5), repr(task)


def goes_on(iterator):
    return [next(iterator) for _ in range(3)]


def inputs(module):
    rng = np.random.default_rng(4)
    if isinstance(module, mr.Embedding | mr.OneHot) or getattr(module, "embedding", None):
        return rng.integers(4, size=(6, 2))
    return rng.normal(size=(6, 2, 4)).astype(np.float32)


def runs(module):
    """Run forward and backward, with whatever is drawn, twice, and say what it is."""
    found = [repr(module), list(module.state_dict())]
    for _ in range(2):
        x = inputs(module)
        x = x if x.dtype.kind == "i" else mr.Tensor(x, requires_grad=True)
        outputs, *state = module(x) if module.carries_state else (module(x),)
        if outputs.requires_grad:  # of rows of zeros and ones there is nothing to train
            (outputs**2).sum().backward()
        states = [s.numpy() for s in leaves(state)]
        found += [outputs.numpy(), states, getattr(x, "grad", None), [p.grad for p in module.parameters()]]
    return found


def leaves(state):
    return [t for part in state for t in leaves(part)] if isinstance(state, tuple | list) else [state]


def trains(pair):
    """Step with the gradients that are there, then make one more update."""
    model, optimizer = pair
    assert all(p is q for p, q in zip(model.parameters(), optimizer.params, strict=True))
    found = [optimizer.step(), [p.data.copy() for p in model.parameters()]]
    backward(model, optimizer)
    optimizer.step()
    return [*found, [p.data for p in model.parameters()], optimizer.state_dict()]


def steps(optimizer):
    return [optimizer.step(), [p.data for p in optimizer.params], optimizer.state_dict()]


def backward(model, optimizer):
    optimizer.zero_grad()
    (model(inputs(model)).outputs ** 2).sum().backward()


def remembers(history):
    history.append(1.0, 0.5, 9.0, {"accuracy": 0.5})
    return vars(history), history.chart(), history.clipped


def shows(thing):
    return repr(thing)


def traces(trace):
    return [trace.dL_dh, trace.dL_dz, trace.credit().norms, repr(trace)]


def is_tied(model):
    assert model.first.weight is model.second.weight
    assert model.second is model.third
    assert len(model.parameters()) == 3
    return runs(model)


def fails(error):
    return type(error).__name__, str(error), {name: str(value) for name, value in vars(error).items()}


# --- the cases: what it does, and how it is made ----------------------------------------------------------------------


def recurrent(make=mr.RecurrentLayer, **settings):
    return partial(make, 4, settings.pop("H", 4), **{"rng": 5, **settings})


def sequence_model():
    return mr.SequenceModel(recurrent(mr.GRULayer)(), mr.Linear(4, 2, rng=6), embedding=mr.Embedding(4, 4, rng=7))


def hooked():
    layer = recurrent()()
    layer.W_hh.register_hook(halve)
    layer.b_h.requires_grad = False
    return layer


MODULES = {
    "Linear": lambda: mr.Linear(4, 3, rng=5),
    "LayerNorm": lambda: mr.LayerNorm(4),
    "Embedding": lambda: mr.Embedding(4, 3, rng=5),
    "OneHot": lambda: mr.OneHot(4),
    "Dropout": lambda: mr.Dropout(0.5, rng=5),
    "Sequential": lambda: mr.Sequential(mr.Linear(4, 3, rng=5), mr.Dropout(0.5, rng=5)),
    **{name: recurrent(activation=name) for name in ACTIVATIONS},
    "graph": recurrent(backend="graph"),
    "irnn": recurrent(activation="relu", init="irnn"),
    "functions": recurrent(activation=(softsign, softsign_slope)),
    "functions, graph": recurrent(activation=(softsign, softsign_slope), backend="graph"),
    "cell": recurrent(cell=Leaky(), backend="graph"),
    "options": recurrent(recurrent_dropout=0.5, learn_initial_state=True, message_clip=0.1, remat=True, reverse=True),
    "float64": recurrent(dtype=np.float64, bias=False, recurrent_initializer=mr.init.spectral(0.9)),
    "LSTM": recurrent(mr.LSTMLayer, recurrent_dropout=0.5),
    "GRU": recurrent(mr.GRULayer),
    "GRU, reset before": recurrent(mr.GRULayer, reset_after=False, backend="graph"),
    "Stacked": lambda: mr.Stacked([recurrent()(), recurrent(mr.LSTMLayer)()], dropout=0.5, rng=8),
    "Bidirectional": lambda: mr.Bidirectional(recurrent()(), recurrent(mr.GRULayer, reverse=True)()),
    "SequenceModel": sequence_model,
    "hook": hooked,
}


def in_training(kind):
    """Make a model and its optimiser that have made two updates and stand before the third step."""
    model = recurrent(mr.LSTMLayer, recurrent_dropout=0.5)()
    optimizer = kind(model.parameters(), lr=0.1)
    optimizer.lr = 0.05
    for _ in range(2):
        backward(model, optimizer)
        optimizer.step()
    backward(model, optimizer)
    return model, optimizer


def task(name):
    try:
        return mr.tasks.TASKS[name]()
    except ImportError as error:
        pytest.skip(str(error))


def in_mid_stream(batches):
    next(batches)
    return batches


def history():
    made = History()
    made.clip_norm = 1.0
    for update in range(3):
        made.append(3.0 - update, update, update, {"accuracy": 0.1})
        made.record("held-out", update)
    return made


TEXT = "the cat sat on the mat. the rat sat on the cat. " * 5
CASES = {
    **{f"layer: {name}": (runs, make) for name, make in MODULES.items()},
    **{
        f"{kind.__name__} with its model": (trains, partial(in_training, kind))
        for kind in CLASSES
        if issubclass(kind, Optimizer) and kind is not Optimizer
    },
    "Adam, alone": (steps, lambda: in_training(mr.optim.Adam)[1]),
    **{
        name: (does, partial(call, make))
        for kind, does in (
            ([mr.init.Shape, np.random.Generator], initialises),
            ([int], schedules_rates),
            ([History], decides),
        )
        for name, make in made_by(kind).items()
    },
    **{f"preset: {name}": (initialises, partial(mr.init.PRESETS.get, name)) for name in mr.init.PRESETS},
    **{f"task: {name}": (draws, partial(task, name)) for name in mr.tasks.TASKS},
    "batches": (goes_on, lambda: in_mid_stream(mr.tasks.ParityTask().batches(3, 0))),
    "streams": (goes_on, lambda: in_mid_stream(mr.tasks.TextTask(TEXT).streams(2, 5, 0))),
    "History": (remembers, history),
    "Checkpointing": (shows, lambda: Checkpointing("run", 50, resume=True, settings={"hidden": 3})),
    "CheckpointDirectory": (shows, lambda: mr.checkpoints.CheckpointDirectory("run", keep=2)),
    "count": (shows, lambda: mr.LSTMLayer(3, 4).count()),
    "trace": (traces, lambda: mr.bptt.trace(recurrent()(), inputs(None), squares)),
    "tied": (is_tied, Tied),
    **{
        name: (fails, partial(call, kind) if "__init__" in vars(kind) else partial(kind, "said"))
        for name, kind in PUBLIC.items()
        if inspect.isclass(kind) and issubclass(kind, Exception)
    },
}


def flat(found):
    """Return what was found as a list of bytes and texts."""
    if isinstance(found, dict):
        return [part for key, value in found.items() for part in (key, *flat(value))]
    if isinstance(found, tuple | list):
        return [part for value in found for part in flat(value)]
    if isinstance(found, np.ndarray | float):
        return [str(np.asarray(found).dtype), np.shape(found), np.asarray(found).tobytes()]
    return [found if isinstance(found, str | bool | None) else repr(found)]


# --- the tests --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", CASES)
def test_a_copy_does_the_same(name):
    does, make = CASES[name]
    for way in WAYS.values():
        thing = make()
        twin = way(thing)
        assert flat(does(twin)) == flat(does(thing))


def what_they_do(pickled):
    return [flat(does(thing)) for does, thing in pickle.loads(pickled)]


def test_all_do_the_same_in_a_spawned_process():
    made = {}
    for name, (does, make) in CASES.items():
        try:
            made[name] = does, make()
        except pytest.skip.Exception:
            continue
    pickled = pickle.dumps(list(made.values()))
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        there = pool.apply(what_they_do, (pickled,))
    for name, found in zip(made, there, strict=True):
        does, thing = made[name]
        assert found == flat(does(thing)), name


def test_every_kind_of_layer_is_tried():
    tried = {type(make()) for make in MODULES.values()}
    lacking = {kind.__name__ for kind in CLASSES if issubclass(kind, mr.Module)} - {kind.__name__ for kind in tried}
    assert lacking == {"Module", "ModuleDict", "ModuleList"}, (
        "give it a case in MODULES"
    )  # the last two in test_held.py


def test_the_walk_finds_what_there_is():
    assert {"minirnn.init.spectral", "minirnn.training.schedules.cosine", "minirnn.training.until_solved"} <= set(CASES)
    assert {"minirnn.training.every", "Adam, alone", "minirnn.training.NonFiniteError"} <= set(CASES)


def test_what_is_public_is_pickled_by_name():
    for name, value in PUBLIC.items():
        assert pickle.loads(pickle.dumps(value)) is value, name


def test_what_is_built_in_stays_the_same_object():
    layer = mr.RecurrentLayer(3, 4)
    for way in WAYS.values():
        twin = way(layer)
        assert twin.activation is layer.activation
        assert twin.dtype is layer.dtype  # so that nothing is cast at the door
        assert twin.W_xh.data.dtype is np.dtype(np.float32)


def test_a_copy_is_shown_as_it_was_made():
    assert repr(schedules.warm_up(3, schedules.linear(100, to=0.1))) == "warm_up(3, linear(100, 0.1))"
    assert repr(mr.init.normal(0.1)) == "normal(0.1, 0.0)"


@pytest.mark.parametrize("backend", ["fused", "graph"])
def test_functions_without_a_name_are_refused_by_pickle(backend):
    layer = recurrent(activation=(lambda z: z, lambda y: y * 0 + 1), backend=backend)()
    with pytest.raises((pickle.PicklingError, AttributeError), match="lambda"):
        pickle.dumps(layer)
    with pytest.raises((pickle.PicklingError, AttributeError), match="lambda"):
        pickle.dumps(schedules.warm_up(3, lambda update: 0.5))
    assert flat(runs(copy.deepcopy(layer))) == flat(runs(layer))


def test_a_lock_does_not_travel(tmp_path):
    for way in WAYS.values():
        directory = mr.checkpoints.CheckpointDirectory(tmp_path)
        with directory, pytest.raises(TypeError, match="cannot pickle"):
            way(directory)
        way(directory)
