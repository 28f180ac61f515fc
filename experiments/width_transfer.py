"""Does the best learning rate of a small network fit a wide one?

Conv2D at three sizes, five learning rates, on rendered scores: once as usual, once with µP, which
is meant to make the best rate the same at all widths. Look at ``figures/learning_rates``: on the
right the best rate against the number of parameters. Short runs (a cosine schedule over 6 epochs of
1,360 clips, 3 s of each) place the optimum of such runs to within a step of the grid; they say
nothing about how good the networks get. Each of the two takes 17 to 35
minutes on two CPU cores.

    crnn-jax sweep experiments/width_transfer.py --out runs/standard
    crnn-jax sweep experiments/width_transfer.py --parametrization mup --out runs/mup
"""

from crnn_jax.config import DataConfig, MelConfig, SweepConfig, TrainConfig

SWEEP = SweepConfig(
    archs=("conv2d",),
    targets=(25_000, 100_000, 400_000),
    learning_rates=(1e-3, 3e-3, 1e-2, 3e-2, 1e-1),
    data=DataConfig(dataset="rendered", n_examples=4000, mel=MelConfig(clip_seconds=12.0)),
    train=TrainConfig(
        epochs=6,
        batch_size=16,
        schedule="cosine",
        warmup_steps=50,
        train_fraction=0.5,
        clip_seconds=3.0,
    ),
)
