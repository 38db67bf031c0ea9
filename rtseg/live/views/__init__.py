"""What the user sees and controls while the loop runs: one table of controls, a window, and a page in the browser."""
