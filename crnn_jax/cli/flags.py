"""Conversion of configurations to flags."""

import tyro

# A configuration's fields become flags next to the command's own, without a prefix.
Flat = tyro.conf.arg(name="")
