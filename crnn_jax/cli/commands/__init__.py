"""The commands: a dataclass each; its fields are the flags, and `run` returns the exit code."""
