"""What labels a text with C logits."""
