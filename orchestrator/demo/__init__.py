"""The whole line on real input, as `make demo` shows it. It drives the product from outside, by its command line."""
