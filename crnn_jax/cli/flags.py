"""How configurations become flags."""

import tyro

# Fields of a configuration stand beside the command's own flags, without a prefix.
Flat = tyro.conf.arg(name="")
