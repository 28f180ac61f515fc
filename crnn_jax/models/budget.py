"""The budget solver: find the widths that give a network of a given size.

Every count is that of the real module, traced but not computed (`jax.eval_shape`). No parameter
array has more than two axes that are widths, so the count is a quadratic polynomial in the widths,
and the counts of a few real networks with widths 1, 2 and 3 determine it exactly. The search runs
on that polynomial, since tracing each candidate would take minutes; the network found is counted
once more.
"""

import dataclasses
import functools
import itertools
import math

import jax
import numpy as np
from jaxtyping import Float, Int

from crnn_jax.config import (
    BUDGET_TOLERANCE,
    LARGEST_BUDGET_TOLERANCE,
    SHORTEST_FRAMES,
    SMALLEST_WIDTH,
    Architecture,
    ModelConfig,
    NetworkOptions,
    Rule,
)
from crnn_jax.errors import UserError
from crnn_jax.models import ARCHITECTURES, build


@dataclasses.dataclass(frozen=True)
class Budget:
    """A solved cell.

    Attributes
    ----------
    arch, rule, target
        The requested architecture, rule and number of parameters.
    s
        The width multiplier.
    widths
        Integer widths, each within 1 of its exact value at `s` (`exact_widths`).
    params
        Trainable parameters of the network with these widths.
    """

    arch: Architecture
    rule: Rule
    target: int
    s: float
    widths: tuple[int, ...]
    params: int

    @property
    def relative_error(self) -> float:
        """Deviation from the target: (params − target) / target."""
        return (self.params - self.target) / self.target


def count_parameters(config: ModelConfig, frames: int = SHORTEST_FRAMES) -> int:
    """Count a network's trainable parameters, from the shapes of the module's own `init`.

    Parameters
    ----------
    config
        The network.
    frames
        Frames of its input; the count depends on them only where ``input_norm`` is ``frames``.
    """
    log_mel = jax.ShapeDtypeStruct((1, config.n_mels, frames), "float32")
    initialise = functools.partial(build(config).init, train=False)
    # The key is traced as well, so that counting takes no device from the process that trains:
    # neither three quarters of a GPU's memory nor a whole TPU.
    variables = jax.eval_shape(lambda x: initialise(jax.random.key(0), x), log_mel)
    return sum(leaf.size for leaf in jax.tree.leaves(variables["params"]))


def exact_widths(arch: Architecture, rule: Rule, s: float) -> tuple[float, ...]:
    """Return the unrounded widths at multiplier `s`: s · base, or √s · base near the output."""
    spec = ARCHITECTURES[arch]
    return tuple(
        base * (math.sqrt(s) if rule == "sqrt" and near_output else s)
        for base, near_output in zip(spec.base_widths, spec.near_output, strict=True)
    )


@dataclasses.dataclass(frozen=True)
class CountPolynomial:
    """Parameters as a function of real-valued widths w: constant + linear · w + w · quadratic · w.

    It agrees with `count_parameters` at all integer widths.
    """

    constant: float
    linear: Float[np.ndarray, "layers"]
    quadratic: Float[np.ndarray, "layers layers"]

    def __call__(self, widths: Float[np.ndarray, "... layers"]) -> Float[np.ndarray, "..."]:
        """Return the counts of networks with these widths."""
        widths = np.asarray(widths, dtype=float)
        square = np.einsum("...i,ij,...j->...", widths, self.quadratic, widths)
        return self.constant + widths @ self.linear + square


def count_polynomial(
    arch: Architecture,
    n_tags: int,
    n_mels: int,
    options: NetworkOptions = NetworkOptions(),
    frames: int = SHORTEST_FRAMES,
) -> CountPolynomial:
    """Return the polynomial that counts an architecture's networks with `n_tags` outputs."""
    whole = _polynomial_with_tags(arch, n_mels, options, frames)
    return CountPolynomial(
        whole.constant + whole.linear[-1] * n_tags + whole.quadratic[-1, -1] * n_tags**2,
        whole.linear[:-1] + 2 * whole.quadratic[-1, :-1] * n_tags,
        whole.quadratic[:-1, :-1],
    )


@functools.lru_cache
def _polynomial_with_tags(
    arch: Architecture, n_mels: int, options: NetworkOptions, frames: int
) -> CountPolynomial:
    """Return the polynomial whose last width is the number of tags.

    It is determined by real networks whose widths are all 1, except for one or two of them.
    """
    sizes = len(ARCHITECTURES[arch].base_widths) + 1

    def count(*wider: int) -> int:
        *widths, n_tags = (1 + wider.count(place) for place in range(sizes))
        config = ModelConfig(arch, tuple(widths), n_tags, n_mels, **dataclasses.asdict(options))
        return count_parameters(config, frames)

    smallest = count()
    one_wider = np.array([count(i) for i in range(sizes)])
    # Second differences at w = 1: twice the quadratic coefficients, as of a Hessian.
    hessian = np.zeros((sizes, sizes))
    for i, j in itertools.combinations_with_replacement(range(sizes), 2):
        hessian[i, j] = hessian[j, i] = count(i, j) - one_wider[i] - one_wider[j] + smallest
    quadratic = hessian / 2
    ones = np.ones(sizes)
    linear = one_wider - smallest - quadratic.diagonal() - hessian @ ones
    constant = smallest - linear.sum() - ones @ quadratic @ ones
    return CountPolynomial(float(constant), linear, quadratic)


