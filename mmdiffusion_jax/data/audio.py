"""Sounds as log-mel spectrograms of a fixed size and range."""

import numpy as np

from mmdiffusion_jax import errors

_DYNAMIC_RANGE_DB = 80.0
_CHUNK = 256


def log_mel(waveform: np.ndarray, sample_rate: int, num_frames: int, num_mels: int) -> np.ndarray:
    """Log-mel spectrograms: mel energies in dB of full scale, 0 dB at 1 and −80 dB or less at −1.

    The samples are cut into `num_frames` hops of equal length; a Hann window of two hops is centred
    on each, with zeros outside the signal. With w the window and X the transform, padded with
    zeros to a power of two, the power |2 X / Σ w|² (1 for a full-scale tone) is summed under the
    triangles of `mel_filters`.

    Args:
        waveform: (examples, samples), int16 or floats in [−1, 1].
        sample_rate: in Hz.
        num_frames: frames over the whole waveform.
        num_mels: mel bands.

    Returns:
        (examples, num_frames, num_mels) float32 in about [−1, 1].

    Raises:
        ValueError: a waveform of another rank or kind, or sizes below 1 or above the samples.

    Example:
        >>> log_mel(np.zeros((2, 8000), np.int16), 8000, 32, 32).shape
        (2, 32, 32)
    """
    if waveform.ndim != 2 or not (waveform.dtype == np.int16 or waveform.dtype.kind == "f"):
        raise errors.invalid(
            "waveform",
            f"shape {waveform.shape} and dtype {waveform.dtype}",
            "(examples, samples) of int16 or floats",
            "cast or reshape it",
        )
    samples = waveform.shape[1]
    if not 1 <= num_frames <= samples or num_mels < 1 or sample_rate <= 0:
        raise errors.invalid(
            "sample_rate, num_frames, num_mels",
            (sample_rate, num_frames, num_mels),
            f"numbers of 1 or more, and at most {samples} frames",
            "change them",
        )
    # Imported late: few commands read sounds, and none should wait for SciPy.
    from scipy.signal import ShortTimeFFT, windows

    hop = samples // num_frames
    num_fft = 1 << (2 * hop - 1).bit_length()
    triangles = mel_filters(sample_rate, num_fft, num_mels)
    window = windows.hann(2 * hop, sym=False)
    transform = ShortTimeFFT(window, hop, sample_rate, mfft=num_fft, scale_to="magnitude")
    scale = 1 / 2**15 if waveform.dtype == np.int16 else 1
    spectrograms = np.empty((len(waveform), num_frames, num_mels), np.float32)
    for first in range(0, len(waveform), _CHUNK):
        part = waveform[first : first + _CHUNK].astype(np.float32) * scale
        # Frame i is centred on the middle of its hop, so it starts half a hop before it.
        power = transform.spectrogram(part, p0=0, p1=num_frames, k_offset=hop - hop // 2)
        energy = np.swapaxes(triangles @ (4 * power), 1, 2)
        level = 10 * np.log10(np.maximum(energy, 10 ** (-_DYNAMIC_RANGE_DB / 10)))
        spectrograms[first : first + _CHUNK] = np.maximum(1 + level * (2 / _DYNAMIC_RANGE_DB), -1)
    return spectrograms


def mel_filters(sample_rate: int, num_fft: int, num_mels: int) -> np.ndarray:
    """Triangles of height 1, evenly spaced on HTK's mel scale from 0 to half the sample rate.

    The scale is 2595 log10(1 + f / 700). Band m rises linearly in Hz from edge m to edge m + 1 and
    falls to edge m + 2. With a Fourier transform of length `num_fft` and a sample rate in Hz, the
    shape is (num_mels, num_fft // 2 + 1).

    Raises:
        ValueError: so many bands that one of them holds no frequency of the transform.

    Example:
        >>> mel_filters(8000, 512, 32).shape
        (32, 257)
    """
    top = 2595 * np.log10(1 + sample_rate / 2 / 700)
    edges = 700 * (10 ** (np.linspace(0, top, num_mels + 2) / 2595) - 1)
    low, centre, high = (edges[i : i + num_mels, None] for i in range(3))
    frequencies = np.fft.rfftfreq(num_fft, 1 / sample_rate)
    rise, fall = (frequencies - low) / (centre - low), (high - frequencies) / (high - centre)
    filters = np.maximum(np.minimum(rise, fall), 0).astype(np.float32)
    if not filters.any(axis=1).all():
        raise errors.invalid(
            "num_mels",
            num_mels,
            f"so few that each holds one of {num_fft // 2 + 1} frequencies",
            "ask for fewer bands, or for fewer frames and so longer windows",
        )
    return filters
