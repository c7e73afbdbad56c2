"""What is a number, and the words of the error for one out of its range."""

import numpy as np
import pytest

from mmdiffusion_jax import ranges


def test_the_words_of_a_range():
    for value, words in ((0, "1 or more"), ("3", "a whole number, 1 or more"), (2**31, "1 … 2147")):
        with pytest.raises(ValueError, match=f"expected {words}"):
            ranges.check_whole("x", value, 1)
    for ends, words in (("[]", "a number in \\[0, 1\\]"), ("()", "a number in \\(0, 1\\)")):
        with pytest.raises(ValueError, match=words):
            ranges.check_real("x", 2.0, 0, 1, ends)
    for value in (float("inf"), True, np.True_, "0.5"):
        with pytest.raises(ValueError, match="a finite number"):
            ranges.check_real("x", value)


def test_a_name_among_others():
    ranges.check_one_of("target", "v", {"noise": 1, "v": 2})
    with pytest.raises(ValueError, match=r"`target`: got 'nose', .*did you mean 'noise'"):
        ranges.check_one_of("target", "nose", ("noise", "v"))
