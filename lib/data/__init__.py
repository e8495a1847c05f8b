"""Jet images: simulated, downloaded, stored, cut into tokens."""
