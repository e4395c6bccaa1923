"""Where the stages of a cluster post their progress: one path, over TLS, for pods of our own Jobs alone.

Every byte that comes in is hostile, and what is believed goes to memory only: of what a run does it
decides no more than whether an attempt is counted that ends without a word.
"""

from lorafinetune.shell.receiver.server import Settings, serve
from lorafinetune.shell.receiver.tokens import LivePod

__all__ = ["LivePod", "Settings", "serve"]
