"""Networks from other frameworks, and into them."""
