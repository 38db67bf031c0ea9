"""A page in the browser: pictures, figures and controls, served by the process that runs the loop."""
