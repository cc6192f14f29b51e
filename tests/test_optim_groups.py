"""Every option of the optimisers against torch's, also in groups; what groups are, and how they are saved."""

import copy
import pickle

import numpy as np
import pytest
from error_texts import raises
from notes import noted
from pairwise import pairwise

import minirnn as mr
from minirnn import optim
from minirnn.checkpoints import CheckpointError, load_checkpoint, save_checkpoint
from minirnn.training import Checkpointing, fit, schedules

SHAPES = [(3, 2), (2,), (), (1, 4)]
BETAS = [(0.9, 0.999), (0.8, 0.95)]
OPTIONS = {
    "SGD": {"lr": [0.1], "momentum": [0.0, 0.9], "nesterov": [False, True], "weight_decay": [0.0, 0.1]},
    "RMSprop": {"lr": [0.01], "rho": [0.99, 0.8], "eps": [1e-8, 1e-3], "weight_decay": [0.0, 0.1]},
    "Adagrad": {"lr": [0.1], "lr_decay": [0.0, 0.1], "initial_accumulator_value": [0.0, 0.5], "eps": [1e-10, 1e-3],
                "weight_decay": [0.0, 0.1]},
    "Adam": {"lr": [0.01], "betas": BETAS, "eps": [1e-8, 1e-3], "weight_decay": [0.0, 0.1], "amsgrad": [False, True]},
    "AdamW": {"lr": [0.01], "betas": BETAS, "eps": [1e-8, 1e-3], "weight_decay": [0.0, 0.1], "amsgrad": [False, True]},
}  # fmt: skip
OF_ITS_OWN = {
    "SGD": {"momentum": 0.5, "weight_decay": 0.3},
    "RMSprop": {"rho": 0.5, "lr": 0.02},
    "Adagrad": {"initial_accumulator_value": 2.0, "lr_decay": 0.3},
    "Adam": {"betas": (0.5, 0.6), "amsgrad": True},
    "AdamW": {"weight_decay": 0.3, "amsgrad": True, "lr": 0.02},
}
"""Settings of the second group."""
IN = {
    "one list": lambda p, own: p,
    "groups": lambda p, own: [{"params": p[:1]}, {"params": p[1:3], **own}, {"params": p[3:], "lr": 0.005}],
}


def parameters(dtype=np.float64):
    rng = np.random.default_rng(0)
    return [mr.Parameter(rng.standard_normal(s).astype(dtype), name=f"p{i}") for i, s in enumerate(SHAPES)]


def gradients(steps, gaps):
    """Give the steps' gradients: of p1 none before step 4, of p2 none at every second, all of 0 at some."""
    rng = np.random.default_rng(1)
    for k in range(steps):
        step = [np.asarray(rng.standard_normal(shape) * (k % 7 > 1)) for shape in SHAPES]
        yield [None if gaps and ((i == 1 and k < 4) or (i == 2 and k % 2)) else g for i, g in enumerate(step)]


def made(kind, params, point, dtype=np.float64):
    settings = {name: point[name] for name in OPTIONS[kind]}
    return getattr(optim, kind)(IN[point["as"]](params, OF_ITS_OWN[kind]), **settings)


def points(kind):
    more = {"as": [*IN], "gaps": [False, True], "saved": [None, 3, 20]}
    return pairwise({**OPTIONS[kind], **more}, allowed=lambda point: point.get("momentum") or not point.get("nesterov"))


def step(optimizer, params, some):
    for p, g in zip(params, some, strict=True):
        p.grad = None if g is None else g.astype(p.dtype)
    optimizer.step()


def torch_names(settings):
    return {{"rho": "alpha"}.get(name, name): value for name, value in settings.items()}


