"""Floor 3: the command line, ``poco``. One subcommand a module."""
