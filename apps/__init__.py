"""The commands: short programs that parse arguments, call the library and exit with a code."""