def worst(kind, point, torch, tmp_path):
    """Make 50 steps beside torch's, saved to a file and read again before one of them; return the largest error."""
    params = parameters()
    others = [torch.nn.Parameter(torch.from_numpy(p.data.copy())) for p in params]
    optimizer = made(kind, params, point)
    groups = IN[point["as"]](others, torch_names(OF_ITS_OWN[kind]))
    other = getattr(torch.optim, kind)(groups, **torch_names({name: point[name] for name in OPTIONS[kind]}))
    for group in other.param_groups if kind == "Adagrad" else ():  # where torch passes over the group's own
        for q in group["params"]:
            other.state[q]["sum"].fill_(group["initial_accumulator_value"])
    largest = 0.0
    for k, some in enumerate(gradients(50, point["gaps"])):
        if k == point["saved"]:
            model = holder(params)
            save_checkpoint(tmp_path / "run.npz", model=model, optimizer=optimizer)
            optimizer = made(kind, params := parameters(), point)
            optimizer.lr = 3.0
            load_checkpoint(tmp_path / "run.npz").restore(holder(params), optimizer)
        optimizer.lr *= 0.99  # which groups with a rate of their own do not follow
        for mine, group in zip(optimizer.groups, other.param_groups, strict=True):
            group["lr"] = mine["lr"]
        step(optimizer, params, some)
        for q, g in zip(others, some, strict=True):
            q.grad = None if g is None else torch.from_numpy(g.copy())
        other.step()
        for p, q in zip(params, others, strict=True):
            np.testing.assert_allclose(p.data, q.detach().numpy(), rtol=1e-12, atol=1e-12, err_msg=f"{p.name}, {k}")
            largest = max(largest, float(np.abs(p.data - q.detach().numpy()).max()))
    return largest


def holder(params):
    model = mr.Module()
    for i, p in enumerate(params):
        setattr(model, f"p{i}", p)
    return model


@pytest.mark.peer
@pytest.mark.parametrize("kind", OPTIONS)
def test_every_option_is_torchs_alone_and_with_every_other(kind, torch, tmp_path):
    for point in points(kind):
        with noted(point):
            assert worst(kind, point, torch, tmp_path) <= 1e-12


@pytest.mark.parametrize("kind", OPTIONS)
def test_a_copy_and_a_state_go_on_to_the_same_bits(kind):
    """In float32 too; the state is loaded over other settings, in groups of the same sizes."""
    ways = {
        "state": lambda optimizer, params: state_over_others(kind, optimizer, params),
        "pickle": lambda optimizer, params: pickle.loads(pickle.dumps(optimizer)),
        "copy": lambda optimizer, params: copy.deepcopy(optimizer),
    }
    for point, dtype, way in zip(points(kind), [np.float32, np.float64] * 9, [*ways] * 9, strict=False):
        with noted((point, dtype, way)):
            params, steps = parameters(dtype), list(gradients(9, point["gaps"]))
            optimizer = made(kind, params, point)
            for some in steps[:5]:
                step(optimizer, params, some)
            other = ways[way](optimizer, params)
            for some in steps[5:]:
                step(optimizer, params, some)
                step(other, other.params, some)
            assert [p.data.tobytes() for p in params] == [p.data.tobytes() for p in other.params]
            assert repr(optimizer.state_dict()) == repr(other.state_dict())
            assert repr(optimizer.groups) == repr(other.groups)
            assert all(p.data.dtype == dtype and p.shape == shape for p, shape in zip(params, SHAPES, strict=True))


def state_over_others(kind, optimizer, params):
    twins = parameters(params[0].dtype)
    for p, q in zip(params, twins, strict=True):
        q.data = p.data
    twins = [{"params": [twins.pop(0) for _ in group.params]} for group in optimizer.groups]
    other = getattr(optim, kind)(twins, lr=7.0)
    other.groups[-1]["lr"] = 3.0
    other.load_state_dict(optimizer.state_dict())
    return other


# --- groups -----------------------------------------------------------------------------------------------------------


def grouped(**settings):
    p = parameters()
    return optim.SGD([{"params": p[:2], "lr": 0.5}, {"params": iter(p[2:])}], **{"lr": 0.1, **settings})


def test_what_a_group_lacks_it_has_of_the_optimizer_also_later():
    sgd = grouped()
    one, two = sgd.groups
    assert [p.name for p in sgd.params] == ["p0", "p1", "p2", "p3"]
    assert [p.name for p in two["params"]] == ["p2", "p3"]
    assert (one["lr"], two["lr"], one["momentum"]) == (0.5, 0.1, 0.0)
    sgd.lr, sgd.momentum = 0.2, 0.9
    assert (one["lr"], two["lr"], one["momentum"]) == (0.5, 0.2, 0.9)
    two["lr"] = np.float32(0.25)
    del one["lr"]
    assert (one["lr"], two["lr"], one.own, two.own) == (0.2, 0.25, {}, {"lr": 0.25})
    assert type(two["lr"]) is float
    assert dict(two) == {"params": two.params, "lr": 0.25, "momentum": 0.9, "nesterov": False, "weight_decay": 0.0}
    assert repr(sgd.groups) == "[<Group of 2 Parameters>, <Group of 2 Parameters, lr=0.25>]"
    step(sgd, sgd.params, next(gradients(1, gaps=False)))
    assert sgd.lr == 0.2
    assert [len(group["params"]) for group in optim.Adam(parameters()).groups] == [4]


