"""Rotation: give each attempt a resource of a pool."""

from penstock.stages.rotation.options import RotationOptions

__all__ = ["RotationOptions"]
