"""Acting: what each kind of action does, one module for each."""
