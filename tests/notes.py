"""What tests that loop over a grid share."""

from contextlib import contextmanager


@contextmanager
def noted(what):
    """Say where in a loop it was, if something fails."""
    try:
        yield
    except Exception as error:
        error.add_note(f"this was: {what}")
        raise