def test_a_momentum_is_remembered_where_there_is_one_and_forgotten_without():
    sgd = grouped()
    assert sgd.velocity == []
    sgd.groups[1]["momentum"] = 0.5
    assert [v.shape for v in sgd.velocity] == [(0,), (0,), (), (1, 4)]
    step(sgd, sgd.params, [np.ones(shape) for shape in SHAPES])
    sgd.momentum = 0.9
    assert [v.shape for v in sgd.velocity] == SHAPES
    assert [float(v.max()) for v in sgd.velocity] == [0, 0, 1, 1]
    sgd.groups[1]["momentum"] = 0
    del sgd.groups[1]["momentum"]
    assert [float(v.max()) for v in sgd.velocity] == [0, 0, 0, 0]
    adam = optim.Adam(parameters())
    adam.amsgrad = True
    assert [v.shape for v in adam.largest] == SHAPES
    adam.load_state_dict(optim.Adam(parameters()).state_dict())
    assert not hasattr(adam, "largest")


class Signs(optim.Optimizer):
    """An optimiser as a user would write it, who knows nothing of groups."""

    def __init__(self, params, lr, *, share=0.5):
        self.share = share
        super().__init__(params, lr)

    def _change(self, i, g):
        return self.lr * self.share * np.sign(g)


def test_ones_own_optimizer_has_groups_as_well():
    p, q = mr.Parameter(np.zeros(2)), mr.Parameter(np.zeros(()))
    signs = Signs([{"params": [p], "share": 1.0}, {"params": [q], "lr": 4.0}], 0.5)
    p.grad, q.grad = np.array([3.0, -3.0]), np.array(2.0)
    signs.step()
    assert (p.data.tolist(), q.data.tolist()) == ([-0.5, 0.5], -2.0)
    assert signs.state_dict()["groups"] == [{"params": 1, "share": 1.0}, {"params": 1, "lr": 4.0}]


P = parameters()
LIKE = "must be a dict such as {'params': […], 'lr': 0.01}, got"
NESTEROV = "SGD: nesterov must be False where the momentum is 0, got True: try momentum=0.9"
REFUSED = [
    ([{"params": P[:2]}, {"params": P[1:]}], {}, ValueError,
     "SGD: a Parameter stands twice in params; each must be changed once"),
    ([{"params": P[:1]}, P[1]], {}, TypeError, f"SGD: groups[1] {LIKE} a Parameter of shape (2,)"),
    ([{"lr": 0.1}], {}, TypeError, f"SGD: groups[0] {LIKE} one of 'lr'"),
    ({"params": P}, {}, TypeError,
     "SGD: params must be a list of Parameters or of groups, got one group: put it in a list"),
    ([{"params": P[0]}], {}, TypeError, "SGD: groups[0]['params'] must be a list of Parameters, got one Parameter: try "
     "module.parameters(), or put a Tensor in a list"),
    ([{"params": []}], {}, ValueError, "SGD: groups[0]['params'] is empty; pass module.parameters()"),
    ([{"params": P, "lr": -1}], {}, ValueError, "SGD: groups[0]['lr'] must be a number ≥ 0, got -1: try 0.01"),
    ([{"params": P, "rate": 1}], {}, ValueError, "SGD: groups[0]['rate'] must be one of lr, momentum, nesterov, "
     "weight_decay: the Parameters stay, and no other is known"),
    (P, {"nesterov": True}, ValueError, NESTEROV),
    ([{"params": P, "nesterov": True}], {}, ValueError, NESTEROV),
    ([{"params": P, "momentum": 0}], {"momentum": 0.9, "nesterov": True}, ValueError, NESTEROV),
    (P, {"nesterov": 1}, TypeError, "SGD: nesterov must be True or False, got 1 (int)"),
    (P, {"weight_decay": -1e-4}, ValueError, "SGD: weight_decay must be a number ≥ 0, got -0.0001: try 1e-4"),
]  # fmt: skip


