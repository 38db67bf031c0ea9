"""Pictures and labels as arrays: resizing, exact label upsampling, drawing; torch-free."""
