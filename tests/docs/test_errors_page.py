"""docs/errors.md: each of its messages is one that the code raises, and is raised here."""

import re
from pathlib import Path

import pytest

from tests.docs.provoked import PROVOKED

PAGE = Path(__file__).resolve().parents[2] / "docs" / "errors.md"
MESSAGES = re.findall(r"^\| `` (.+?) `` \| (?:.+) \|$", PAGE.read_text(encoding="utf-8"), re.M)


def fits(message, text):
    """Whether a message of the page, "…" being anything, is the beginning of an error's text."""
    return re.match(".+?".join(map(re.escape, message.split("…"))), text, re.S) is not None


@pytest.mark.parametrize("provoke", PROVOKED, ids=lambda provoke: provoke.__name__)
def test_what_is_raised_is_on_the_page_once(tmp_path, provoke):
    with pytest.raises(ValueError, match=r"^`") as raised:
        provoke(tmp_path)
    assert [message for message in MESSAGES if fits(message, str(raised.value))] == [
        of_provocation(provoke)
    ]


def test_every_message_of_the_page_is_raised():
    assert len(set(MESSAGES)) == len(MESSAGES) == len(PROVOKED)


def of_provocation(provoke):
    """The message at its place: the page has them in the order of the provocations."""
    return MESSAGES[PROVOKED.index(provoke)]


def test_the_ellipsis_stands_for_something():
    assert fits("`a`: got …, expected 3", "`a`: got 2, expected 3; raise it.")
    assert not fits("`a`: got …, expected 3", "`a`: got 2, expected 4; raise it.")
    assert not fits("`b`: got", "`a`: got 2")
