"""The paper's third experiment (section 3.3): which tags does which architecture hear?

One size, three seeds, so that a tag's difference between architectures can be told from chance;
``per_tag_auc_500000`` draws every tag's AUC by category. In the paper CRNN is ahead of Conv2D on
nearly all tags, and Conv2D of Conv1D, with the largest differences where a tag is rare.

    crnn-jax sweep experiments/per_tag.py --out runs/per_tag
"""

from crnn_jax.config import SweepConfig, TrainConfig

SWEEP = SweepConfig(
    archs=("conv1d", "conv2d", "crnn"),
    targets=(500_000,),
    rules=("uniform",),
    seeds=(0, 1, 2),
    train=TrainConfig(epochs=100, patience=10, batch_size=32),
)
