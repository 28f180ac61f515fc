"""Subscribers to training events, which follow a run while it trains."""
