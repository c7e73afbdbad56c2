"""Losses and figures of graceful updates: pure functions of arrays, logits and callables."""
