"""PSNR and SSIM against their definitions, window by window."""

import numpy as np
import pytest

from mmdiffusion_jax import metrics

RNG = np.random.default_rng(0)
X = RNG.integers(0, 256, (2, 14, 13, 3)).astype(np.uint8)
Y = np.clip(X + RNG.normal(0, 40, X.shape), 0, 255).astype(np.uint8)


def ssim_by_windows(x, y, data_range):
    offsets = np.arange(11) - 5
    window = np.exp(-(offsets[:, None] ** 2 + offsets**2) / (2 * 1.5**2))
    window /= window.sum()
    c1, c2 = (0.01 * data_range) ** 2, (0.03 * data_range) ** 2
    similarities = []
    for i in range(x.shape[0] - 10):
        for j in range(x.shape[1] - 10):
            a, b = (np.float64(z[i : i + 11, j : j + 11]) for z in (x, y))
            mean_a, mean_b = (window * a).sum(), (window * b).sum()
            var_a = (window * (a - mean_a) ** 2).sum()
            var_b = (window * (b - mean_b) ** 2).sum()
            both = (window * (a - mean_a) * (b - mean_b)).sum()
            similarities.append(
                (2 * mean_a * mean_b + c1)
                * (2 * both + c2)
                / ((mean_a**2 + mean_b**2 + c1) * (var_a + var_b + c2))
            )
    return np.mean(similarities)


def test_ssim_against_windows():
    want = [
        np.mean([ssim_by_windows(x[..., c], y[..., c], 255) for c in range(3)])
        for x, y in zip(X, Y)
    ]
    np.testing.assert_allclose(metrics.ssim(X, Y), want, atol=2e-5)
    signed = (X / 127.5 - 1, Y / 127.5 - 1)
    from_lowest = metrics.ssim(*signed, data_range=2.0, lowest=-1.0)
    np.testing.assert_allclose(from_lowest, want, atol=2e-5)
    with pytest.raises(ValueError, match=r"`x`: got the value -1\.0, expected none below `lowest`"):
        metrics.ssim(*signed, data_range=2.0)


def test_psnr_against_its_definition():
    error = ((X.astype(float) - Y) ** 2).mean(axis=(1, 2, 3))
    np.testing.assert_allclose(metrics.psnr(X, Y), 10 * np.log10(255**2 / error), rtol=1e-5)
    assert np.all(np.isinf(metrics.psnr(X, X)))


@pytest.mark.parametrize("metric", [metrics.psnr, metrics.ssim])
def test_bad_pairs(metric):
    with pytest.raises(ValueError, match=r"`y`: got shape \(1, 14, 13, 3\), expected \(2, 14"):
        metric(X, Y[:1])
    for data_range in (0, np.inf, np.nan):
        with pytest.raises(ValueError, match=f"`data_range`: got {data_range}"):
            metric(X, Y, data_range=data_range)


@pytest.mark.parametrize("metric", [metrics.psnr, metrics.ssim])
@pytest.mark.parametrize("scaled", [lambda x: x / 255, lambda x: x.astype(int)])
def test_the_range_of_other_numbers_than_bytes_is_asked_for(metric, scaled):
    with pytest.raises(ValueError, match=r"`data_range`: got nothing, for images of \w+\d\d, "):
        metric(scaled(X), scaled(Y))
    with pytest.raises(ValueError, match=r"images of \w+ and uint8"):
        metric(X, scaled(Y))
    scale = scaled(np.array([255])).item()
    np.testing.assert_allclose(
        metric(scaled(X), scaled(Y), data_range=scale), metric(X, Y), rtol=1e-4
    )


def test_ssim_needs_room_for_its_window():
    with pytest.raises(ValueError, match=r"got shape \(2, 10, 13, 3\), expected .* sides of 11"):
        metrics.ssim(X[:, :10], Y[:, :10])
