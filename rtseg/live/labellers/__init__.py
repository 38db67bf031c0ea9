"""Labellers that wrap another labeller; one file each."""
