"""Steppers: how to go from one state of a grid to the next, one file each."""
