"""Version 1 of the gRPC API: messages, client stub and servicer, generated from `features.proto`."""
