"""Deploying: what a passed run left goes to servers, whole or not at all."""
