"""`python -m mmdiffusion_jax COMMAND …` is `mmdiffusion COMMAND …`."""

from mmdiffusion_jax.console import main

if __name__ == "__main__":
    main()
