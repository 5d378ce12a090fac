"""Rotation: give each attempt a resource of a pool."""

from penstock.stages.rotation.options import RotationOptions
from penstock.stages.rotation.stage import Rotation

__all__ = ["Rotation", "RotationOptions"]
