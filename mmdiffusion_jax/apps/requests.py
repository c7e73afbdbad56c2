"""Reads a request for samples from the words of a command line."""

import dataclasses
import re
from collections.abc import Collection, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np

from mmdiffusion_jax import data, errors, files, ranges, sampling


@dataclasses.dataclass(frozen=True)
class Request:
    """A request for samples.

    Attributes:
        num_samples: how many; None for as many as a given file has, or 100 without a file.
        given: "name=value", a number or the name of a class, or "name@FILE" with an `.npz` that
            has an array of that name or an `.npy`.
        seed: of the draws.
        keep: "name@FILE" with an `.npz` that has an array of that name and booleans `<name>_keep`
            of its shape, true where every sample keeps the value.
        begin: "name:level@FILE", values from which samples begin in the place of noise, at a level
            of noise in (0, 1].
        weaker: the workdir of a weaker model, or empty; `autoguidance` is then other than 1.
    """

    num_samples: int | None = None
    given: Sequence[str] = ()
    seed: int = 0
    keep: Sequence[str] = ()
    begin: Sequence[str] = ()
    weaker: str = ""


def parse_given(
    request: Request,
    names: Collection[str],
    default: int = 100,
    class_names: Mapping[str, Sequence[str]] = MappingProxyType({}),
) -> tuple[dict[str, np.ndarray], int]:
    """Reads the given values of modalities (`names`) into arrays with one value a sample.

    A value is repeated by broadcasting, and an `.npy` file is mapped, so that only the samples in
    use take memory. There are `default` samples where neither the request nor a file says how many.
    The value of a modality with `class_names` may be one of them.

    Returns:
        {name: (num_samples, …)} and the number of samples.

    Raises:
        ValueError: a text of another form, an unknown or repeated modality, a value that is no
            number, or a file without the array.

    Example:
        >>> parse_given(Request(2, ["label=3"]), ["image", "label"])
        ({'label': array([3, 3], dtype=int32)}, 2)
        >>> parse_given(Request(1, ["label=cat"]), ["label"], class_names={"label": ("cat", "dog")})
        ({'label': array([0], dtype=int32)}, 1)
        >>> given, _ = parse_given(Request(10**11, ["label=3"]), ["image", "label"])
        >>> len(given["label"]), given["label"][-2:]
        (100000000000, array([3, 3], dtype=int32))
    """
    values: dict[str, int | np.ndarray] = {}
    for text in request.given:
        name, value = _given_value(text, names, class_names)
        _check_once("given", name, values)
        values[name] = value
    lengths = [len(x) for x in values.values() if isinstance(x, np.ndarray)]
    num_samples = request.num_samples
    if num_samples is None:
        num_samples = lengths[0] if lengths else default
    each = (max(num_samples, 0),)
    given = {
        name: x if isinstance(x, np.ndarray) else np.broadcast_to(np.int32(x), each)
        for name, x in values.items()
    }
    return given, num_samples


def parse_parts(
    request: Request, names: Collection[str]
) -> tuple[dict[str, sampling.Fixed], dict[str, sampling.Noised]]:
    """Reads what samples are to keep, and from what they are to begin: {name: it} each.

    Raises:
        ValueError: a text of another form, an unknown modality or one named twice, a level that is
            no number in (0, 1], or a file without the arrays.
    """
    fixed: dict[str, sampling.Fixed] = {}
    begin: dict[str, sampling.Noised] = {}
    for text in request.keep:
        name, _, path = text.partition("@")
        _check_part("keep", text, path, "name@FILE, as in image@test.npz")
        ranges.check_one_of("keep", name, names)
        _check_once("keep", name, fixed)
        _check_has_mask(name, path)
        mask = _read_file("keep", f"{name}_keep", path)
        if mask.dtype != bool and not np.isin(mask, (0, 1, 255)).all():
            raise errors.invalid(
                f"keep {name}",
                f"{name}_keep of {mask.dtype}, with values that are neither 0 nor 1",
                "booleans, true for what is to stay",
                "store a comparison, such as mask > 0.5",
            )
        fixed[name] = sampling.Fixed(_read_file("keep", name, path), mask.astype(bool))
    for text in request.begin:
        what, _, path = text.partition("@")
        name, _, number = what.partition(":")
        is_number = re.fullmatch(r"[0-9]*\.?[0-9]+|[0-9]+\.", number) is not None
        _check_part("begin", text, path and is_number, "name:level@FILE, as in image:0.6@test.npz")
        ranges.check_one_of("begin", name, names)
        _check_once("begin", name, begin)
        begin[name] = sampling.Noised(_read_file("begin", name, path), float(number))
    return fixed, begin


