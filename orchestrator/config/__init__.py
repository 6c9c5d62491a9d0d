"""The configuration: YAML files in, frozen and typed models or a list of every problem out.

`load.load` is the entry point. This package imports nothing by itself, so that a command which needs
no configuration does not pay for pydantic.
"""
