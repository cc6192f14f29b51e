"""What the options of several commands have in common. Checked by tests/cli/test_train.py and test_bench.py."""

import argparse
from collections.abc import Callable


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
