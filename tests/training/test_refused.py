"""What `fit` refuses, by what it says, and that nothing has been done then."""

import math

import numpy as np
import pytest
from error_texts import raises

import minirnn as mr
from minirnn.arguments import describe
from minirnn.tasks import AddingTask, EchoTask, TextTask
from minirnn.training import Checkpointing, fit, until_solved

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
OF_A_TASK = (
    "belongs to a task, got it with batches, which have been drawn by others: leave it out, or pass the task itself"
)
BACK = "that goes back: its state comes from steps that have not been read"
IDS = "lengths, an integer for each row, or is_start, True or False"

REFUSED = {
    "numbers": [
        ({"max_updates": 0}, ValueError, "max_updates must be an int ≥ 1, got 0: try 1 or more"),
        ({"max_updates": 2.5}, TypeError, "max_updates must be an int ≥ 1, got 2.5 (float): try 1"),
        ({"clip_norm": 0.0}, ValueError, "clip_norm must be a positive number or inf, got 0.0: try None not to clip"),
        (
            {"clip_norm": math.nan},
            ValueError,
            "clip_norm must be a positive number or inf, got nan: try None not to clip",
        ),
        (
            {"clip_norm": True},
            TypeError,
            "clip_norm must be a positive number or inf, got True (bool): try None not to clip",
        ),
        ({"evaluate_every": 0}, ValueError, "evaluate_every must be an int ≥ 1, got 0: try 1 or more"),
        ({"data": TASK, "batch": 2.0}, TypeError, "batch must be an int ≥ 1, got 2.0 (float): try 2"),
        ({"data": TASK, "batch": 0}, ValueError, "batch must be an int ≥ 1, got 0: try 1 or more"),
    ],
    "switches and callables": [
        ({"carry_state": 1}, TypeError, "carry_state must be True or False, got 1 (int)"),
        ({"progress": "yes"}, TypeError, "progress must be True or False, got 'yes' (str)"),
        ({"callbacks": print}, TypeError, f"callbacks must be a list of callables, got {describe(print)}: try [print]"),
        ({"callbacks": [3]}, TypeError, "callbacks must be a list of callables, got [3] (list): try [print]"),
        (
            {"metrics": [3]},
            TypeError,
            'metrics must be a dict of callables, got [3] (list): try {"accuracy": accuracy}',
        ),
        (
            {"schedule": 0.5},
            TypeError,
            "schedule must be a callable (update) -> factor, got 0.5: try schedules.linear(1000)",
        ),
        (
            {"loss": "mse"},
            TypeError,
            f"loss must be a callable (predictions, y) -> Tensor, got 'mse' (str): try {LOSSES}",
        ),
        ({"loss": None}, TypeError, f"loss must be given with batches, got none: pass {LOSSES}, or the task itself"),
    ],
    "what to train on": [
        ({"data": []}, ValueError, "batches gave nothing: is it a generator that was used up before?"),
        ({"data": 3}, TypeError, f"{DATA} {TRIPLES}, got 3 (int): try task.batches(N, rng)"),
        ({"data": [np.ones(2)]}, TypeError, f"{DATA} {TRIPLES}, got a ndarray"),
        ({"data": [(1,)]}, TypeError, f"{DATA} {TRIPLES}, got a tuple of 1"),
        ({"data": [(X, Y, 0.5)]}, TypeError, f"the third item of a batch must be {IDS}, got 0.5 (float)"),
        ({"data": AddingTask}, TypeError, f"{DATA} batches, got the class AddingTask: build it, try AddingTask()"),
        ({"data": TextTask}, TypeError, f"{DATA} batches, got the class TextTask: build it, try TextTask()"),
        ({"data": "echo"}, TypeError, f"{DATA} batches, got the name 'echo': build it, try mr.tasks.TASKS['echo']()"),
        ({"data": "eco"}, TypeError, f"{DATA} batches, got 'eco' (str): try mr.tasks.AddingTask()"),
        ({"batch": 16}, TypeError, f"batch {OF_A_TASK}"),
        ({"rng": 16}, TypeError, f"rng {OF_A_TASK}"),
    ],
    "held-out data": [
        ({"held_out": True}, TypeError, f"{HELD_OUT} True (bool): {SECOND}"),
        ({"held_out": TASK}, TypeError, f"{HELD_OUT} {describe(TASK)}: {SECOND}"),
        ({"held_out": 3}, TypeError, f"{HELD_OUT} 3 (int): try held_out=(x, y)"),
        ({"held_out": []}, TypeError, f"{HELD_OUT} [] (list): try held_out=(x, y)"),
        ({"held_out": ITERATOR}, TypeError, f"{HELD_OUT} {describe(ITERATOR)}: it can be read once only, try list(…)"),
        ({"held_out": [X]}, TypeError, f"held_out must be a list of {TRIPLES}, got a ndarray"),
    ],
    "tbptt": [
        ({"tbptt": 3}, TypeError, "tbptt must be a pair (k1, k2) of steps, got 3 (int): try (20, 40)"),
        ({"tbptt": (3,)}, TypeError, "tbptt must be a pair (k1, k2) of steps, got (3,) (tuple): try (20, 40)"),
        ({"tbptt": (0, 3)}, ValueError, "tbptt: k1 must be an int ≥ 1, got 0: try 1 or more"),
        ({"tbptt": (3, 2.5)}, TypeError, "tbptt: k2 must be an int ≥ 1, got 2.5 (float): try 1"),
        (
            {"tbptt": (4, 4), "carry_state": True},
            ValueError,
            "tbptt=(4, 4) with carry_state needs batches of a multiple of k1 steps, got T=6: try k1=2",
        ),
        (
            {"data": [(X, Y, [6, 3, 2, 1])], "tbptt": (2, 3)},
            ValueError,
            "tbptt takes rows of one length, got a batch with lengths: its chunks would end in the padding; leave "
            "tbptt out, or sort the rows into batches of one length",
        ),
        (
            {"data": [(X, Y[0])], "tbptt": (2, 3)},
            ValueError,
            "tbptt needs x and y with a target at every step, (T, N, …), got y of shape (4, 5)",
        ),
        ({"model": mr.Linear(3, 5), "tbptt": (2, 3)}, TypeError, "tbptt needs a recurrent model, got Linear"),
        (
            {"model": mr.Bidirectional(mr.GRULayer(D, H), mr.GRULayer(D, H, reverse=True)), "tbptt": (2, 3)},
            ValueError,
            f"tbptt needs a layer that goes forward in time, got Bidirectional {BACK}",
        ),
        (
            {"model": mr.GRULayer(D, H, batch_first=True), "tbptt": (2, 3)},
            ValueError,
            "tbptt needs time first, (T, N, …), got batch_first=True: make the layer without it",
        ),
        (
            {"model": mr.SequenceModel(mr.GRULayer(D, H), mr.Linear(H, 1), readout="last"), "tbptt": (2, 3)},
            ValueError,
            'tbptt needs a target at every step, got readout="last": make the model with readout="all"',
        ),
    ],
    "checkpoints": [
        (
            {"checkpoint": 3},
            TypeError,
            "checkpoint must be a directory's path or a Checkpointing, got 3 (int): try "
            "Checkpointing('run', every=1000)",
        ),
        (
            {"checkpoint": Checkpointing("run", every=0)},
            ValueError,
            "checkpoint: every must be an int ≥ 1, got 0: try 1 or more",
        ),
        (
            {"checkpoint": Checkpointing("run", resume=1)},
            TypeError,
            "checkpoint: resume must be True or False, got 1 (int)",
        ),
    ],
}


@pytest.mark.parametrize("kind_of_argument", REFUSED)
def test_what_is_refused(kind_of_argument, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for given, kind, message in REFUSED[kind_of_argument]:
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


@pytest.mark.parametrize(
    ("task", "got"),
    [
        (EchoTask, "the class EchoTask: build it, try EchoTask()"),
        ("echo", "the name 'echo': build it, try mr.tasks.TASKS['echo']()"),
        (0.1, "0.1 (float): try mr.tasks.AddingTask()"),
    ],
)
def test_until_solved_of_no_task(task, got):
    with raises(TypeError, f"until_solved: task must be a task of minirnn.tasks, got {got}"):
        until_solved(task)
