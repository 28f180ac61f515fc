"""Convolution and pooling on a CPU."""
