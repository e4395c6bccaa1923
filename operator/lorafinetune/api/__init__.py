"""The resource: typed models that yield the CRD, the decoder and the reference page."""

from typing import Final

API_VERSION: Final = "lorafinetune.dev/v1alpha1"
GROUP, VERSION = API_VERSION.split("/")
KIND: Final = "LoRAFineTune"
PLURAL: Final = "lorafinetunes"
