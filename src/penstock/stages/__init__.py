"""The built-in stages, one folder each: options, machine, stage."""
