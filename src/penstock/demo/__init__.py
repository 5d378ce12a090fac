"""``penstock demo``: real requests to a server that misbehaves, under the policy of a YAML file."""
