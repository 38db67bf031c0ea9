"""What a user watches and asks for: one table of controls, a window, a page in the browser."""
