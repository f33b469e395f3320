"""The dyadic relaxation in floats, beside the paper (arXiv:2602.02281); in words through the golden model."""
