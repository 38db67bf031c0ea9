"""The commands: short programs that parse, call the library and end with an exit code."""
