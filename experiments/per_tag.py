"""The paper's third experiment (section 3.3): which architecture recognises which tags?

One size, 1M parameters as in the paper's Figure 3, and three seeds, so that a tag's difference
between architectures can be separated from chance; ``per_tag_auc_1000000`` draws every tag's AUC
by category. In the paper CRNN is ahead of Conv2D on all 50 tags, and Conv2D of Conv1D on 47 of
them; a tag's popularity does not correlate with how well it is recognised.

With the paper's data, once its audio and split files are on a disk, and with the synthesised set:

    crnn-jax sweep experiments/per_tag.py --dataset msd --manual-dir MSD --out OUT
    crnn-jax sweep experiments/per_tag.py --out runs/per_tag
"""

from crnn_jax.config import SweepConfig, TrainConfig

SWEEP = SweepConfig(
    archs=("conv1d", "conv2d", "crnn"),
    targets=(1_000_000,),
    rules=("uniform",),
    seeds=(0, 1, 2),
    train=TrainConfig(epochs=100, patience=10, batch_size=32),
)
