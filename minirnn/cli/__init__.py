"""The command ``minirnn``: `main`, and a module for each of its commands.

Results go to stdout; the bar and errors go to stderr. The exit status is 0, 1 when a training did not reach its goal,
2 after an error, 130 after Ctrl-C, 143 after SIGTERM.
"""

import re
import sys
import warnings
from collections.abc import Sequence

from minirnn import __version__
from minirnn.checkpoints import DirectoryLockedError
from minirnn.cli import bench, convert, exercise, forecast, inspect, lists, saved, sweep, train
from minirnn.cli.options import Parser
from minirnn.cli.output import Output, printing

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
    with printing() as out, warnings.catch_warnings():
        warnings.filterwarnings("default", "set_num_threads")  # a note, which -W error must not make an error
        try:
            return _status(sys.argv[1:] if argv is None else argv, out)
        except SystemExit as done:  # argparse has printed the help, or the version
            return int(done.code or 0)
        except KeyboardInterrupt:
            print("minirnn: interrupted", file=sys.stderr)
            return INTERRUPTED
        except BrokenPipeError:  # the reader has gone, as in ``minirnn count … | head -1``
            return BROKEN_PIPE
        except _EXPECTED as error:
            text = " ".join(str(error).split()) or type(error).__name__
            text = re.sub(r"\bencoding='([\w-]+)'", r"--encoding \1", text)  # what to try, as it is said here
            print(f"minirnn: error: {text}", file=sys.stderr)
            return ERROR


def _status(argv: Sequence[str], out: Output) -> int:
    if "reproduce" in argv[:1]:
        raise ValueError(
            "reproduce: the papers' experiments stand beside the benchmarks now: from a checkout, python -m "
            f"benchmarks papers {' '.join(argv[1:])}"
        )
    arguments = _parser().parse_args(inspect.with_path_named(argv))
    # What is to be saved is worth the work when nobody reads on, as in ``minirnn train … --save PATH | head``.
    out.lasting = any(getattr(arguments, name, None) for name in ("save", "checkpoint", "html", "json"))
    status: int = arguments.run(arguments)
    out.flush()
    if out.fault is not None:
        raise out.fault
    return status


def _parser() -> Parser:
    parser = Parser(
        prog="minirnn", description="Recurrent layers on numpy alone: count them, train them, look inside, time them."
    )
    parser.add_argument(
        "--version", action="version", version=f"minirnn {__version__}", help="print the version and exit"
    )
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    for command in (lists, train, sweep, saved, forecast, inspect, convert, bench, exercise):
        command.add_command(commands)
    return parser
