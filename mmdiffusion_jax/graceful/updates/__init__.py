"""Updates of a diffusion model: what is deployed, its successor, and a report on both."""
