"""Speed against PyTorch and against this library itself, in turns."""