def test_groups_and_options_that_are_none_are_refused():
    for params, settings, kind, message in REFUSED:
        with raises(kind, message):
            optim.SGD(params, **{"lr": 0.1, **settings})
    sgd = grouped(momentum=0.9, nesterov=True)
    before = repr(sgd.state_dict())
    for name, value, message in (
        ("lr", np.nan, "SGD: groups[1]['lr'] must be a number ≥ 0, got nan: try 0.01"),
        ("momentum", 0, NESTEROV),
        ("params", P, "SGD: groups[1]['params'] must be one of lr, momentum, nesterov, weight_decay: the Parameters "
         "stay, and no other is known"),
    ):  # fmt: skip
        with raises(ValueError, message):
            sgd.groups[1][name] = value
    with raises(ValueError, NESTEROV):
        sgd.momentum = 0
    for name in ("lr", "rate", "params"):
        with pytest.raises(KeyError):
            del sgd.groups[1][name]
    with pytest.raises(KeyError):
        sgd.groups[1]["rate"]
    assert repr(sgd.state_dict()) == before


def test_a_state_of_other_groups_changes_nothing_and_older_states_load():
    sgd, alone = grouped(momentum=0.5), optim.SGD(parameters(), 0.1, momentum=0.5)
    start = "SGD.load_state_dict: nothing was loaded, because of entries that do not fit:\n  state['settings']: "
    bad = copy.deepcopy(sgd.state_dict())
    bad["groups"][0]["lr"] = -1
    for optimizer, state, message in (
        (sgd, alone.state_dict(), "ValueError: the groups must have [2, 2] Parameters, got [4]"),
        (alone, sgd.state_dict(), "ValueError: the groups must have [4] Parameters, got [2, 2]"),
        (sgd, bad, "ValueError: SGD: groups[0]['lr'] must be a number ≥ 0, got -1: try 0.01"),
    ):
        before = repr(optimizer.state_dict())
        with raises(ValueError, start + message):
            optimizer.load_state_dict(state)
        assert repr(optimizer.state_dict()) == before
    old = {"optimizer": "SGD", "settings": {"lr": 0.3, "momentum": 0.5}, "counts": {}}
    alone.nesterov, alone.weight_decay = True, 0.1
    alone.load_state_dict({**old, "memory": {"velocity": [np.ones(shape) for shape in SHAPES]}})
    assert (alone.lr, alone.nesterov, alone.weight_decay) == (0.3, False, 0.0)
    assert float(alone.velocity[2]) == 1


# --- in fit -----------------------------------------------------------------------------------------------------------


def adder(updates, path=None, own=0.02, amsgrad=True, **options):
    """Train in groups, and return each update's rates, the weights and the rates at the end."""
    task, rates = mr.tasks.AddingTask(T=4), []
    model = mr.SequenceModel(mr.RecurrentLayer(2, 3, rng=0), mr.Linear(3, 1, rng=1), readout="last")
    groups = [{"params": model.recurrent.parameters(), "lr": own}, {"params": model.head.parameters()}]
    adam = optim.AdamW(groups if own else model.parameters(), lr=0.1, amsgrad=amsgrad)

    def note(history):
        rates.append([group["lr"] for group in adam.groups])

    more = {"schedule": schedules.linear(20), "callbacks": [note], "progress": False}
    checkpoint = path and Checkpointing(path, **options)
    fit(model, task, optimizer=adam, max_updates=updates, batch=4, rng=3, checkpoint=checkpoint, **more)
    return rates, [p.data.tobytes() for p in model.parameters()], [group["lr"] for group in adam.groups]


def test_a_schedule_multiplies_every_rate_and_puts_each_back():
    rates, _, after = adder(12)
    expected = [[0.02 * (1 - k / 20), 0.1 * (1 - k / 20)] for k in range(12)]
    np.testing.assert_allclose(rates, expected, rtol=1e-14)
    assert after == [0.02, 0.1]


def test_a_run_in_groups_goes_on_to_the_same_bits_and_only_with_the_same_groups(tmp_path):
    whole = adder(12)
    adder(7, tmp_path, every=3)
    groups = "the run's groups was [{'params': 3, 'lr': 0.02}, {'params': 2}], and is"
    for settings, fault in (
        ({"own": 0.03}, f"{groups} [{{'params': 3, 'lr': 0.03}}, {{'params': 2}}]"),
        ({"own": None}, f"{groups} None"),
        ({"amsgrad": False}, "the run's amsgrad was True, and is False"),
    ):
        with pytest.raises(CheckpointError) as error:
            adder(12, tmp_path, **settings, resume=True)
        assert str(error.value).endswith(fault)
    assert adder(12, tmp_path, resume=True) == (whole[0][7:], *whole[1:])
