"""Calls of a modality's functions, and the checks of what they return.

A result of another shape than the contract says would broadcast, and be wrong in silence; so each
is checked, once, at trace time.
"""

from collections.abc import Callable, Mapping
from types import EllipsisType
from typing import Any

import jax
import jax.numpy as jnp

from mmdiffusion_jax import errors
from mmdiffusion_jax.model.absence import where_present, without_absent
from mmdiffusion_jax.model.functions import Modal, ModelFunctions, Prediction, expect_modal
from mmdiffusion_jax.process.checks import (
    as_array,
    as_key,
    at_least,
    checked_result,
    expect,
    expect_name,
)

RESULTS: Mapping[str, str] = {
    "encode": "the encoding E(x) of each example in the one latent shape",
    "log_prob": "log p(x | z_t) of each example",
    "expected_encoding": "the mean encoding of each example in the one latent shape",
    "encoding_variance": "the variance of each example's encoding in the one latent shape",
    "draw": "one x an example",
    "most_likely": "one x an example",
    "reconstruct": "the parameters of p(x | z_t)",
    "pool": "one set of parameters",
    "latent_mask": "which entries of the encoding of each example are determined",
    "condition_log_prob": "log p(x | z_t) of each example",
}
"""What each function of a modality returns, in words for the errors."""


def estimate_encodings(
    model: ModelFunctions, prediction: Prediction, keys: jax.Array | None = None
) -> dict[str, jax.Array]:
    """Ê_i of every secondary modality, from the head of that modality.

    Without keys Ê_i is the mean over p(x_i | z_t); with (batch,) typed keys it is the encoding of a
    draw x̂_i ~ p(x_i | z_t). Returns {name: (batch, *latent)}.

    Raises:
        ValueError: a head or a function the model lacks, or an encoding of another shape.

    Example:
        >>> from mmdiffusion_jax import model
        >>> codes = jnp.array([[0.0, 1.0], [1.0, 0.0]])
        >>> point = model.ModalityFunctions(encode=lambda x: x, log_prob=lambda mean, x: x)
        >>> label = model.ModalityFunctions(
        ...     encode=lambda k: codes[k],
        ...     log_prob=model.categorical_log_prob,
        ...     expected_encoding=lambda logits: jax.nn.softmax(logits) @ codes,
        ... )
        >>> modalities = {"x": point, "label": label}
        >>> functions = model.ModelFunctions(lambda z_t, t: None, modalities, "x")
        >>> unsure = model.Prediction(jnp.zeros((1, 2)), {"label": jnp.zeros((1, 2))})
        >>> estimate_encodings(functions, unsure)["label"].tolist()
        [[0.5, 0.5]]
    """
    expect("model", model, ModelFunctions)
    expect("prediction", prediction, Prediction)
    estimates = {}
    latent, dtype = prediction.value.shape, prediction.value.dtype
    if keys is not None:
        keys = as_key("keys", keys, latent[0])
    for index, name in enumerate(model.secondaries):
        head = head_of(prediction, name)
        if keys is None:
            estimates[name] = call_modality(
                model, name, "expected_encoding", head, shape=latent, dtype=dtype
            )
        else:
            draw_keys = jax.vmap(lambda key, index=index: jax.random.fold_in(key, index))(keys)
            x = draw(model, name, draw_keys, head)
            estimates[name] = call_modality(model, name, "encode", x, shape=latent, dtype=dtype)
    return estimates


def draw(model: ModelFunctions, name: str, keys: jax.Array, head: Any) -> jax.Array:
    """x ~ p(x_name | z_t), (batch, …) in data units, with one of (batch,) keys for each example.

    So the draw of an example does not depend on the others.

    Raises:
        ValueError: a modality that cannot draw, or that draws other than one x an example.

    Example:
        >>> from mmdiffusion_jax import model
        >>> label = model.ModalityFunctions(
        ...     encode=lambda k: k, log_prob=model.categorical_log_prob, draw=jax.random.categorical
        ... )
        >>> functions = model.ModelFunctions(lambda z_t, t: None, {"label": label}, "label")
        >>> sure = jnp.array([[0.0, 100.0], [100.0, 0.0]])
        >>> draw(functions, "label", jax.random.split(jax.random.key(0), 2), sure).tolist()
        [1, 0]
    """
    expect("model", model, ModelFunctions)
    head = jax.tree.map(lambda leaf: as_array(f"head of {name!r}", leaf), head)
    rows = {leaf.shape[:1] for leaf in jax.tree.leaves(head)}
    if len(rows) != 1 or () in rows:
        raise errors.invalid(
            f"head of {name!r}",
            f"leaves with leading axes {sorted(rows)}",
            "one row an example in every leaf",
            "broadcast what all examples share",
        )
    keys = as_key("keys", keys, *rows.pop())

    def one(key: jax.Array, parameters: Any) -> jax.Array:
        alone = jax.tree.map(lambda leaf: leaf[None], parameters)
        return call_modality(model, name, "draw", key, alone, shape=(1, ...))[0]

    return jax.vmap(one)(keys, head)


