"""What tests of error texts share."""

import re

import pytest


def raises(kind, message):
    """Expect an error with just this message: the whole text of an error is part of the contract."""
    return pytest.raises(kind, match="^" + re.escape(message) + "$")
