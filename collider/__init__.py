"""Collisions to jet images: the simulator."""
