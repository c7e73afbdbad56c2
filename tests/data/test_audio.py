"""Spectrograms against sums of sines and cosines, pure tones and silence."""

import numpy as np
import pytest

from mmdiffusion_jax import data
from mmdiffusion_jax.data.audio import mel_filters


@pytest.mark.parametrize("samples", [1600, 1615])
def test_a_spectrogram_is_the_mel_sum_of_fouriers_sums(samples):
    waveform = np.random.default_rng(0).normal(size=(2, samples)) * 0.1
    got = data.log_mel(waveform, 8000, 16, 12)
    # Frames of 200 samples, one every 100, centred on 50, 150, …
    frames = np.pad(waveform, ((0, 0), (50, 150)))
    frames = np.stack([frames[:, 100 * i : 100 * i + 200] for i in range(16)], axis=1)
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(200) / 200)
    waves = np.exp(-2j * np.pi * np.outer(np.arange(200), np.arange(129)) / 256)
    power = np.abs((frames * window) @ waves * 2 / window.sum()) ** 2
    mel = power @ mel_filters(8000, 256, 12).T
    np.testing.assert_allclose(got, 1 + 20 * np.log10(mel) / 80, atol=1e-4)


def test_filters_are_a_partition_between_the_outer_peaks_and_peak_at_one():
    filters = mel_filters(8000, 8192, 20)
    np.testing.assert_allclose(filters.max(1), 1, atol=0.01)
    frequencies = np.fft.rfftfreq(8192, 1 / 8000)
    peaks = frequencies[filters.argmax(1)]
    inside = (frequencies > peaks[0]) & (frequencies < peaks[-1])
    np.testing.assert_allclose(filters.sum(0)[inside], 1, atol=1e-4)
    mels = 2595 * np.log10(1 + peaks / 700)
    np.testing.assert_allclose(np.diff(mels), 2595 * np.log10(1 + 4000 / 700) / 21, rtol=0.02)


@pytest.mark.parametrize("frequency", [300, 1000, 3000])
def test_a_full_scale_tone_stands_in_its_band_near_one(frequency):
    seconds = np.arange(8000) / 8000
    tone = np.round(32767 * np.sin(2 * np.pi * frequency * seconds)).astype(np.int16)
    levels = data.log_mel(tone[None], 8000, 32, 32)[0, 8:-8]
    top = 2595 * np.log10(1 + 4000 / 700)
    place = 2595 * np.log10(1 + frequency / 700) / top * 33 - 1
    assert (np.abs(levels.argmax(1) - place) < 1).all()
    assert np.abs(levels.max(1) - 1).max() < 0.1
    quiet = data.log_mel(tone[None] // 10, 8000, 32, 32)[0, 8:-8]
    np.testing.assert_allclose((levels - quiet).max(1), 0.5, atol=0.02)


def test_silence_is_minus_one_and_time_runs_along_the_frames():
    waveform = np.zeros((1, 8000), np.float32)
    assert (data.log_mel(waveform, 8000, 16, 8) == -1).all()
    waveform[0, 5000:5100] = 0.5
    frames = data.log_mel(waveform, 8000, 16, 8)[0].max(1)
    assert frames.argmax() == 10
    assert (frames[:9] == -1).all()
    assert (frames[12:] == -1).all()


@pytest.mark.parametrize(
    ("waveform", "sizes", "words"),
    [
        (np.zeros(8, np.int16), (2, 2), r"`waveform`: got shape \(8,\) and dtype int16"),
        (np.zeros((1, 8), np.int32), (2, 2), "dtype int32"),
        (np.zeros((1, 8)), (9, 2), "num_mels`: got .*9, 2.*at most 8 frames"),
        (np.zeros((1, 8)), (2, 0), "numbers of 1 or more"),
        (np.zeros((1, 800)), (100, 40), "`num_mels`: got 40, expected so few that each holds"),
    ],
)
def test_bad_waveforms_and_sizes(waveform, sizes, words):
    with pytest.raises(ValueError, match=words):
        data.log_mel(waveform, 8000, *sizes)
