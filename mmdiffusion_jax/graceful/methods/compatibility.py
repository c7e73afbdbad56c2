"""Backward-compatible encoders: embeddings stored with the old one stay usable with the new one.

Shen et al. 2020, "Towards backward-compatible representation learning".
"""

import jax
import jax.numpy as jnp
import optax

from mmdiffusion_jax import errors

_TINY = 1e-12


def unit(vectors: jax.Array) -> jax.Array:
    """Vectors over their lengths, (…, features), in float32 at least; a zero vector stays zero.

    Example:
        >>> [round(x, 3) for x in unit(jnp.array([3.0, 4.0])).tolist()]
        [0.6, 0.8]
    """
    # In half precision the squares of large values overflow.
    vectors = vectors.astype(jnp.promote_types(vectors.dtype, jnp.float32))
    square = jnp.sum(vectors**2, axis=-1, keepdims=True)
    return vectors * jax.lax.rsqrt(jnp.maximum(square, _TINY))


def shared_coordinates(embeddings: jax.Array, features: int) -> jax.Array:
    """The first coordinates, which embeddings of a smaller model have too: (…, d_new) → (…, d_old).

    Raises:
        ValueError: embeddings that have fewer.

    Example:
        >>> shared_coordinates(jnp.arange(3.0), 2).tolist()
        [0.0, 1.0]
    """
    if embeddings.shape[-1] < features:
        raise errors.invalid(
            "embeddings",
            f"{embeddings.shape[-1]} coordinates",
            f"{features} or more, as the old embeddings have",
            "make the new encoder as wide, or declare a mapping",
        )
    return embeddings[..., :features]


def cosine_logits(
    embeddings: jax.Array, prototypes: jax.Array, scale: jax.Array | float = 8.0
) -> jax.Array:
    """Scale · cos(φ, w_c) for each class c: (…, d), (classes, d_old) → (…, classes).

    The first d_old coordinates of the embeddings φ count; the scale is an inverse temperature.

    Example:
        >>> cosine_logits(jnp.array([2.0, 0.0]), jnp.eye(2)).tolist()
        [8.0, 0.0]
    """
    embeddings = shared_coordinates(embeddings, prototypes.shape[-1])
    return scale * unit(embeddings) @ unit(prototypes).T


def compatible_loss(
    embeddings: jax.Array, labels: jax.Array, prototypes: jax.Array, scale: jax.Array | float = 8.0
) -> jax.Array:
    """CE(w_old · φ_new), equation 5 of Shen et al., in nats for each example.

    The frozen head classifies the new embeddings; no gradient flows into it. Add λ times this to
    the loss of the new model.

    Args:
        embeddings: (…, d_new), φ_new.
        labels: (…), classes that the head has; any other makes the result not a number.
        prototypes: (classes, d_old), w_old.
        scale: that the head was trained with.

    Example:
        >>> far = compatible_loss(jnp.array([[0.0, 1.0]]), jnp.array([0]), jnp.eye(2))
        >>> round(float(far[0]), 3)
        8.0
    """
    logits = cosine_logits(embeddings, jax.lax.stop_gradient(prototypes), scale)
    nats = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
    # A label below 0 would count from the last class.
    return jnp.where(labels < 0, jnp.nan, nats)


def class_prototypes(
    embeddings: jax.Array, labels: jax.Array, num_classes: int
) -> tuple[jax.Array, jax.Array]:
    """The mean direction of each class among stored embeddings.

    w_c = Σ_{y_i = c} φ̂_i, of unit length; they stand for the classes that a deployed head lacks
    (Shen et al., section 3.3).

    Args:
        embeddings: (n, d), stored with the old encoder.
        labels: (n,).
        num_classes: how many rows.

    Returns:
        (prototypes (classes, d), counts (classes,)); a class without examples has zeros.

    Example:
        >>> rows, counts = class_prototypes(jnp.array([[2.0, 0.0]]), jnp.array([1]), 2)
        >>> rows.tolist(), counts.tolist()
        ([[0.0, 0.0], [1.0, 0.0]], [0, 1])
    """
    member = jax.nn.one_hot(labels, num_classes, dtype=embeddings.dtype)
    return unit(member.T @ unit(embeddings)), jnp.sum(member, axis=0).astype(jnp.int32)


def extended_head(head: jax.Array, embeddings: jax.Array, labels: jax.Array) -> jax.Array:
    """A deployed head with rows for later classes, from embeddings that are stored of them.

    Args:
        head: (old classes, d), rows of classes 0 … old classes − 1.
        embeddings: (n, d), stored with the old encoder.
        labels: (n,), whichever classes.

    Returns:
        (classes, d), up to the highest label; rows of the head as they were.

    Raises:
        ValueError: a later class of which nothing is stored.

    Example:
        >>> extended_head(jnp.array([[1.0, 0.0]]), jnp.array([[0.0, 3.0]]), jnp.array([1])).tolist()
        [[1.0, 0.0], [0.0, 1.0]]
    """
    num_classes = max(len(head), int(labels.max()) + 1) if len(labels) else len(head)
    rows, counts = class_prototypes(embeddings, labels, num_classes)
    missing = [c for c in range(len(head), num_classes) if not counts[c]]
    if missing:
        raise errors.invalid(
            "embeddings",
            f"none of class {missing[0]}",
            "stored ones of every class that the head lacks",
            "encode some examples of it with the old encoder",
        )
    return jnp.concatenate([head, rows[len(head) :]])


def mix_stored(key: jax.Array, new: jax.Array, stored: jax.Array, share: float = 0.3) -> jax.Array:
    """Takes stored embeddings in place of some new ones in a batch for the new head.

    The new head then has to be right about both, which pulls the two spaces together without the
    old head (Liang et al. 2023, "MixBCT").

    Args:
        key: chooses the rows.
        new: (n, …), of the model in training.
        stored: (n, …), of the same examples, stored with the old encoder.
        share: of stored rows on average.

    Returns:
        (n, …); no gradient flows into stored rows.

    Raises:
        ValueError: new and stored embeddings of two shapes.

    Example:
        >>> mixed = mix_stored(jax.random.key(0), jnp.zeros((4, 1)), jnp.ones((4, 1)), share=1.0)
        >>> mixed[:, 0].tolist()
        [1.0, 1.0, 1.0, 1.0]
    """
    if stored.shape != new.shape:
        raise errors.invalid(
            "stored",
            f"shape {stored.shape}",
            f"{new.shape}, as the new ones",
            "pass the stored embedding of each example",
        )
    old = jax.random.bernoulli(key, share, new.shape[:1])
    old = old.reshape(-1, *[1] * (new.ndim - 1))
    return jnp.where(old, jax.lax.stop_gradient(stored), new)
