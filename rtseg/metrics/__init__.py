"""What labels are judged by: confusion, outlines, stability."""
