"""Public names: each has a docstring, and an example or a stated reason why it has none."""

import types

import pytest

from docs._extensions import public


def test_every_public_name_is_documented():
    assert public.complaints() == []


def test_a_name_is_shown_in_full_once():
    homes = public.homes()
    assert homes["mmdiffusion_jax.trained.load"] == "mmdiffusion_jax.load"
    assert homes["mmdiffusion_jax.pure.marginal"] == "mmdiffusion_jax.process.marginal"
    assert all(homes[home] == home for home in homes.values())
    # Two functions of one name are two.
    assert homes["mmdiffusion_jax.apps.sample"] != homes["mmdiffusion_jax.sampling.sample"]


@pytest.fixture
def stub(monkeypatch):
    """Makes these the only public names: a function's docstring, and the table of reasons."""

    def make(docstring, reasons):
        function = types.FunctionType((lambda: None).__code__, {}, "act")
        function.__doc__ = docstring
        monkeypatch.setattr(public, "homes", lambda: {"mmdiffusion_jax.act": "mmdiffusion_jax.act"})
        monkeypatch.setattr(public, "value_of", lambda name: function)
        monkeypatch.setattr(public, "elsewhere", lambda: reasons)
        return public.complaints()

    return make


@pytest.mark.parametrize(
    ("docstring", "reasons", "said"),
    [
        ("", {"mmdiffusion_jax.act": "why"}, "no docstring"),
        ("Acts.", {}, "neither an example nor a reason"),
        ("Acts.\n\nExample:\n    >>> act()", {"mmdiffusion_jax.act": "why"}, "has an example"),
        ("Acts.\n\nExample:\n    >>> act()", {"mmdiffusion_jax.gone": "why"}, "no public name"),
    ],
)
def test_what_lacks_is_said(stub, docstring, reasons, said):
    (complaint,) = stub(docstring, reasons)
    assert said in complaint


def test_what_is_whole_is_not(stub):
    assert stub("Acts.\n\nExample:\n    >>> act()", {}) == []
    assert stub("Acts.", {"mmdiffusion_jax.act": "why"}) == []


def test_a_number_that_a_class_holds_is_no_example(monkeypatch):
    """`int` shows how it is called in its docstring; interpreters too store numbers in classes."""

    class Kind:
        """Has a number."""

        size = 3

        def act(self):
            """Acts."""

    monkeypatch.setattr(public, "value_of", lambda name: Kind)
    assert ">>> " in Kind.size.__doc__
    assert not public.has_example("Kind")
    Kind.act.__doc__ = ">>> Kind().act()"
    assert public.has_example("Kind")


def test_constants_have_the_string_below_them():
    assert public.docstring("mmdiffusion_jax.process.VARIANCES").startswith("The choices of")
    assert "pixels" in public.docstring("mmdiffusion_jax.evaluation.CLASSIFIER")
    assert public.docstring("mmdiffusion_jax.pure.TARGETS") == "What a network may predict."
