"""Figures that one notebook draws once and that are too long for a cell, a file a notebook."""
