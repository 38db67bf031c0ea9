"""Contracts and small tools that every other room may use: standard library and numpy only."""
