"""Subscribers of training's events: what follows a run while it trains."""
