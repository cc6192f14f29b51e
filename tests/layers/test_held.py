"""What a module holds is found by every walk, or refused: containers, circles, Tensors; ModuleList and ModuleDict."""

import collections
import copy
import io
import pickle
import weakref

import numpy as np
import pytest
from error_texts import raises
from notes import noted

import minirnn as mr
from minirnn.training import evaluate, fit


class Inner(mr.Module):
    def __init__(self):
        super().__init__()
        self.scale = mr.Parameter([2.0])
        self.held = None

    def forward(self, x):
        return x * self.scale


class Outer(mr.Module):
    def __init__(self):
        super().__init__()
        self.inner = Inner()

    def forward(self, x):
        return self.inner(x)


def layer():
    return mr.Linear(1, 1)


def leaf():
    return mr.Tensor([1.0], requires_grad=True)


def objects(*items):
    array = np.empty(len(items), object)
    array[:] = items
    return array


BATCH = [(np.ones((1, 1)), np.ones((1, 1)))]
WALKS = {  # of a module, and of what it says of itself
    "parameters": lambda m: m.parameters(),
    "named_parameters": lambda m: list(m.named_parameters()),
    "named_generators": lambda m: list(m.named_generators()),
    "children": lambda m: list(m.children()),
    "modules": lambda m: list(m.modules()),
    "count_params": lambda m: m.count_params(),
    "train": lambda m: m.train(),
    "eval": lambda m: m.eval(),
    "state_dict": lambda m: m.state_dict(),
    "load_state_dict": lambda m: m.load_state_dict({"inner.scale": [1.0]}),
    "summary": lambda m: m.summary(io.StringIO()),
    "repr": repr,
    "evaluate": lambda m: evaluate(m, BATCH, loss=mr.losses.mse),
    "fit": lambda m: fit(m, BATCH, loss=mr.losses.mse, optimizer=mr.optim.SGD([m.inner.scale], 0.1), max_updates=1),
}
FILLED = {  # what is set, empty; how it is filled afterwards
    "list": ([], lambda held, thing: held.append(thing())),
    "dict": ({}, lambda held, thing: held.update(a=thing())),
    "defaultdict": (collections.defaultdict(layer), lambda held, thing: held["missing"]),
    "set": (set(), lambda held, thing: held.add(thing())),
    "deque": (collections.deque(), lambda held, thing: held.appendleft(thing())),
    "ndarray": (objects(None, 1), lambda held, thing: held.__setitem__(0, thing())),
    "tuple": ((1, [], "a"), lambda held, thing: held[1].append({"b": (thing(),)})),
}


def hidden(where, kind):
    return (
        f"{where}: parameters() would not find what this {kind} holds: put Modules in a minirnn.ModuleList or "
        "ModuleDict, or set each Parameter and Module as an attribute of its own"
    )


@pytest.mark.parametrize("thing", [layer, lambda: mr.Parameter([1.0]), leaf])
@pytest.mark.parametrize("kind", FILLED)
def test_what_a_container_got_later_is_refused_by_the_next_walk(kind, thing):
    empty, fill = copy.deepcopy(FILLED[kind])
    model = Outer()
    model.inner.held = empty
    for walk in WALKS.values():
        walk(model)
    model.zero_grad()
    fill(empty, thing)
    for name, walk in WALKS.items():
        with noted(name), raises(TypeError, hidden("Outer.inner.held", kind)):
            walk(model)
    if kind != "tuple":  # which would cost every update
        with raises(TypeError, hidden("Inner.held", kind)):
            model.zero_grad()


def test_a_container_that_holds_some_is_refused_when_it_is_set():
    model = Inner()
    for value in ([layer()], (1, layer()), {"a": mr.Parameter([1.0])}, {layer(): 1}, {leaf()}, frozenset([layer()]),
                  objects([layer()]), collections.deque([[{"a": layer()}]])):  # fmt: skip
        with raises(TypeError, hidden("Inner.held", type(value).__name__)):
            model.held = value
    assert model.held is None
    round_again = [1, 2.0, None, "a", np.ones(3), mr.Tensor([1.0]), np.float32(1), [[]]]
    round_again.append(round_again)
    for value in (round_again, range(10**9), [0.0] * 10**6, {"a": 1}, np.ones(3)):
        model.held = value
        assert model.count_params() == 1


