"""Contracts and small tools for every other room; uses only the standard library and numpy."""
