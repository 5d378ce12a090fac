"""Pools of resources: what they know of each of them, and which one serves next."""
