"""Names of classes: shown, and checked."""

import numpy as np
import pytest

from mmdiffusion_jax.modalities import Label

LATENT = (4, 4, 3)


def test_names_are_shown_and_numbers_where_there_are_none():
    named = Label(latent=LATENT, num_classes=3, class_names=("cat", "dog", "owl"))
    assert named.show(np.array([2, 0])) == ["owl", "cat"]
    assert Label(latent=LATENT, num_classes=3).show(np.array([2, 0])) == ["2", "0"]


@pytest.mark.parametrize("names", [("a",), ("a", "b", "c"), ("a", "a")])
def test_names_are_as_many_as_classes_and_differ(names):
    with pytest.raises(ValueError, match=r"`class_names`: got .*expected 2 different ones"):
        Label(latent=LATENT, num_classes=2, class_names=names)


def test_a_successor_keeps_the_numbers_of_named_classes():
    def named(*names):
        return Label(latent=LATENT, num_classes=len(names), class_names=names)

    deployed, new = named("cat", "dog"), Label(latent=LATENT, num_classes=3)
    for successor in (named("cat", "dog", "ant"), deployed, new):
        deployed.check_successor("label", successor)
    new.check_successor("label", named("ant", "cat", "dog"))
    words = r"`config.modalities.label.class_names`: got 'ant' for class 0, expected 'cat'.* at the"
    with pytest.raises(ValueError, match=words):
        deployed.check_successor("label", named("ant", "cat", "dog"))
