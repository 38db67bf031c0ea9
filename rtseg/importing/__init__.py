"""Imports networks of other origins: turns any ONNX file into the form that every command takes."""