def test_no_parameter_hides_in_the_class_or_in_a_slot():
    for inside in ({"w": mr.Parameter([1.0])}, {"w": layer()}, {"w": [layer()]}, {"__slots__": ("w",)}):
        with raises(
            TypeError,
            "Held.w: in the class or a slot parameters() would not find it: set self.w in __init__, without __slots__",
        ):
            type("Held", (mr.Module,), inside)

    class Late(mr.Module):
        def __init__(self):
            self.w = mr.Parameter([1.0])  # before the other __init__, which does not matter, nor if there is none

    assert Late().count_params() == 1
    assert Late().training
    assert not Late().eval().training


def test_a_tensor_that_would_be_trained_must_be_a_parameter():
    model = Inner()
    message = (
        "Inner.w: parameters() would not find a Tensor that requires a gradient and is no Parameter: make it one last "
        "of all, as in Parameter(0.1 * array), or detach() it"
    )
    for value in (leaf(), mr.Parameter([1.0]) * 0.1, mr.tanh(leaf() + 1.0) * mr.Parameter([1.0])):
        with raises(TypeError, message):
            model.w = value
    assert not hasattr(model, "w")
    y = model(mr.Tensor([1.0]))
    for value in (mr.Tensor([1.0]), y, mr.exp(y) + leaf(), (mr.Parameter([1.0]) * 0.1).detach()):
        model.w = value  # a constant, or what a forward pass leaves there to be looked at
    y = model(leaf()).sum()
    y.backward()
    model.w = y


# --- circles ----------------------------------------------------------------------------------------------------------


class Child(mr.Module):
    def __init__(self, parent):
        super().__init__()
        self.parent = parent


def test_a_circle_is_refused_where_it_is_closed():
    def text(where, kind):
        return (
            f"{where} is the {kind} that holds it, so no walk would come to an end: pass it as an argument where it is "
            "needed, or keep a weakref.ref"
        )

    model, blocks = Outer(), mr.ModuleList()
    with raises(ValueError, text("Outer.child.parent", "Outer")):
        model.child = Child(model)
    with raises(ValueError, text("Inner.parent.inner", "Inner")):
        model.inner.parent = model
    with raises(ValueError, text("Outer.me", "Outer")):
        model.me = model
    with raises(ValueError, text("ModuleList.0.parent", "ModuleList")):
        blocks.append(Child(blocks))
    assert len(blocks) == 0
    vars(model.inner)["parent"] = model  # past everything
    for name, walk in WALKS.items():
        with noted(name), raises(ValueError, text("Outer.inner.parent", "Outer")):
            walk(model)
    model.inner.parent = weakref.ref(model)
    assert model.inner.parent().count_params() == 1
    model.again, model.both = model.inner, mr.Sequential(model.inner, model.inner)  # in two places is no circle
    assert model.count_params() == 1


# --- ModuleList, ModuleDict, Sequential -------------------------------------------------------------------------------


