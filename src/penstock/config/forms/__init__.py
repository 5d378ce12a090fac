"""How each kind of option is written in YAML."""
