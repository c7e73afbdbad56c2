"""Separate spaces: every modality diffuses with its own noise and its own time (UniDiffuser)."""
