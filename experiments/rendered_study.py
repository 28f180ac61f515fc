"""Which architecture makes the most of its parameters, on music that anyone can rebuild?

The paper's first experiment on `rendered`: its four architectures (k2c1 as well) at six sizes from
25k to 1M parameters, three seeds. The learning rate of each is chosen by short runs; every run
trains for the same number of epochs, with a learning rate that falls to 0, on a random 8.2 s of
each clip of 12 s, and is scored by the mean over both ends of the clip. At two sizes also with √s
near the output, and at the paper's 1M, one seed each. Four hours on two CPU cores that do nothing
else, seven beside other work, in as many pieces as it takes; nearly half of that is CRNN's, whose
first layers compute at nearly full resolution. `docs/study.md` says what was found.

What was given up for that: the paper's clips are 29 s long, so that CRNN has 15 steps there, and 4
here; it has 200,000 of them for training, and this study 2,719, each seen four times; and sizes end
at 1M instead of 3M. A network that learns slowly is at a disadvantage here: see the learning
curves.

    crnn-jax sweep experiments/rendered_study.py --out runs/rendered_study
    crnn-jax analyse runs/rendered_study
"""

from crnn_jax.config import DataConfig, MelConfig, SweepConfig, TrainConfig

ARCHS = ("k2c1", "conv1d", "conv2d", "crnn")

SWEEP = SweepConfig(
    archs=ARCHS,
    targets=(25_000, 50_000, 100_000, 250_000, 500_000),
    seeds=(0, 1, 2),
    learning_rates=(3e-3, 1e-2, 3e-2),
    trial_epochs=1,
    extra_cells=(
        *((arch, target, "sqrt", 0) for target in (50_000, 250_000) for arch in ARCHS),
        *((arch, 1_000_000, "uniform", 0) for arch in ARCHS),
    ),
    data=DataConfig(dataset="rendered", n_examples=4000, mel=MelConfig(clip_seconds=12.0)),
    train=TrainConfig(
        epochs=4,
        # 1,356 steps: with so few clips small batches teach more than large ones.
        batch_size=8,
        schedule="cosine",
        warmup_steps=50,
        # 384 frames: four steps of CRNN, without padding.
        train_crop=8.18,
    ),
)
