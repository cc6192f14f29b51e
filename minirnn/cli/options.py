"""What the options of several commands have in common."""

import argparse
import math
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path


def whole_number(minimum: int) -> Callable[[str], int]:
    """Return what reads an option that is a whole number of at least ``minimum``."""

    def read(text: str) -> int:
        try:
            number = int(text)
        except ValueError:
            number = minimum - 1
        if number < minimum:
            raise argparse.ArgumentTypeError(f"expected a whole number ≥ {minimum}, got {text!r}")
        return number

    return read


def positive(text: str) -> float:
    """Read an option that is a positive number, inf included."""
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not number > 0:
        raise argparse.ArgumentTypeError(f"expected a positive number, got {text!r}")
    return number


def size_of_bar() -> dict[str, int]:
    """Return tqdm's settings of the size: left to itself it shows nothing on a terminal that does not know its own."""
    return {"ncols": shutil.get_terminal_size().columns - 1, "nrows": 20}


def check_writable(option: str, path: Path | None) -> None:
    """Refuse, before anything is done, a file that could not be written afterwards; ValueError naming the option."""
    if path is None:
        return
    try:
        if path.is_dir() or not path.name:
            raise IsADirectoryError("it is a directory")
        if path.is_file() or not path.exists():  # not a device, which is written to as it is
            tempfile.TemporaryFile(dir=path.parent).close()
    except OSError as error:
        fault = (error.strerror or str(error)).lower()
        hint = "try a file in a directory that exists and may be written to"
        raise ValueError(f"{option}: expected a file that can be written, got {str(path)!r}: {fault}: {hint}") from None
