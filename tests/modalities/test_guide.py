"""The guide's new modality, as it stands there, keeps the contract."""

import re
from pathlib import Path

import pytest

from tests.modalities.contract import CHECKS

GUIDE = Path(__file__).resolve().parents[2] / "docs" / "adding_a_modality.md"


@pytest.fixture(scope="module")
def case():
    names: dict = {"__name__": "guide"}
    for code in re.findall(r"```python\n(.*?)```", GUIDE.read_text(encoding="utf-8"), re.S):
        exec(code, names)
    return names["case"]


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_the_guides_modality(case, check):
    check(case)
