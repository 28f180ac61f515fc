"""The demo: what the study looks like, in a few minutes on two CPU cores.

Synthesised music instead of the Million Song Dataset, clips of 4 s instead of 29 s, two small
sizes, and a handful of epochs. Expect every network above 0.6 and the best above 0.8 in macro
test AUC. It is too small to show which architecture is best; `memory_controlled` is for that.

    make sweep
    crnn-jax sweep experiments/demo.py --out runs/demo
"""

from crnn_jax.config import DataConfig, MelConfig, SweepConfig, TrainConfig

SWEEP = SweepConfig(
    archs=("conv1d", "conv2d", "crnn"),
    targets=(25_000, 60_000),
    rules=("uniform",),
    seeds=(0,),
    extra_cells=(("conv2d", 25_000, "sqrt", 0),),
    data=DataConfig(dataset="synthetic", n_examples=1200, mel=MelConfig(clip_seconds=4.0)),
    train=TrainConfig(epochs=7, batch_size=8, learning_rate=5e-3, max_train_seconds=60.0),
)
