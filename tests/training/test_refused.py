"""What `fit` and what goes with it refuse, by what they say, and that nothing has been done then."""

import math

import numpy as np
import pytest
from error_texts import raises

import minirnn as mr
from minirnn.arguments import describe
from minirnn.tasks import AddingTask, EchoTask
from minirnn.training import Checkpointing, accuracy, evaluate, every, fit, until_solved

N, D, H = 4, 3, 5
X, Y = np.ones((6, N, D)), np.ones((6, N, H))
TASK = AddingTask(T=6)
ITERATOR = iter([1])
MSE = mr.losses.mse

TRIPLES = "(x, y), (x, y, lengths) or (x, y, is_start)"
DATA = "task_or_batches must be a task of minirnn.tasks, or an iterable of"
HELD_OUT = "held_out must be a batch (x, y), a list of batches, or True with a task, got"
SECOND = "try held_out=True with the task as the second argument"
LOSSES = "mr.losses.cross_entropy for class ids or mr.losses.mse for numbers"
CLIP = "clip_norm must be a positive number or inf, got"
OF_A_TASK = (
    "belongs to a task or to arrays, got it with batches, which have been drawn by others: leave it out, or pass the "
    "task itself, or a tuple of arrays (x, y)"
)
BACK = "that goes back: its state comes from steps that have not been read"
NOTHING = "batches gave nothing: is it a generator that was used up before?"
NO_BATCHES = "batches must be an iterable of"
IDS = "lengths, an integer for each row, or is_start, True or False"

REFUSED = {
    TypeError: [
        ({"carry_state": 1}, "carry_state must be True or False, got 1 (int)"),
        ({"progress": "yes"}, "progress must be True or False, got 'yes' (str)"),
        ({"callbacks": print}, f"callbacks must be a list of callables, got {describe(print)}: try [print]"),
        ({"callbacks": [3]}, "callbacks must be a list of callables, got [3] (list): try [print]"),
        ({"metrics": [3]}, 'metrics must be a dict of callables, got [3] (list): try {"accuracy": accuracy}'),
        ({"schedule": 0.5}, "schedule must be a callable (update) -> factor, got 0.5: try schedules.linear(1000)"),
        ({"loss": "mse"}, f"loss must be a callable (predictions, y) -> Tensor, got 'mse' (str): try {LOSSES}"),
        ({"loss": None}, f"loss must be given with batches, got none: pass {LOSSES}, or the task itself"),
        ({"data": 3}, f"{DATA} {TRIPLES}, got 3 (int): try task.batches(N, rng)"),
        ({"data": [np.ones(2)]}, f"{DATA} {TRIPLES}, got a ndarray"),
        ({"data": [(1,)]}, f"{DATA} {TRIPLES}, got a tuple of 1"),
        ({"data": [(X, Y, 0.5)]}, f"the third item of a batch must be {IDS}, got 0.5 (float)"),
        ({"data": AddingTask}, f"{DATA} batches, got the class AddingTask: build it, try AddingTask()"),
        ({"data": "echo"}, f"{DATA} batches, got the name 'echo': build it, try mr.tasks.TASKS['echo']()"),
        ({"data": "eco"}, f"{DATA} batches, got 'eco' (str): try mr.tasks.AddingTask()"),
        ({"batch": 16}, f"batch {OF_A_TASK}"),
        ({"rng": 16}, f"rng {OF_A_TASK}"),
        ({"held_out": True}, f"{HELD_OUT} True (bool): {SECOND}"),
        ({"held_out": TASK}, f"{HELD_OUT} {describe(TASK)}: {SECOND}"),
        ({"held_out": 3}, f"{HELD_OUT} 3 (int): try held_out=(x, y)"),
        ({"held_out": []}, f"{HELD_OUT} [] (list): try held_out=(x, y)"),
        ({"held_out": ITERATOR}, f"{HELD_OUT} {describe(ITERATOR)}: it can be read once only, try list(…)"),
        ({"held_out": [X]}, f"held_out must be a list of {TRIPLES}, got a ndarray"),
        ({"tbptt": 3}, "tbptt must be a pair (k1, k2) of steps, got 3 (int): try (20, 40)"),
        ({"tbptt": (3,)}, "tbptt must be a pair (k1, k2) of steps, got (3,) (tuple): try (20, 40)"),
        ({"model": mr.Linear(3, 5), "tbptt": (2, 3)}, "tbptt needs a recurrent model, got Linear"),
        (
            {"checkpoint": 3},
            "checkpoint must be a directory's path or a Checkpointing, got 3 (int): try "
            "Checkpointing('run', every=1000)",
        ),
        ({"checkpoint": Checkpointing("run", resume=1)}, "checkpoint: resume must be True or False, got 1 (int)"),
    ],
    ValueError: [
        ({"model": mr.Linear(3, 5), "carry_state": True}, "carry_state=True needs a model with a state, got Linear"),
        ({"max_updates": 0}, "max_updates must be an int ≥ 1, got 0: try 1 or more"),
        ({"clip_norm": 0.0}, f"{CLIP} 0.0: try None not to clip"),
        ({"clip_norm": math.nan}, f"{CLIP} nan: try None not to clip"),
        ({"evaluate_every": 0}, "evaluate_every must be an int ≥ 1, got 0: try 1 or more"),
        ({"data": TASK, "batch": 0}, "batch must be an int ≥ 1, got 0: try 1 or more"),
        ({"data": []}, NOTHING),
        ({"tbptt": (0, 3)}, "tbptt: k1 must be an int ≥ 1, got 0: try 1 or more"),
        (
            {"tbptt": (4, 4), "carry_state": True},
            "tbptt=(4, 4) with carry_state needs batches of a multiple of k1 steps, got T=6: try k1=2",
        ),
        (
            {"data": [(X, Y, [6, 3, 2, 1])], "tbptt": (2, 3)},
            "tbptt takes rows of one length, got a batch with lengths: its chunks would end in the padding; leave "
            "tbptt out, or sort the rows into batches of one length",
        ),
        (
            {"data": [(X, Y[0])], "tbptt": (2, 3)},
            "tbptt needs x and y with a target at every step, (T, N, …), got y of shape (4, 5)",
        ),
        (
            {"model": mr.Bidirectional(mr.GRULayer(D, H), mr.GRULayer(D, H, reverse=True)), "tbptt": (2, 3)},
            f"tbptt needs a layer that goes forward in time, got Bidirectional {BACK}",
        ),
        (
            {"model": mr.GRULayer(D, H, batch_first=True), "tbptt": (2, 3)},
            "tbptt needs time first, (T, N, …), got batch_first=True: make the layer without it",
        ),
        (
            {"model": mr.SequenceModel(mr.GRULayer(D, H), mr.Linear(H, 1), readout="last"), "tbptt": (2, 3)},
            'tbptt needs a target at every step, got readout="last": make the model with readout="all"',
        ),
        ({"checkpoint": Checkpointing("run", every=0)}, "checkpoint: every must be an int ≥ 1, got 0: try 1 or more"),
    ],
}


