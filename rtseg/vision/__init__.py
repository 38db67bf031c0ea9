"""Pictures in, pictures out: sources, sinks, overlay, label upsampling, street scenes (no torch)."""
