"""What is known, while a step is traced, about the devices that it is for."""

import jax


def for_mesh_without_cpu() -> bool:
    """Return whether tracing is for devices known not to be CPUs (in `jax.shard_map`)."""
    device = jax.sharding.get_abstract_mesh().abstract_device
    return device is not None and device.device_kind != "cpu"
