"""Floor 1, beside the product: an emulated robot cell behind the plugs of the real one."""
