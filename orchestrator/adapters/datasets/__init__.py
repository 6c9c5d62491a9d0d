"""Kinds of watched data, one module each."""
