"""The three images are built alike: what they share stands in each Dockerfile, and must not drift apart."""

from pathlib import Path
from typing import Final

import pytest

IMAGES: Final = Path(__file__).parents[2] / "images"
STAGES: Final = (
    'ENTRYPOINT ["python", "-m", "lorafinetune_stages"]',
    "COPY operator/lorafinetune/__init__.py /app/lorafinetune/",
    "COPY operator/lorafinetune/api /app/lorafinetune/api",
    "COPY operator/lorafinetune/contract /app/lorafinetune/contract",
    "COPY images/lorafinetune_stages /app/lorafinetune_stages",
)
OWN: Final[dict[str, tuple[str, ...]]] = {
    "operator": (
        'ENTRYPOINT ["python", "-m", "lorafinetune.shell"]',
        "COPY operator/lorafinetune /app/lorafinetune",
    ),
    "download": STAGES,
    "train": (
        "RUN cd /opt/venv/lib/python3*/site-packages/llamafactory && rm -r webui api",
        "RUN apt-get update -q && apt-get install -y -q --no-install-recommends gcc libc6-dev \\",
        "    && rm -rf /var/lib/apt/lists/* /var/cache/apt/* /var/log/*",
        "ENV USER=nobody",
        *STAGES[:-1],
        "COPY operator/lorafinetune/report /app/lorafinetune/report",
        STAGES[-1],
    ),
}
"""The lines that an image has for itself."""


def lines(image: str) -> list[str]:
    """The instructions, with the image's name as NAME where it is an image's."""
    text = (IMAGES / image / "Dockerfile").read_text()
    for place in ("images/{}/", "LoRAFineTune {}"):
        text = text.replace(place.format(image), place.format("NAME"))
    return [line for line in text.splitlines() if line and not line.startswith("#")]


@pytest.mark.parametrize("image", OWN)
def test_an_image_differs_from_the_others_in(image: str) -> None:
    everywhere = set.intersection(*(set(lines(name)) for name in OWN))
    assert [line for line in lines(image) if line not in everywhere] == list(OWN[image])


def test_what_they_share_stands_in_the_same_order() -> None:
    shared = {tuple(line for line in lines(image) if line not in OWN[image]) for image in OWN}
    assert len(shared) == 1
