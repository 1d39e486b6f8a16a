"""Both codecs of records, for tests that hold them equal; without a compiled one such tests are skipped."""

import pytest
from glasslog.log.codec import COMPILED, DESCRIPTION, PURE, Codec

BOTH = [
    pytest.param(PURE, id="pure"),
    pytest.param(
        COMPILED, id="compiled", marks=pytest.mark.skipif(COMPILED is None, reason=f"codec: {DESCRIPTION}")
    ),
]

needs_compiled = pytest.mark.skipif(COMPILED is None, reason=f"no compiled codec: {DESCRIPTION}")


def compiled() -> Codec:
    assert COMPILED is not None
    return COMPILED
