"""What an analysis says, in sentences."""

from collections.abc import Iterable

from crnn_jax.analysis.comparison import Difference, Estimate
from crnn_jax.analysis.costs import NAMES
from crnn_jax.analysis.curves import Crossing
from crnn_jax.analysis.predictions import NetworkKey
from crnn_jax.study.schema import Network
from crnn_jax.user_text import list_some


def name_network(network: Network) -> str:
    """Return the name of a network in a sentence, such as ``crnn`` or ``crnn (√s)``."""
    return network.arch if network.rule == "uniform" else f"{network.arch} (√s)"


def list_networks(networks: Iterable[NetworkKey]) -> str:
    """Return networks in a sentence, such as ``crnn 50,000, crnn (√s) 50,000``, the first six."""
    named = [Network(*key) for key in sorted(set(networks))]
    return list_some([f"{name_network(each)} {each.target:,}" for each in named], shown=6)


def describe_interval(estimate: Estimate, digits: int = 3) -> str:
    """Return a number and its interval, such as ``0.012 (0.004 to 0.020)``."""
    low, high = estimate.interval
    return f"{estimate.value:.{digits}f} ({low:.{digits}f} to {high:.{digits}f})"


def describe_difference(difference: Difference) -> str:
    """Return the verdict on two networks of one size, in a sentence."""
    first, second = name_network(difference.first), name_network(difference.second)
    auc, target = difference.auc, difference.first.target
    interval = f"95 % interval {auc.low:.3f} to {auc.high:.3f}"
    if not difference.is_decided:
        return (
            f"at {target:,} parameters {first} and {second} cannot be told apart "
            f"({auc.value:+.3f}, {interval})"
        )
    verb = "leads" if auc.value > 0 else "is behind"
    return f"at {target:,} parameters {first} {verb} {second} by {abs(auc.value):.3f} ({interval})"


def describe_change(difference: Difference, study: str, first: str) -> str:
    """Return how a network's AUC in a study differs from that in the first one, in a sentence."""
    network, auc = difference.first, difference.auc
    what = f"{name_network(network)} of {network.target:,} parameters"
    interval = f"95 % interval {auc.low:+.3f} to {auc.high:+.3f}"
    if not difference.is_decided:
        return f"{what}: {study} and {first} cannot be told apart ({auc.value:+.3f}, {interval})"
    better = "better" if auc.value > 0 else "worse"
    return f"{what}: {better} in {study} than in {first} by {abs(auc.value):.3f} ({interval})"


def describe_tags(difference: Difference) -> str:
    """Return on how many tags the first network is better, worse, or neither."""
    counts = [difference.count(verdict) for verdict in ("higher", "lower", "undecided")]
    tags = "tag" if counts[0] == 1 else "tags"
    return f"higher on {counts[0]} {tags}, lower on {counts[1]}, undecided on {counts[2]}"


def describe_crossing(crossing: Crossing) -> str:
    """Return from which cost on an architecture is the better one, in a sentence."""
    at = crossing.at
    return (
        f"{crossing.score} against {NAMES[crossing.cost]}: {crossing.first} ({crossing.rule}) is "
        f"better than {crossing.second} from {at.value:,.3g} on ({at.low:,.3g} to {at.high:,.3g})"
    )
