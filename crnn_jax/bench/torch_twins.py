"""The three networks in PyTorch, layer for layer: the reference for the training step's speed.

Only for `crnn-jax benchmark --against torch`: they share no weights with the JAX networks.
"""

import torch
from torch import Tensor, nn

from crnn_jax.errors import UserError

EPSILON, MOMENTUM = 1e-3, 0.1


class ConvolutionBlock(nn.Module):
    """Convolution (SAME), batch norm, ELU, max-pooling clipped to the remaining size, dropout."""

    def __init__(self, inputs: int, features: int, kernel: tuple[int, int], pool: tuple[int, int]):
        super().__init__()
        # PyTorch's padding="same" pads 1 before and 2 after for four taps, as XLA's SAME does.
        self.convolution = nn.Conv2d(inputs, features, kernel, padding="same")
        self.norm = nn.BatchNorm2d(features, eps=EPSILON, momentum=MOMENTUM)
        self.pool = pool
        self.dropout = nn.Dropout(0.1)

    def forward(self, x: Tensor) -> Tensor:
        x = nn.functional.elu(self.norm(self.convolution(x)))
        window = (min(self.pool[0], x.shape[2]), min(self.pool[1] or x.shape[3], x.shape[3]))
        return self.dropout(nn.functional.max_pool2d(x, window))


class Network(nn.Module):
    """Common part of the three: input norm per mel band, convolution blocks, output dropout."""

    def __init__(self, widths, kernel, pools, n_mels, memory_format, padding):
        super().__init__()
        self.input_norm = nn.BatchNorm1d(n_mels, eps=EPSILON, momentum=MOMENTUM)
        inputs = (1, *widths[:-1])
        self.blocks = nn.Sequential(
            *(
                ConvolutionBlock(i, o, kernel, p)
                for i, o, p in zip(inputs, widths, pools, strict=False)
            )
        )
        self.memory_format = memory_format
        self.padding = padding
        self.dropout = nn.Dropout(0.3)

    def images(self, log_mel: Tensor) -> Tensor:
        if any(self.padding):
            log_mel = nn.functional.pad(log_mel, self.padding)
        return log_mel[:, None].contiguous(memory_format=self.memory_format)


class Conv1D(Network):
    """Twin of `crnn_jax.models.conv1d`."""

    def __init__(self, widths, n_tags, n_mels, memory_format, padding):
        pools = ((1, 4), (1, 5), (1, 8), (1, None))
        super().__init__(widths[:4], (1, 4), pools, n_mels, memory_format, padding)
        self.dense = nn.Sequential()
        for i, o in ((n_mels * widths[3], widths[4]), (widths[4], widths[5])):
            norm = nn.BatchNorm1d(o, eps=EPSILON, momentum=MOMENTUM)
            self.dense.extend([nn.Linear(i, o), norm, nn.ELU()])
        self.output = nn.Linear(widths[5], n_tags)

    def forward(self, log_mel: Tensor) -> Tensor:
        x = self.blocks(self.images(self.input_norm(log_mel)))
        return self.output(self.dropout(self.dense(x.flatten(1))))


class Conv2D(Network):
    """Twin of `crnn_jax.models.conv2d`."""

    def __init__(self, widths, n_tags, n_mels, memory_format, padding):
        pools = ((2, 4), (2, 4), (2, 4), (3, 5), (4, None))
        super().__init__(widths, (3, 3), pools, n_mels, memory_format, padding)
        self.output = nn.Linear(widths[-1], n_tags)

    def forward(self, log_mel: Tensor) -> Tensor:
        x = self.blocks(self.images(self.input_norm(log_mel)))
        return self.output(self.dropout(x.flatten(1)))


class CRNN(Network):
    """Twin of `crnn_jax.models.crnn`."""

    def __init__(self, widths, n_tags, n_mels, memory_format, padding):
        pools = ((2, 2), (3, 3), (4, 4), (4, 4))
        super().__init__(widths[:4], (3, 3), pools, n_mels, memory_format, padding)
        self.first = nn.GRU(widths[3], widths[4], batch_first=True)
        self.second = nn.GRU(widths[4], widths[5], batch_first=True)
        self.output = nn.Linear(widths[5], n_tags)

    def forward(self, log_mel: Tensor) -> Tensor:
        x = self.blocks(self.images(self.input_norm(log_mel)))  # (batch, maps, mel, steps)
        x = x.permute(0, 3, 1, 2).flatten(2)
        x = self.second(self.first(x)[0])[0][:, -1]
        return self.output(self.dropout(x))


NETWORKS = {"conv1d": Conv1D, "conv2d": Conv2D, "crnn": CRNN}


def build(
    arch, widths, padding, n_tags=50, n_mels=96, channels_last=False, device="cpu"
) -> nn.Module:
    """Build a twin; `padding` is what the JAX network adds before and after its input frames.

    Raises
    ------
    UserError
        If the architecture has no twin.
    """
    if arch not in NETWORKS:
        raise UserError(
            f"{arch} has no PyTorch twin; give one of {', '.join(NETWORKS)}, or leave this out",
            field="against",
            value="torch",
        )
    memory_format = torch.channels_last if channels_last else torch.contiguous_format
    network = NETWORKS[arch](widths, n_tags, n_mels, memory_format, padding)
    network.to(device=device, memory_format=memory_format)  # type: ignore[call-overload]
    return network


class Runner:
    """One network with its optimiser."""

    def __init__(self, network: nn.Module, learning_rate: float = 1e-3):
        self.network = network
        self.optimizer = torch.optim.Adam(network.parameters(), lr=learning_rate)

    def train_step(self, log_mel: Tensor, tags: Tensor) -> float:
        self.network.train()
        self.optimizer.zero_grad(set_to_none=True)
        loss = nn.functional.binary_cross_entropy_with_logits(self.network(log_mel), tags)
        loss.backward()
        self.optimizer.step()
        return loss.item()

    def forward(self, log_mel: Tensor) -> Tensor:
        self.network.eval()
        with torch.inference_mode():
            return torch.sigmoid(self.network(log_mel))
