"""The demo: what the study looks like, in a few minutes on two CPU cores.

Synthesised music instead of the Million Song Dataset, clips of 8.2 s (four steps of CRNN) instead
of 29 s, two small sizes, and four epochs with a learning rate that falls to 0. These few steps
underfit, so there is no dropout, for all networks alike. Expect every network above 0.65 and the
best above 0.75 in macro test AUC. It is too small to show which architecture is best:
`rendered_study` and `memory_controlled` are for that.

    make sweep
    crnn-jax sweep experiments/demo.py --out runs/demo
"""

from crnn_jax.config import DataConfig, MelConfig, NetworkOptions, SweepConfig, TrainConfig

SWEEP = SweepConfig(
    archs=("conv1d", "conv2d", "crnn"),
    targets=(25_000, 60_000),
    rules=("uniform",),
    seeds=(0,),
    extra_cells=(("conv2d", 25_000, "sqrt", 0),),
    data=DataConfig(dataset="synthetic", n_examples=1000, mel=MelConfig(clip_seconds=8.18)),
    network=NetworkOptions(dropout_pool=0.0, dropout_output=0.0),
    train=TrainConfig(
        epochs=4, batch_size=4, learning_rate=5e-3, schedule="cosine", warmup_steps=30
    ),
)
