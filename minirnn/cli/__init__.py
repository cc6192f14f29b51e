"""The command ``minirnn``: `main`, and a module for each of its commands.

Results go to stdout; the bar and errors go to stderr. The exit status is 0, 1 when a training did not reach its goal,
2 after an error, 130 after Ctrl-C.
"""

import os
import sys
from collections.abc import Sequence

from minirnn import __version__
from minirnn.checkpoints import DirectoryLockedError
from minirnn.cli import bench, inspect, lists, saved, train
from minirnn.cli.options import Parser

ERROR, INTERRUPTED, BROKEN_PIPE = 2, 130, 141
"""What `main` returns when a command did not run to its end; 130 and 141 are a shell's for SIGINT and SIGPIPE."""

_EXPECTED = (
    *(ValueError, TypeError, LookupError, ArithmeticError, OSError, ImportError, MemoryError),
    DirectoryLockedError,
)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command ``minirnn`` with these arguments, or those of the process; return its exit status.

    It is 0, 1 (not solved), 2 (an error, printed in one line), 130 (Ctrl-C) or 141 (nobody reads stdout).

    >>> status = main(["count", "--inputs", "10", "--hidden", "20", "--outputs", "5", "--no-bias"])
    Elman layer, ...
    >>> status
    0
    """
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")  # φ and · must not stop a run where the output is not Unicode
    try:
        argv = sys.argv[1:] if argv is None else argv
        if "reproduce" in argv[:1]:
            raise ValueError(
                "reproduce: the papers' experiments stand beside the benchmarks now: from a checkout, python -m "
                f"benchmarks papers {' '.join(argv[1:])}"
            )
        arguments = _parser().parse_args(inspect.with_path_named(argv))
        status: int = arguments.run(arguments)
        sys.stdout.flush()
        return status
    except SystemExit as done:  # argparse has printed the help, or the version
        return int(done.code or 0)
    except KeyboardInterrupt:
        print("minirnn: interrupted", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:  # the reader has gone, as in ``minirnn count … | head -1``
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # so that the flush at exit finds no pipe
        return BROKEN_PIPE
    except _EXPECTED as error:
        text = " ".join(str(error).split()) or type(error).__name__
        print(f"minirnn: error: {text}", file=sys.stderr)
        return ERROR


def _parser() -> Parser:
    parser = Parser(
        prog="minirnn", description="Recurrent layers on numpy alone: count them, train them, look inside, time them."
    )
    parser.add_argument(
        "--version", action="version", version=f"minirnn {__version__}", help="print the version and exit"
    )
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    for command in (lists, train, saved, inspect, bench):
        command.add_command(commands)
    return parser
