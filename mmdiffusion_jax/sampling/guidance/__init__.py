"""Guidance and thresholding: decorators denoiser → denoiser that change ẑ_0, one file each.

Guidance pulls ẑ_0 toward the given values. All act on ẑ_0, so they go with any network target, any
stepper and one another; the last in the list is the outermost. A decorator without effect, such as
guidance of scale 1, leaves the samples the same bit for bit.
"""
