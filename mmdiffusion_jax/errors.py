"""One voice for bad input: what was asked, what came, what was expected, and the mend."""

import difflib
from collections.abc import Iterable


def message(argument: str, got: object, expected: str, mend: str) -> str:
    """Words one error: the argument, what it got, what was expected, and how to mend it.

    Args:
        argument: the name the caller knows the value by.
        got: what came, shown by its `repr` unless it is already a phrase (a `str`).
        expected: what would have been right.
        mend: what the caller can do about it.

    Returns:
        A single sentence, ready to be raised.

    Example:
        >>> message("num_steps", 0, "a whole number of at least 1", "raise it")
        '`num_steps`: got 0, expected a whole number of at least 1; raise it.'
    """
    shown = got if isinstance(got, str) else repr(got)
    end = "" if mend.endswith("?") else "."
    return f"`{argument}`: got {shown}, expected {expected}; {mend}{end}"


def unknown(argument: str, got: str, known: Iterable[str], mend: str = "") -> str:
    """Words the error for a name that is not among the known ones, with the nearest of them.

    Args:
        argument: the name the caller knows the value by.
        got: the unknown name.
        known: the names that would have been right.
        mend: how to mend it; left out, "use one of these" or the nearest name.

    Returns:
        A single sentence, ready to be raised.

    Example:
        >>> unknown("target", "nose", ["noise", "z_0", "v"])
        "`target`: got 'nose', expected one of 'noise', 'v', 'z_0'; did you mean 'noise'?"
        >>> unknown("given", "x", [])
        "`given`: got 'x', expected no name at all; leave it out."
    """
    names = sorted(known)
    expected = "one of " + ", ".join(map(repr, names)) if names else "no name at all"
    near = difflib.get_close_matches(str(got), names, n=1, cutoff=0.5)
    if near:
        text = message(argument, repr(got), expected, f"did you mean {near[0]!r}?")
        return text + (f" {mend}." if mend else "")
    return message(
        argument, repr(got), expected, mend or ("use one of these" if names else "leave it out")
    )
