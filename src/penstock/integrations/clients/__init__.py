"""``policy.wrap_client``: what stands in for an SDK's client, and what is known of the SDKs."""