@pytest.mark.parametrize("kind", REFUSED)
def test_what_is_refused(kind, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for given, message in REFUSED[kind]:
        settings = {"model": mr.RecurrentLayer(D, H, rng=0), "data": [(X, Y)], "loss": MSE, "max_updates": 3, **given}
        model, data = settings.pop("model"), settings.pop("data")
        before = [p.data.copy() for p in model.parameters()]
        with raises(kind, f"fit: {message}"):
            fit(model, data, optimizer=mr.optim.SGD(model.parameters(), 0.1), **settings)
        assert all(np.array_equal(a, p.data) for a, p in zip(before, model.parameters(), strict=True))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("factor", "got"), [(-1.0, "-1.0"), (math.nan, "nan"), (None, "None (NoneType)")])
def test_a_schedule_gives_factors(factor, got):
    layer = mr.RecurrentLayer(D, H, rng=0)
    sgd = mr.optim.SGD(layer.parameters(), 0.5)
    message = f"fit: schedule(0) must be a number ≥ 0, got {got}: it multiplies the learning rate"
    with raises(TypeError if factor is None else ValueError, message):
        fit(layer, [(X, Y)], loss=MSE, optimizer=sgd, max_updates=3, schedule=lambda update: factor)
    assert sgd.lr == 0.5


LINEAR, NO_TASK = mr.Linear(D, H, rng=0), "until_solved: task must be a task of minirnn.tasks, got"
STATE = "evaluate: carry_state=True needs a model with a state, got Linear"
SCORES = "accuracy: predictions must have shape (3, 'C') for ids of shape (3,), got (3,): one score for each class"
OTHERS = {
    ValueError: [
        (lambda: every(0, print), "every: updates must be an int ≥ 1, got 0: try 1 or more"),
        (lambda: evaluate(LINEAR, [], loss=MSE), f"evaluate: {NOTHING}"),
        (lambda: evaluate(LINEAR, [(X, Y)], loss=MSE, carry_state=True), STATE),
        (lambda: accuracy(np.zeros(3), np.zeros(3, int)), SCORES),
    ],
    TypeError: [
        (
            lambda: evaluate(LINEAR, 3, loss=MSE),
            f"evaluate: {NO_BATCHES} {TRIPLES}, got 3 (int): try task.batches(N, rng)",
        ),
        (lambda: until_solved(EchoTask), f"{NO_TASK} the class EchoTask: build it, try EchoTask()"),
        (lambda: until_solved("echo"), f"{NO_TASK} the name 'echo': build it, try mr.tasks.TASKS['echo']()"),
        (lambda: until_solved(0.1), f"{NO_TASK} 0.1 (float): try mr.tasks.AddingTask()"),
    ],
}


@pytest.mark.parametrize("kind", OTHERS)
def test_what_the_others_refuse(kind):
    for call, message in OTHERS[kind]:
        with raises(kind, message):
            call()
