"""What a wrong name may have meant."""

import pytest

from mmdiffusion_jax import errors


@pytest.mark.parametrize(
    ("got", "known", "meant"),
    [
        ("precision", ["positions", "dtype"], "dtype"),
        ("precision", ["positions"], "positions"),
        ("Max-Grad-Norm", ["gradient_clip", "max_skipped"], "gradient_clip"),
        ("epsilon", ["noise", "z_0", "v"], "noise"),
        ("nose", ["noise", "z_0", "v"], "noise"),
        ("dpm++", ["ddim", "dpm_solver_pp"], "dpm_solver_pp"),
    ],
)
def test_meaning_goes_before_letters(got, known, meant):
    assert errors.nearest(got, known) == [meant]
    assert f"did you mean {meant!r}?" in str(errors.unknown("x", got, known))


def test_a_name_is_never_suggested_to_itself():
    for name in ("a.npz", "steps"):
        assert errors.nearest(name, [name, "else"]) == []
    assert errors.nearest("steps", ["steps", "num_steps"]) == ["num_steps"]
