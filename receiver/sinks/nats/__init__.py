"""What is sent to a NATS server: messages of a JetStream stream."""

from receiver.sinks.nats.jetstream import NatsSink

__all__ = ["NatsSink"]
