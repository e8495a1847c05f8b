"""Runs and prints the course."""
