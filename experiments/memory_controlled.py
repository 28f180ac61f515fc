"""The paper's first experiment (section 3.1): which architecture makes the most of its parameters?

Three architectures at five sizes. All cells see the same examples in the same batches and train
until the validation AUC has not risen for ten epochs. In the paper (Million Song Dataset, 50
tags): CRNN > Conv2D > Conv1D from 0.1M to 1M parameters, and Conv2D ahead at 3M.

With the paper's data, once its audio and split files are on a disk, and with the synthesised set:

    crnn-jax sweep experiments/memory_controlled.py --dataset msd --manual-dir MSD --out OUT
    crnn-jax sweep experiments/memory_controlled.py --out runs/memory_controlled
"""

from crnn_jax.config import PAPER_TARGETS, SweepConfig, TrainConfig

SWEEP = SweepConfig(
    archs=("conv1d", "conv2d", "crnn"),
    targets=PAPER_TARGETS,
    rules=("uniform",),
    seeds=(0, 1, 2),
    train=TrainConfig(epochs=100, patience=10, batch_size=32),
)
