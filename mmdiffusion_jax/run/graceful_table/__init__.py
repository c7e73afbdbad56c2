"""The table of graceful updates."""