@pytest.mark.parametrize("make", [mr.ModuleList, lambda modules=(): mr.Sequential(*modules)])
def test_a_list_of_modules_does_what_a_list_does(make):
    modules = [mr.Linear(2, 2, rng=i) for i in range(4)]
    held = make(modules[:2])
    kind, plain = type(held), modules[:2]

    def same():
        assert [*held] == plain == [held[i] for i in range(len(held))]
        assert [name for name, _ in held.children()] == [str(i) for i in range(len(plain))]
        assert held.count_params() == 6 * len(set(plain))

    same()
    for change in (
        lambda a: a.append(modules[2]),
        lambda a: a.insert(0, modules[3]),
        lambda a: a.insert(-1, mr.Linear(2, 2)) if a is plain else a.insert(-1, plain[-2]),
        lambda a: a.__setitem__(1, modules[1]) if a is plain else a.__setitem__(1, plain[1]),
        lambda a: a.pop(1),
        lambda a: a.__delitem__(slice(0, 2)),
        lambda a: a.extend([modules[3], modules[0]]),
        lambda a: a.reverse(),
        lambda a: a.remove(modules[3]),
    ):
        change(plain)
        change(held)
        same()
    assert held[-1] is plain[-1]
    assert type(held[:1]) is type(held[-1:]) is kind
    assert [*held[::-1]] == plain[::-1]
    assert modules[0] in held
    for way in (copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))):
        twin = way(held)
        assert type(twin) is kind
        assert list(twin.state_dict()) == list(held.state_dict())
        assert not any(a is b for a, b in zip(twin, held, strict=True))
    for refused in (lambda: held[9], lambda: held.pop(9), lambda: held.__setitem__(9, modules[0])):
        with pytest.raises(IndexError):
            refused()
    with raises(TypeError, f"{kind.__name__}: modules[0] must be a Module, got int"):
        held[0] = 3
    same()


def test_a_list_of_modules_in_a_module():
    model = Outer()
    model.blocks = mr.ModuleList(mr.Linear(2, 2, rng=i) for i in range(2))
    model.blocks.append(mr.ModuleDict({"a": mr.Dropout(0.5)}))
    names = ["inner.scale", "blocks.0.weight", "blocks.0.bias", "blocks.1.weight", "blocks.1.bias"]
    assert list(model.state_dict()) == names
    assert not model.eval().blocks[2]["a"].training
    assert "(blocks): ModuleList(\n    (0): Linear(2, 2)" in repr(model)
    assert mr.ModuleList([mr.LSTMLayer(1, 2)])[0].hidden_size == 2


def test_a_chain_stays_one_that_can_be_called():
    chain = mr.Sequential(mr.Linear(3, 2, rng=0), mr.Linear(2, 4, rng=1))
    x = np.ones((5, 3), np.float32)
    np.testing.assert_array_equal(chain(x).numpy(), chain[1:](chain[:1](x)).numpy())
    with raises(ValueError, "Sequential: expected at least one module, got none"):
        del chain[:]
    message = "modules[2], a LSTMLayer, returns a state beside its outputs, which a chain would lose: use SequenceModel"
    with raises(TypeError, f"Sequential: {message}(recurrent, head)"):
        chain.append(mr.LSTMLayer(4, 2))
    assert chain(x).shape == (5, 4)


def test_a_dict_of_modules_does_what_a_dict_does():
    a, b = mr.Linear(2, 1), mr.Linear(2, 3)
    held = mr.ModuleDict({"a": a})
    held.update({"b-1": b}, c=a)
    assert list(held) == list(held.keys()) == ["a", "b-1", "c"]
    assert [*held.values()] == [a, b, a]
    assert dict(held.items()) == {"a": a, "b-1": b, "c": a}
    assert (len(held), "a" in held, "train" in held, held.get("x")) == (3, True, False, None)
    assert held["b-1"] is b
    assert [name for name, _ in held.named_parameters()] == ["a.weight", "a.bias", "b-1.weight", "b-1.bias"]
    assert held.pop("c") is a
    del held["a"]
    held["b-1"] = a
    assert list(held.state_dict()) == ["b-1.weight", "b-1.bias"]
    assert held == held != mr.ModuleDict(held)
    assert {held}
    twin = pickle.loads(pickle.dumps(copy.deepcopy(held)))
    assert list(twin.state_dict()) == list(held.state_dict())
    for refused in (lambda: held["a"], lambda: held.pop("a"), lambda: held.__delitem__("train")):
        with pytest.raises(KeyError):
            refused()
    for key in ("a.b", "", "train", "training", "items", 3):
        got = f"{key!r} ({type(key).__name__})"
        message = f"a key must be a str without a dot that is no attribute of every module, got {got}: try another name"
        with raises(ValueError, f"ModuleDict: {message}"):
            held[key] = b
    with raises(TypeError, "ModuleDict: the module of 'w' must be a Module, got Parameter"):
        held["w"] = mr.Parameter([1.0])
    assert list(held) == ["b-1"]
