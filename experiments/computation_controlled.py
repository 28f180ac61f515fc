"""The paper's second experiment (section 3.2): which architecture makes the most of its time?

Every cell trains for the same wall-clock budget, an hour, on the same device: a large network sees
fewer examples in it than a small one. Compare the points at equal training time in
``auc_against_training_time``. In the paper CRNN leads where training is short, and Conv2D where it
is long.

    crnn-jax sweep experiments/computation_controlled.py --out runs/computation_controlled
    crnn-jax sweep experiments/computation_controlled.py --max-train-seconds 600 --out OUT
"""

from crnn_jax.config import PAPER_TARGETS, SweepConfig, TrainConfig

SWEEP = SweepConfig(
    archs=("conv1d", "conv2d", "crnn"),
    targets=PAPER_TARGETS,
    rules=("uniform",),
    # Neither epochs nor patience: time alone ends a cell.
    train=TrainConfig(epochs=100_000, patience=100_000, batch_size=32, max_train_seconds=3600.0),
)
