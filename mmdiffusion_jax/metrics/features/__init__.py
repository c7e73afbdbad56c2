"""Feature networks: Inception and LPIPS of user-supplied weights, and a small one fitted here."""
