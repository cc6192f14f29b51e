"""``minirnn import`` and ``minirnn export``: models of other libraries, and models for them, as files."""

import argparse
import warnings
from pathlib import Path
from typing import Any

from minirnn import interop
from minirnn.cli.options import Options, add_parser, check_writable, expanded
from minirnn.cli.saved import Saved, load
from minirnn.interop.describing import build_model, describe_model, fill
from minirnn.interop.keras_files import write_h5
from minirnn.interop.of_keras import keras_layers
from minirnn.interop.parts import Arrays, InteropError, Report
from minirnn.interop.tensors import write_tensors
from minirnn.layers.module import Module
from minirnn.storage import PARAMETERS, read, write

FORMATS = ("onnx", "torch", "keras", "safetensors")
FOREIGN = {".onnx": "onnx", ".safetensors": "safetensors", ".keras": "keras", ".h5": "keras"}
"""What a file's name says of it; torch's own files are pickles, and are never loaded."""
_PICKLES = (".pt", ".pth", ".bin", ".ckpt", ".pkl")
_DESCRIBED = "described"
_READING = "load_checkpoint"  # what errors about minirnn's own files begin with, as everywhere

_PATH: dict[str, Any] = {"type": expanded, "metavar": "PATH"}
_OUT: dict[str, Any] = {"type": expanded, "metavar": "FILE", "required": True, "dest": "out"}


def add_command(commands: Any) -> None:
    """Add ``import`` and ``export`` to the command line."""
    options: Options = {
        "path": _PATH | {"help": "a file of safetensors (with torch's names too), of ONNX or of Keras"},
        "--from": {
            "choices": FORMATS,
            "dest": "source",
            "required": True,
            "help": "what wrote it, or whose names it has",
        },
        "-o": _OUT | {"help": "the .npz to write, for minirnn inspect and export"},
        "--activation": {"help": "φ of an Elman layer, where the file does not say"},
        "--prefix": {"help": "of torch's names, what those to read start with"},
        "--readout": {"choices": ("all", "last"), "help": "which steps the head reads, where the file does not say"},
        "--reset-before": {
            "action": "store_true",
            "help": "of a GRU of Keras without bias, where the file does not say",
        },
    }
    about = "Read a model that another library trained, say what became of its arrays, and save it."
    add_parser(commands, "import", run_import, options, help="read another library's model", description=about)
    options = {
        "path": _PATH | {"help": "what minirnn train --save or minirnn import wrote, or a file of another library"},
        "--to": {"choices": FORMATS, "required": True, "help": "torch: its names, in a file of safetensors"},
        "-o": _OUT | {"help": "the file to write"},
    }
    about = "Write a model for another library. What it cannot hold is refused by name."
    add_parser(commands, "export", run_export, options, help="write a model for another library", description=about)


def run_import(arguments: argparse.Namespace) -> int:
    """Read a file, write an .npz, and print the report; return 0."""
    check_writable("-o", arguments.out)
    given = {name: getattr(arguments, name) for name in ("activation", "prefix", "readout") if getattr(arguments, name)}
    given |= {"reset_after": False} if arguments.reset_before else {}
    model = read_foreign(arguments.path, arguments.source, **given)
    arrays = {PARAMETERS + name: p.data for name, p in model.named_parameters()}
    content = {"module": type(model).__name__, _DESCRIBED: describe_model(model, "import")}
    write(arguments.out, "weights", content, arrays, "import")
    print(f"{model}\n{model.report}\nwrote {arguments.out}: {model.count_params():,} parameters")
    return 0


def run_export(arguments: argparse.Namespace) -> int:
    """Read a model of any kind, and write it; return 0."""
    check_writable("-o", arguments.out)
    model, out = read_model(arguments.path, text=False), arguments.out
    model = model.model if isinstance(model, Saved) else model
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        if arguments.to == "onnx":
            interop.to_onnx(model, out)
        elif arguments.to == "torch":
            write_tensors(interop.to_torch(model), out, {}, "export")
        elif arguments.to == "keras":
            interop.to_keras(model)  # which says what the arrays do not
            write_h5(keras_layers(model), out, "export")
        else:
            interop.save_safetensors(model, out)
    notes = [f"note: {warning.message}" for warning in said]
    print("\n".join([*notes, f"wrote {out}: {model.count_params():,} parameters"]))
    return 0


def read_foreign(path: Path, source: str, **options: Any) -> Any:
    """Read a file of another library; ValueError for an option that it has no use for."""
    if path.suffix in _PICKLES:
        raise InteropError(
            f"import: {str(path)!r} is a pickle by its name, which is never loaded: loading one can run any program. "
            "Save it with safetensors.torch.save_file(module.state_dict(), …)"
        )
    known = {"onnx": (), "keras": ("activation", "readout", "reset_after")}.get(
        source, ("activation", "prefix", "readout")
    )
    if unused := [name for name in options if name not in known]:
        raise ValueError(
            f"--{unused[0].replace('_', '-')}: expected another --from with it than {source}: leave it out"
        )
    if source == "onnx":
        return interop.from_onnx(path)
    return (interop.from_keras if source == "keras" else interop.load_safetensors)(path, **options)


def read_model(path: Path, **options: Any) -> Any:
    """Read a model of any kind: another library's, what ``minirnn import`` wrote, or `Saved` of ``minirnn train``.

    The options are those of `minirnn.cli.saved.load`.
    """
    if path.suffix in (*FOREIGN, *_PICKLES):
        return read_foreign(path, FOREIGN.get(path.suffix, "torch"))
    if not path.is_dir():
        contents = read(path, _READING)
        if contents.kind == "weights" and _DESCRIBED in contents.content:
            arrays = contents.parameters
            most = sum(array.size for array in arrays.values())
            model: Module = build_model(contents.content[_DESCRIBED], most, _READING)
            return fill(model, Arrays(arrays, _READING, Report()))
    return load(path, **options)
