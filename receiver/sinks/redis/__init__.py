"""What is sent to a Redis server: entries of a stream."""

from receiver.sinks.redis.stream import RedisSink

__all__ = ["RedisSink"]