def solve(
    arch: Architecture,
    rule: Rule,
    target: int,
    *,
    n_tags: int = 50,
    n_mels: int = 96,
    options: NetworkOptions = NetworkOptions(),
    frames: int = SHORTEST_FRAMES,
) -> Budget:
    """Find the widths whose network has `target` trainable parameters, within 1 % (or else 2 %).

    The multiplier is that at which the unrounded network has exactly `target` parameters, and
    each width is rounded to the nearest integer. Where that misses by more than 1 %, each width is
    rounded down or up, whichever combination comes nearest; where that misses too (a few targets
    of the smallest networks), the multiplier moves to a nearby value at which one width is an
    integer, and that width may go 1 down or up. The nearest of all these is taken if it is within
    2 %.

    Parameters
    ----------
    arch, rule
        Architecture, and which layers scale with √s (`exact_widths`).
    target
        Trainable parameters.
    n_tags, n_mels, frames
        Outputs, and mel bands and frames of the input (see `count_parameters`).
    options
        Network options.

    Raises
    ------
    UserError
        If no such rounding comes within 2 %; the message names the nearest reachable count.
    """
    polynomial = count_polynomial(arch, n_tags, n_mels, options, frames)
    s = _exact_multiplier(arch, rule, target, polynomial)
    exact = np.array(exact_widths(arch, rule, s))
    searches = (
        lambda: [(s, np.maximum(SMALLEST_WIDTH, np.rint(exact).astype(int))[None])],
        lambda: [(s, _roundings(exact))],
        lambda: [(at, _roundings(w)) for at, w in _whole_multipliers(arch, rule, exact)],
    )
    for search in searches:
        found_s, widths = min(
            (
                (at, candidates[np.argmin(abs(polynomial(candidates) - target))])
                for at, candidates in search()
            ),
            key=lambda pair: abs(polynomial(pair[1]) - target),
        )
        miss = abs(polynomial(widths) - target)
        if miss <= BUDGET_TOLERANCE * target:
            break
    if miss > LARGEST_BUDGET_TOLERANCE * target:
        raise UserError(
            f"no {arch} under the {rule} rule comes within {LARGEST_BUDGET_TOLERANCE:.0%} of that; "
            f"give {round(float(polynomial(widths)))}, the nearest count that one has",
            field="target",
            value=target,
        )
    config = ModelConfig(
        arch, tuple(map(int, widths)), n_tags, n_mels, **dataclasses.asdict(options)
    )
    params = count_parameters(config, frames)
    return Budget(arch, rule, target, found_s, config.widths, params)


def check_reachable(arch: Architecture, rule: Rule, target: int, *, n_mels: int = 96) -> None:
    """Refuse a target that is too small for any number of tags, before the tags are known.

    Raises
    ------
    UserError
        If even the smallest network with one tag exceeds the target by more than 2 %.
    """
    widths = _roundings(np.array(exact_widths(arch, rule, _smallest_multiplier(arch, rule))))
    smallest = round(float(count_polynomial(arch, 1, n_mels)(widths).min()))
    if smallest > (1 + LARGEST_BUDGET_TOLERANCE) * target:
        raise UserError(
            f"the smallest {arch} under the {rule} rule has {smallest} parameters; give more",
            field="target",
            value=target,
        )


def _exact_multiplier(
    arch: Architecture, rule: Rule, target: int, polynomial: CountPolynomial
) -> float:
    """Find the s at which the unrounded network has `target` parameters, or the smallest s."""
    low, high = _smallest_multiplier(arch, rule), 1.0
    if polynomial(np.array(exact_widths(arch, rule, low))) >= target:
        return low
    while polynomial(np.array(exact_widths(arch, rule, high))) < target:
        high *= 2
    # Bisect until no float lies inside the interval: counts grow with s.
    while low < (middle := (low + high) / 2) < high:
        if polynomial(np.array(exact_widths(arch, rule, middle))) < target:
            low = middle
        else:
            high = middle
    return high


def _multiplier_at(arch: Architecture, rule: Rule, layer: int, width: float) -> float:
    """Return the s at which a layer's exact width is `width`: the inverse of `exact_widths`."""
    spec = ARCHITECTURES[arch]
    ratio = width / spec.base_widths[layer]
    return ratio**2 if rule == "sqrt" and spec.near_output[layer] else ratio


def _smallest_multiplier(arch: Architecture, rule: Rule) -> float:
    """Return the smallest s at which every layer's width is at least `SMALLEST_WIDTH` − 1."""
    layers = range(len(ARCHITECTURES[arch].base_widths))
    return max(_multiplier_at(arch, rule, layer, SMALLEST_WIDTH - 1) for layer in layers)


def _roundings(exact: Float[np.ndarray, "layers"]) -> Int[np.ndarray, "combinations layers"]:
    """List all integer widths within 1 of the exact ones that are not below the smallest."""
    choices = [
        range(max(SMALLEST_WIDTH, math.ceil(width - 1)), math.floor(width + 1) + 1)
        for width in exact
    ]
    return np.array(list(itertools.product(*choices)))


def _whole_multipliers(
    arch: Architecture, rule: Rule, exact: Float[np.ndarray, "layers"]
) -> list[tuple[float, Float[np.ndarray, "layers"]]]:
    """List nearby multipliers at which some width is an integer, with their exact widths."""
    found = []
    for layer, width in enumerate(exact):
        for whole in range(math.floor(width) - 2, math.ceil(width) + 3):
            s = _multiplier_at(arch, rule, layer, whole)
            if s >= _smallest_multiplier(arch, rule):
                # Rounding errors of the square would hide that the width is an integer.
                found.append((s, np.round(exact_widths(arch, rule, s), 9)))
    return found
