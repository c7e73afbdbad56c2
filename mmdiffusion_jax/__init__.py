"""Multi-modal diffusion in JAX: one model for many kinds of data.

The ground floors (`process`, `sampling`, `objective`) are pure functions on arrays and need
nothing but JAX; everything above them is imported only by whoever asks for it.
"""

__version__ = "0.1.0"
