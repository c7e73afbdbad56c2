"""Quality against other people's libraries: same data, steps, sizes and judges."""