def check_decoder_guidance(options: Mapping[str, Any], given: Collection[str]) -> None:
    """Checks that a request guides by the heads of given modalities alone.

    Raises:
        ValueError: `decoder_guidance` of the options names another.
    """
    for name in options.get("decoder_guidance", {}):
        if name not in given:
            raise errors.invalid(
                "decoder_guidance",
                f"{name!r}, whose value is not given",
                f"one of the given modalities {sorted(given)}",
                "give it, or use the classifier-free form",
            )


def check_autoguidance(options: Mapping[str, Any], has_weaker: bool) -> None:
    """Checks that a request which states a scale of autoguidance has the weaker model for it.

    A config may have a scale for the requests that name a weaker model; these are not all.

    Raises:
        ValueError: `autoguidance` of the options is not 1, and there is no weaker model.

    Example:
        >>> check_autoguidance({"autoguidance": 2.0}, has_weaker=True)
    """
    scale = options.get("autoguidance", 1.0)
    if scale != 1 and not has_weaker:
        raise errors.invalid(
            "autoguidance",
            f"{scale!r} without a weaker model",
            "`weaker` beside it",
            "name the model, or leave the scale out",
        )


def _check_part(argument: str, text: str, is_whole: object, expected: str) -> None:
    if not is_whole:
        raise errors.invalid(argument, repr(text), expected, "write it so")


def _check_once(argument: str, name: str, others: Mapping[str, object]) -> None:
    if name in others:
        raise errors.invalid(argument, f"{name!r} twice", "each once", "drop one")


def parse_scales(argument: str, texts: Sequence[str]) -> dict[str, float]:
    """Reads "name:scale" texts, one for each modality, which errors call `argument`.

    Raises:
        ValueError: a text of another form, or a name twice.

    Example:
        >>> parse_scales("guidance", ["label:2.0"])
        {'label': 2.0}
    """
    scales: dict[str, float] = {}
    for text in texts:
        name, _, number = text.partition(":")
        try:
            scale = float(number)
        except ValueError:
            raise errors.invalid(argument, repr(text), "name:scale", "as in label:2.0") from None
        _check_once(argument, name, scales)
        scales[name] = scale
    return scales


def parse_interval(texts: Sequence[str]) -> tuple[float, ...]:
    """Reads the two ends of `guidance_interval`.

    Raises:
        ValueError: a text that is no number.

    Example:
        >>> parse_interval(["0.3", "5"])
        (0.3, 5.0)
    """
    try:
        return tuple(map(float, texts))
    except ValueError:
        raise errors.invalid(
            "guidance_interval", ",".join(texts), "low,high", "as in 0.3,5"
        ) from None


def _given_value(
    text: str, names: Collection[str], class_names: Mapping[str, Sequence[str]]
) -> tuple[str, int | np.ndarray]:
    place = min((text.index(mark) for mark in "=@" if mark in text), default=len(text))
    name, mark, value = text[:place], text[place : place + 1], text[place + 1 :]
    if not value:
        raise errors.invalid(
            "given", repr(text), "name=value or name@FILE", "as in label=3 or image@test.npz"
        )
    ranges.check_one_of("given", name, names)
    if mark == "@":
        return name, _read_file("given", name, value)
    known = class_names.get(name, ())
    if value in known:
        return name, known.index(value)
    if known and not value.lstrip("-").isdecimal():
        raise errors.unknown(f"given {name}", value, known, f"for a file write {name}@{value}")
    try:
        return name, int(np.array(int(value), np.int32))
    except (ValueError, OverflowError):
        raise errors.invalid(
            f"given {name}", repr(value), "a whole number", f"for a file write {name}@{value}"
        ) from None


def _check_has_mask(name: str, path: str) -> None:
    file = files.local_path(path, f"keep {name}")
    if file.suffix == ".npy" or f"{name}_keep" not in data.open_npz(file).columns:
        raise errors.invalid(
            "keep",
            f"{path!r}, which has no {name}_keep",
            f"an .npz file with {name} and {name}_keep, booleans of its shape",
            f"store {name}_keep beside {name}, True where a number is kept",
        )


def _read_file(argument: str, name: str, path: str) -> np.ndarray:
    what = f"{argument} {name}"
    file = files.local_path(path, what)
    if file.suffix == ".npy":
        try:
            values = np.load(file, mmap_mode="r", allow_pickle=False)
        except (OSError, ValueError, EOFError) as error:
            raise errors.invalid(what, f"{path!r} ({error})", "an .npy file", "check it") from error
        if not values.ndim:
            raise errors.invalid(what, f"{path!r} with one number", "one a sample", "wrap it")
        return values
    source = data.open_npz(file)
    ranges.check_one_of(what, name, source.columns)
    columns = source.take(np.arange(len(source)))
    mask = columns.get(f"{name}_present")
    if mask is not None and mask.dtype == np.bool_ and not mask.all():
        raise errors.invalid(
            what,
            f"{path!r}, where {name}_present is False for {int((~mask).sum())} of {len(mask)}",
            "a value for every sample",
            f"store {name}[{name}_present] alone",
        )
    return columns[name]
