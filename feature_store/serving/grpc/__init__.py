"""The gRPC API: the same reads as over HTTP. Clients need `feature_store.serving.grpc.v1` alone."""
