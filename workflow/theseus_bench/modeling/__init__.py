"""Models of transformers, and the hardware under them."""
