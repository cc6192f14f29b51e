"""``python -m benchmarks``: minirnn beside its peers, and papers' experiments. See README.md for what, and how."""

import argparse
import importlib
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from benchmarks import roster
from benchmarks.settle import settle

COMMANDS = {  # name -> (module that has `run`, help)
    "layer": ("side_by_side", "forward and backward of the layer, all gradients, shape by shape (about 3 minutes)"),
    "ragged": ("ragged", "rows of unequal lengths against padding, forward and backward, all gradients"),
    "forward": ("side_by_side", "forward alone, nothing recorded, on the same shapes"),
    "step": ("step", "a whole training step: layer, head, loss, clipping, Adam; Elman, LSTM and a text model"),
    "stream": ("stream", "one step at a time, nothing recorded, beside torch's cells"),
    "door": ("door", "what stands around the kernels: the layer's door, the tape and zero_grad"),
    "cold": ("cold", "a whole process, from its start to the adding problem solved"),
    "slope": ("slope", "time against the number of steps, T = 10² … 10⁶"),
    "trace": ("trace", "what a look inside costs: bptt.trace, credit and doctor beside a plain pass"),
    "tape": ("tape", "what recording an op costs: one loop, op by op"),
}
WITH_SHAPES = ("layer", "ragged", "forward")
WITH_PLOT = ("layer", "forward")
WITH_CELL = ("layer", "ragged")
WITH_DTYPE = ("layer",)


def main(argv: list[str] | None = None) -> int:
    """Run one command; return the exit status."""
    argv = sys.argv[1:] if argv is None else argv
    if argv[:1] == ["papers"]:
        from benchmarks.papers import command as papers  # not above: it loads numpy, and settles nothing

        return papers.main(argv[1:])
    parser = make_parser()
    options = parse(parser, argv)
    try:
        settled = settle(threads=options.threads, cpu=options.cpu)
    except ValueError as error:
        parser.error(str(error))

    from minirnn.bench import measure  # not above: it loads numpy, for which `settle` would come too late

    sheet = Sheet()
    packages = dict.fromkeys(package for peer in roster.of(options.command, options.cell) for package in peer.packages)
    machine = {"command": options.line} | measure.machine(["minirnn", *packages]) | {"threads": settled}
    sheet("\n".join(f"- {key}: {value}" for key, value in machine.items()))
    leave_out_absent(options, sheet)
    command = importlib.import_module(f"benchmarks.{COMMANDS[options.command][0]}")
    measured = command.run(options, sheet)
    if options.json:
        measure.write_json(options.json, {"machine": machine, **measured})
    if options.markdown:
        options.markdown.write_text("\n".join(sheet.parts) + "\n", "utf-8")
    written = [str(path) for path in _files(options)]
    if written:
        print(f"\nWritten: {', '.join(written)}")
    return 0


class Sheet:
    """What is printed, kept for a file."""

    def __init__(self) -> None:
        self.parts: list[str] = []

    def __call__(self, text: str) -> None:
        print(text, flush=True)
        self.parts.append(text)


def leave_out_absent(options: argparse.Namespace, sheet: Sheet) -> None:
    """Name the peers that are not installed, and go on with the others."""
    absent = [peer for peer in options.peers if not all(map(find_spec, peer.packages))]
    options.peers = [peer for peer in options.peers if peer not in absent]
    if absent:
        sheet(f'\nNot installed: {", ".join(peer.label for peer in absent)}. Try pip install -e ".[bench]"')


# --- the command line -------------------------------------------------------------------------------------------------


def parse(parser: argparse.ArgumentParser, argv: list[str]) -> argparse.Namespace:
    """Return the options; ``layer`` if no command is named. Exit 2 for what cannot be."""
    if not argv or (argv[0].startswith("-") and argv[0] not in ("-h", "--help")):
        argv = ["layer", *argv]
    options = parser.parse_args(argv)
    options.line = " ".join(["python -m benchmarks", *argv])
    options.named = options.peers is not None
    options.runs = options.runs or (1 if options.quick else 3)
    for name in ("plot", "cell", "dtype"):
        setattr(options, name, getattr(options, name, None))
    who = options.command, options.cell
    try:
        options.peers = roster.choose(*who, options.peers) if options.named else roster.of(*who)
    except ValueError as error:
        parser.error(str(error))
    for file in _files(options):  # better now than after minutes of measuring
        if not file.parent.is_dir():
            parser.error(f"cannot write {file}: there is no folder {file.parent}")
    if options.plot and not find_spec("matplotlib"):
        parser.error('--plot needs matplotlib: pip install -e ".[bench]"')
    return options


def _files(options: argparse.Namespace) -> list[Path]:
    return [file for file in (options.json, options.markdown, options.plot) if file]


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of all commands."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description="minirnn beside its peers, in turns, on this machine. Without a command: layer.",
        epilog='The peers come with pip install -e ".[bench]"; one that is not installed is named and left out. '
        "See benchmarks/README.md for how it is measured.",
    )
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name, (_, about) in COMMANDS.items():
        _add_options(commands.add_parser(name, help=about, description=f"{about[0].upper()}{about[1:]}."), name)
    commands.add_parser("papers", help="papers' experiments run again, ours beside the published figures")  # for --help
    return parser


def _add_options(parser: argparse.ArgumentParser, command: str) -> None:
    add, names = parser.add_argument, ",".join(peer.name for peer in roster.PEERS[command])
    if command in ("tape", "door"):
        parser.set_defaults(threads=1)
    else:
        about = "1 (default): the whole process on one CPU; more: not pinned"
        add("--threads", type=_size, default=1, metavar="N", help=about)
    add("--cpu", type=int, metavar="CPU", help="with one thread: this CPU; default: the lowest that may be used")
    add("--peers", metavar="NAMES", help=f"only these beside minirnn, of {names}")
    add("--quick", action="store_true", help="a short look, with figures to match")
    add("--turns", type=_several, metavar="K", help="turns in a run; default: by the time they take")
    add("--runs", type=_size, metavar="K", help="runs, of which the median is reported; default: 3, or 1 for --quick")
    add("--json", type=Path, metavar="FILE", help="write all times there too")
    add("--markdown", type=Path, metavar="FILE", help="write what is printed there too")
    if command in WITH_SHAPES:
        add(
            "--shape",
            type=_shape,
            action="append",
            metavar="N,T,D,H",
            help="this shape (again for more), not the usual ones",
        )
    if command in WITH_CELL:
        usual, said = ("elman", "elman") if command == "layer" else (None, "all three")
        add("--cell", choices=tuple(roster.CELLS), default=usual, help=f"of the layer; default: {said}")
    if command in WITH_DTYPE:
        add("--dtype", choices=("float32", "float64"), default="float32", help="of everybody; default: float32")
    if command in WITH_PLOT:
        add("--plot", type=Path, metavar="FILE", help="draw the times ÷ minirnn's there: .svg, .png or .pdf")


def _size(text: str, least: int = 1) -> int:
    if not text.isdecimal() or int(text) < least:
        raise argparse.ArgumentTypeError(f"expected a whole number ≥ {least}, got {text!r}")
    return int(text)


def _several(text: str) -> int:
    return _size(text, 2)


def _shape(text: str) -> Any:
    sizes = [_size(size.strip()) for size in text.split(",")]
    if len(sizes) != 4:
        raise argparse.ArgumentTypeError(f"expected four sizes N,T,D,H, got {text!r}")
    return tuple(sizes)


if __name__ == "__main__":
    sys.exit(main())
