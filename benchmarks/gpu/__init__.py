"""A session on one GPU: what is measured there, in what order, and the page that keeps it."""
