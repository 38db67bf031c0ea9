"""Sources of frames: cameras, videos, streams, pictures, the procedural street."""
