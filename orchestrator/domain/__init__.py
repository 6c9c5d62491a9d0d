"""The pure core: values, states and decisions. Standard library only, no input or output."""
