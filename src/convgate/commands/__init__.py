"""The commands of `convgate`, one a module: its docstring is the help, `add_arguments` the options, `run` the work."""
