"""The whole line on real input, as `make demo` shows it, driving the product from outside."""
