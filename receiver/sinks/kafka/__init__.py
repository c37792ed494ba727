"""What is sent to Apache Kafka, or to a broker that speaks its protocol: messages of a topic."""

from receiver.sinks.kafka.topic import KafkaSink

__all__ = ["KafkaSink"]
