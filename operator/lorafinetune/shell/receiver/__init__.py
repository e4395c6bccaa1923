"""Where the stages of a cluster post their progress: one path, over TLS, for pods of our own Jobs alone.

Every byte that comes in is taken as hostile, and what is believed goes to memory only. It decides one thing
about a run: whether an attempt that ends without a message is counted.
"""

from lorafinetune.shell.receiver.server import ReceiverSettings, serve
from lorafinetune.shell.receiver.tokens import LivePod

__all__ = ["LivePod", "ReceiverSettings", "serve"]
