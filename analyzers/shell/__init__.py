"""Shell scripts read and followed, never run."""
