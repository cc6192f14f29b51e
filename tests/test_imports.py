"""The house: which module may import which, how large its rooms are, and that every public name says what it is."""

import ast
import inspect
import os
import pathlib
import re
import subprocess
import sys

import pytest

import minirnn

PACKAGE = pathlib.Path(minirnn.__file__).parent

# The order of shared/DESIGN.md. A module imports from the rows above its own; within a row nobody knows the others,
# except for the parts of one subpackage.
ORDER = [
    ["arguments", "as_command", "textbook", "drawing"],
    ["data"],
    ["counting", "init", "tasks", "kernels", "storage"],
    ["autograd"],
    ["cells"],
    ["losses", "layers"],
    ["optim", "bptt"],
    ["checkpoints"],
    ["training"],
    ["bench", "exercises", "interop"],
    ["cli"],
    ["__main__"],
]
ROW = {name: i for i, row in enumerate(ORDER) for name in row}
MODULES = sorted(".".join(path.relative_to(PACKAGE).with_suffix("").parts) for path in PACKAGE.rglob("*.py"))
EVERYWHERE = {"numpy"} | set(sys.stdlib_module_names)


def source_of(module):
    return (PACKAGE / (module.replace(".", "/") + ".py")).read_text(encoding="utf-8")


def imports(module, source):
    """Yield (dotted name, whether at module level) for every import; names in full, as in minirnn.kernels.unroll."""
    package = ["minirnn", *module.split(".")[:-1]]
    tree = ast.parse(source)
    checks = [n for n in ast.walk(tree) if isinstance(n, ast.If) and getattr(n.test, "id", "") == "TYPE_CHECKING"]
    typing_only = {id(n) for check in checks for statement in check.body for n in ast.walk(statement)}
    inner = {id(n) for f in ast.walk(tree) if isinstance(f, ast.FunctionDef | ast.Lambda) for n in ast.walk(f)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = [*package[: len(package) - node.level + 1]] if node.level else []
            base += [node.module] if node.module else []
            names = [".".join([*base, alias.name]) for alias in node.names]
        else:
            continue
        if id(node) in typing_only and getattr(node, "module", "") == "typing_extensions":
            continue  # which type checkers know; nothing is imported
        for name in names:
            yield name, id(node) not in inner


def faults(module, source):
    """Return every import of the module that it should not have."""
    part = module.split(".")[0]
    found = []
    for name, at_module_level in imports(module, source):
        root, *rest = name.split(".")
        if root != "minirnn":
            allowed = EVERYWHERE | ({"tqdm"} if part in ("training", "bench", "cli") else set())
            if root not in allowed and (at_module_level or root in ("tqdm", "benchmarks")):
                found.append(f"{module} imports {root}")
        elif not rest or rest[0] not in ROW:
            if part not in ("cli", "__main__"):
                found.append(f"{module} imports {name} from the package itself")
        elif rest[0] != part and ROW[rest[0]] >= ROW[part]:
            found.append(f"{module} imports {rest[0]}: the arrow points back")
    return found


def test_imports_point_one_way():
    found = []
    for module in MODULES:
        if module != "__init__":
            assert module.split(".")[0] in ROW, f"{module} has no place in ORDER: find one, here and in DESIGN.md"
            found += faults(module, source_of(module))
    assert found == []


def public():
    """Return what the package imports from its modules, and what it takes from the standard library."""
    names = {name for name, _ in imports("__init__", source_of("__init__"))}
    ours = {name for name in names if name.startswith("minirnn.")}
    return ours, names - ours


def fresh(code):
    """Return what a process of its own prints."""
    return subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.split()


def test_the_package_itself_needs_neither_tqdm_nor_the_command_line():
    """``import minirnn`` stays quick: the bar is only imported to be shown."""
    ours, others = public()
    assert others == {"sys", "typing.TYPE_CHECKING", "importlib.import_module"}
    assert not any(name.split(".")[1] in {"cli", "__main__"} for name in ours)


def test_the_command_that_trains_asks_blas_for_one_thread_before_numpy_loads():
    code = "import os, sys; sys.argv = {}; import minirnn; print(os.environ.get('OPENBLAS_NUM_THREADS'))"
    for argv, said in (
        (["/bin/minirnn", "train", "adding"], "1"),
        (["minirnn", "bench"], None),
        (["my.py", "train"], None),
    ):
        environment = {name: value for name, value in os.environ.items() if "THREADS" not in name}
        run = [sys.executable, "-c", code.format(argv)]
        assert subprocess.run(run, check=True, capture_output=True, text=True, env=environment).stdout == f"{said}\n"


LATER = [
    *("textbook", "counting", "data", "tasks", "losses", "optim", "bptt", "checkpoints", "training", "interop"),
    "exercises",
]
"""What loads when it is first asked for; init does as well, but layers need it."""


def test_the_core_and_the_layers_are_all_that_loads_at_once():
    loaded = fresh("import sys, numpy; before = set(sys.modules); import minirnn; print(*set(sys.modules) - before)")
    rooms = {name.split(".")[1] for name in loaded if name.startswith("minirnn.")}
    assert rooms == {"arguments", "as_command", "autograd", "cells", "init", "kernels", "layers", "recurrent"}
    costly = {"tqdm", "dataclasses", "pathlib", "json", "zipfile", "logging", "concurrent.futures", "numpy.random"}
    assert not costly & set(loaded)


def test_a_room_is_there_when_it_is_first_asked_for():
    code = """
import sys, minirnn
for name in sys.argv[1:]:
    assert name not in vars(minirnn), f"{name} is there already"
    room = getattr(minirnn, name)
    print(room.__name__, room is vars(minirnn)[name] is sys.modules[f"minirnn.{name}"])
"""
    loaded = fresh(code.replace("sys.argv[1:]", repr(LATER)))
    assert loaded == [word for name in LATER for word in (f"minirnn.{name}", "True")]
    assert fresh("import minirnn; print(minirnn.init.__name__)") == ["minirnn.init"]


def test_rooms_can_be_imported_from_the_package():
    assert fresh("from minirnn import bptt, optim; import minirnn.tasks; print(bptt.trace, optim.Adam, minirnn.tasks)")


def test_the_package_lists_what_has_not_been_loaded():
    listed = fresh("import minirnn; print(*dir(minirnn))")
    assert set(minirnn.__all__) <= set(listed)
    assert sorted(listed) == listed
    assert fresh("from minirnn import *; print(bptt.trace.__name__, Tensor.__name__)") == ["trace", "Tensor"]


def test_an_unknown_name_is_the_usual_error():
    with pytest.raises(AttributeError, match=r"^module 'minirnn' has no attribute 'bpt'$") as caught:
        minirnn.bpt  # noqa: B018
    assert (caught.value.name, caught.value.obj) == ("bpt", minirnn)  # from which Python makes "Did you mean: 'bptt'?"
    assert not hasattr(minirnn, "cli_")
    with pytest.raises(ImportError, match="cannot import name 'bpt' from 'minirnn'"):
        from minirnn import bpt  # noqa: F401


def test_layers_are_found_under_their_former_name():
    code = """
import minirnn.recurrent
from minirnn.recurrent import RecurrentLayer, Stacked
from minirnn.recurrent.composites import Bidirectional
import minirnn.recurrent.layer as layer
import minirnn as mr
print(mr.recurrent is mr.layers, RecurrentLayer is mr.RecurrentLayer)
print(Bidirectional is mr.Bidirectional, layer is mr.layers.layer)
"""
    assert fresh(code) == ["True"] * 4


def test_what_works_on_arrays_knows_no_tensor():
    arrays = {f"autograd.{part}" for part in ("op", "ops", "shapes", "tape")}
    for module in MODULES:
        if not (module in arrays or module.startswith(("kernels.", "textbook."))):
            continue
        names = [name for name, _ in imports(module, source_of(module))]
        assert not any("Tensor" in name.split(".") or "minirnn.autograd.tensor" in name for name in names), module
        if module.startswith("kernels."):
            assert {name.split(".")[0] for name in names} - set(sys.stdlib_module_names) <= {"numpy", "minirnn"}, module
            ours = ("minirnn.kernels.", "minirnn.arguments.")
            assert all(name.startswith(ours) for name in names if name.startswith("minirnn")), module


# A Tensor is made of all that stands before it; gradcheck is on its own.
CORE = [
    "op", "shapes", "tape", "modes", "asked", "record", "ops", "functions", "more", "products", "gradients", "tensor",
    "derivatives",
]  # fmt: skip


def test_the_files_of_the_core_have_an_order_and_draw_nothing_unless_asked():
    assert {f"autograd.{name}" for name in CORE} == {m for m in MODULES if m.startswith("autograd.") and "__" not in m}
    inner = []
    for i, name in enumerate(CORE):
        source = source_of(f"autograd.{name}")
        at_run_time = {n for n, _ in imports("_", re.sub(r"(?m)^if TYPE_CHECKING:.*\n(    .*\n)+", "", source))}
        for imported, at_module_level in imports(f"autograd.{name}", source):
            if not at_module_level:
                inner.append(imported)
            elif imported.startswith("minirnn.autograd.") and imported in at_run_time:
                assert imported.split(".")[2] in CORE[:i], f"{name} imports {imported}"
    assert inner == ["minirnn.drawing.tensors"], "within Tensor.to_svg"


BACK = "the arrow points back"
READ = [  # module, what stands in it, what is said of it
    ("kernels.unroll", "from minirnn.autograd.tensor import Tensor", f"kernels.unroll imports autograd: {BACK}"),
    ("kernels.unroll", "from minirnn.arguments import as_size", None),
    ("kernels.unroll", "from .cells import Activation", None),
    ("autograd.ops", "import minirnn.layers.module", f"autograd.ops imports layers: {BACK}"),
    ("autograd.ops", "from minirnn import bptt", f"autograd.ops imports bptt: {BACK}"),
    ("autograd.tape", "from minirnn.autograd.ops import tanh", None),
    ("autograd.tensor", "def f():\n    from minirnn import optim", f"autograd.tensor imports optim: {BACK}"),
    ("cli", "def f():\n    from benchmarks import papers", "cli imports benchmarks"),
    ("layers", "import minirnn as mr", "layers imports minirnn from the package itself"),
    ("layers", "from minirnn import LSTMLayer", "layers imports minirnn.LSTMLayer from the package itself"),
    ("layers", "import scipy.linalg", "layers imports scipy"),
    ("layers", "if True:\n    from tqdm import tqdm", "layers imports tqdm"),
    ("layers", "def f():\n    import tqdm", "layers imports tqdm"),
    ("layers", "def f():\n    import torch", None),
    ("layers", "from typing_extensions import TypeVar", "layers imports typing_extensions"),
    ("layers", "if TYPE_CHECKING:\n    from typing_extensions import TypeVar", None),
    ("layers", "if TYPE_CHECKING:\n    from minirnn.optim import Adam", f"layers imports optim: {BACK}"),
    ("training", "from tqdm import tqdm", None),
    ("cli.train", "import tqdm, argparse", None),
]


def test_the_reader_itself_catches_what_it_should():
    for module, text, fault in READ:
        assert faults(module, text) == ([] if fault is None else [fault])


# --- what a room keeps to itself --------------------------------------------------------------------------------------

NAMED_TUPLES = {"_replace", "_asdict", "_fields", "_make"}


def privates(sources):
    """Return every private name of another room that a module reads; the names of a room are what its files define."""
    own, found = {}, []
    trees = {module: list(ast.walk(ast.parse(source))) for module, source in sources.items()}
    for module, nodes in trees.items():
        names = own.setdefault(module.split(".")[0], set(NAMED_TUPLES))
        for n in nodes:
            if isinstance(n, ast.FunctionDef | ast.ClassDef):
                names.add(n.name)
            elif isinstance(n, ast.Attribute | ast.Name) and isinstance(n.ctx, ast.Store):
                names.add(n.attr if isinstance(n, ast.Attribute) else n.id)
    for module, nodes in trees.items():
        for n in nodes:
            read = [n.attr] if isinstance(n, ast.Attribute) and ast.unparse(n.value) not in ("self", "cls") else []
            if isinstance(n, ast.ImportFrom) and (n.level or n.module.startswith("minirnn")):
                read = [alias.name for alias in n.names]
            hidden = [name for name in read if name.startswith("_") and not name.startswith("__")]
            found += [f"{module}:{n.lineno} {name}" for name in hidden if name not in own[module.split(".")[0]]]
    return found


def test_no_room_reads_what_another_keeps_to_itself():
    assert privates({module: source_of(module) for module in MODULES}) == []


def test_a_look_into_another_room_would_be_seen():
    def seen(text):
        return [fault.split(" ")[1] for fault in privates({"a.one": text, "a.two": "_known = 1", "b": "_other = 1"})]

    assert seen("x._other") == seen("def f(y):\n    return y.z()._other") == ["_other"]
    assert seen("from minirnn.b import _other, known") == seen("from .b import _other") == ["_other"]
    assert seen("x._known\nself._other\nx._replace(a=1)\nx.__doc__\nx.known\nx._set = 1\nx._set") == []


SIZES = {
    "": 1685, "autograd": 3275, "bench": 1240, "bptt": 4640, "cells": 1140, "checkpoints": 700, "cli": 2530,
    "data": 755, "drawing": 1060, "exercises": 1600,
    "interop": 2555,
    "kernels": 2985, "layers": 3785, "tasks": 1555, "textbook": 840, "training": 3900,
    "optim": 720,
}  # fmt: skip
"""Lines of Python and JavaScript in each room at most, 34,536 in all; "" is the files beside the rooms."""


def test_no_room_grows_and_no_file_is_longer_than_one_can_keep_in_mind():
    lines = dict.fromkeys(SIZES, 0)
    for path in (*PACKAGE.rglob("*.py"), *PACKAGE.rglob("*.js")):
        length = len(path.read_text(encoding="utf-8").splitlines())
        assert length <= 400, path
        room, *file = path.relative_to(PACKAGE).parts
        lines[room if file else ""] += length
    assert {room: n for room, n in lines.items() if n > SIZES[room]} == {}


# --- what is public ---------------------------------------------------------------------------------------------------


def test_all_lists_every_public_name_and_no_other():
    assert sorted(name.split(".")[-1] for name in public()[0] - {"minirnn.as_command"}) == sorted(minirnn.__all__)
    assert len(set(minirnn.__all__)) == len(minirnn.__all__)


def test_every_public_name_has_a_docstring():
    lacking = []
    for name in minirnn.__all__:
        thing = getattr(minirnn, name)
        inner = {}
        if inspect.isclass(thing):
            inner = {n: v for n, v in vars(thing).items() if inspect.isfunction(v) or isinstance(v, property)}
        elif inspect.ismodule(thing):
            inner = {n: v for n, v in vars(thing).items() if callable(v) and v.__module__ == thing.__name__}
        inner = {f"{name}.{n}": v for n, v in inner.items() if not n.startswith("_")}
        lacking += [n for n, v in {name: thing, **inner}.items() if not (v.__doc__ or "").strip()]
    assert lacking == []


def test_the_tests_that_a_module_names_are_there():
    tests = pathlib.Path(__file__).parent
    names = {path.name for path in tests.rglob("*.py")}
    for module in MODULES:
        source = source_of(module)
        assert all((tests.parent / path).is_file() for path in re.findall(r"\btests/[\w/]+\.py\b", source)), module
        assert set(re.findall(r"\btest_\w+\.py\b", source)) <= names, module


LOOKS = [
    ["unrolled"],
    ["run"],
    ["credit"],
    ["flow"],
    ["regulariser", "plots", "places", "measures"],
    ["equations", "findings"],
    ["explaining", "training_record"],
    ["diagnosis"],
    ["page"],
    ["tracing"],
]
"""The order within minirnn/bptt: numbers, looks at numbers, words and pages. A file imports from the rows above."""


def test_imports_within_bptt_point_one_way():
    row = {name: i for i, names in enumerate(LOOKS) for name in names}
    for module in MODULES:
        own = module.split(".")[1] if module.startswith("bptt.") else "__init__"
        for name, _ in imports(module, source_of(module)) if own != "__init__" else ():
            other = name.removeprefix("minirnn.bptt.").split(".")[0]
            if name.startswith("minirnn.bptt.") and other != own:
                assert row[other] < row[own], f"{module} imports {other}"
