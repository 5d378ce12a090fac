"""penstock where people already make calls: SDKs, HTTP clients, services."""
