"""The demo's second part: one policy over five API keys, each of which meets another fate."""
