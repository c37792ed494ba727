"""What is sent to a RabbitMQ server."""

from receiver.sinks.amqp.exchange import AmqpSink

__all__ = ["AmqpSink"]
