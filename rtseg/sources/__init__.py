"""Where frames come from: cameras, videos, streams, pictures, the procedural street."""