def head_of(prediction: Prediction, name: str) -> Any:
    """The head parameters of one modality.

    Raises:
        ValueError: a head the denoiser does not have.

    Example:
        >>> from mmdiffusion_jax import model
        >>> prediction = model.Prediction(jnp.zeros((1, 2)), {"label": jnp.ones((1, 3))})
        >>> head_of(prediction, "label").tolist()
        [[1.0, 1.0, 1.0]]
    """
    expect("prediction", prediction, Prediction)
    expect_name(
        "modality",
        name,
        prediction.heads,
        "the denoiser has no such head",
        none="the denoiser gives no heads",
    )
    return prediction.heads[name]


def function_of(model: Modal, name: str, wanted: str) -> Callable[..., Any]:
    """One function of a modality, by its name in `ModalityFunctions`.

    Raises:
        ValueError: no model, an unknown modality or function, or one that was left out.

    Example:
        >>> from mmdiffusion_jax import model
        >>> point = model.ModalityFunctions(encode=lambda x: 2 * x, log_prob=lambda mean, x: x)
        >>> functions = model.ModelFunctions(lambda z_t, t: None, {"x": point}, "x")
        >>> function_of(functions, "x", "encode")(3)
        6
    """
    expect_name("modality", name, expect_modal(model).modalities)
    expect_name("wanted", wanted, RESULTS)
    function: Callable[..., Any] | None = getattr(model.modalities[name], wanted)
    if function is None:
        raise errors.invalid(
            f"modalities[{name!r}].{wanted}", None, "a function", "give the modality one"
        )
    return function


def call_modality(
    model: Modal,
    name: str,
    wanted: str,
    *arguments: Any,
    shape: tuple[int | EllipsisType, ...],
    dtype: Any = None,
) -> jax.Array:
    """Calls one function of a modality, by its name in `ModalityFunctions`, and checks the result.

    It must have this shape, whose `...` at the end stands for any more axes, and is cast to the
    floating dtype where one is given.

    Raises:
        ValueError: a missing function, or a result of another shape.

    Example:
        >>> import jax.numpy as jnp
        >>> from mmdiffusion_jax import model
        >>> point = model.ModalityFunctions(encode=lambda x: x, log_prob=lambda mean, x: x - mean)
        >>> functions = model.ModelFunctions(lambda z_t, t: None, {"x": point}, "x")
        >>> x = jnp.ones((8, 1))
        >>> call_modality(functions, "x", "log_prob", 0 * x, x, shape=(8,))
        Traceback (most recent call last):
        ValueError: `modalities['x'].log_prob`: got a result of shape (8, 1), expected shape (8,), \
log p(x | z_t) of each example; correct what the function returns.
    """
    result = function_of(model, name, wanted)(*arguments)
    return checked_result(f"modalities[{name!r}].{wanted}", result, shape, dtype, RESULTS[wanted])


def encode_present(model: Modal, name: str, x: jax.Array, mask: jax.Array | None) -> jax.Array:
    """E(x) of one modality, (batch, *latent), zero where the mask (batch,) is; None is all ones.

    Raises:
        ValueError: an encoding without one row an example.
    """
    if mask is None:
        return call_modality(model, name, "encode", x, shape=(x.shape[0], ...))
    safe = without_absent(mask, x)
    encoding = call_modality(model, name, "encode", safe, shape=(x.shape[0], ...))
    return where_present(mask, encoding)


def nll_present(
    model: Modal,
    name: str,
    head: Any,
    x: jax.Array,
    mask: jax.Array,
    dtype: Any,
    wanted: str = "log_prob",
) -> jax.Array:
    """−log p(x | z_t) of one modality under its head, (batch,) nats, zero where the mask is.

    With `wanted="condition_log_prob"` it is of that part of x which its encoder reads.

    Raises:
        ValueError: likelihoods that are not one number an example.
    """
    # A head in the dtype of the state does not go with narrower data where promotion is strict.
    safe = at_least(without_absent(mask, x), jnp.zeros((), dtype))
    log_prob = call_modality(model, name, wanted, head, safe, shape=x.shape[:1], dtype=dtype)
    return where_present(mask, -log_prob)
