"""`python -m crnn_jax`: the command line."""

from crnn_jax.cli.main import main

if __name__ == "__main__":
    main()
