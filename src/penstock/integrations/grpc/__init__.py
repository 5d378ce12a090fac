"""gRPC: interceptors of an asyncio channel that send its calls through a policy."""

from penstock.integrations.grpc.interceptors import (
    PolicyUnaryStreamInterceptor,
    PolicyUnaryUnaryInterceptor,
    interceptors,
)

__all__ = ["PolicyUnaryStreamInterceptor", "PolicyUnaryUnaryInterceptor", "interceptors"]
