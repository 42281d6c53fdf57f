"""Knows how fast cards read their memory: the makers' data sheets, by the name that the driver gives a card."""

from __future__ import annotations

from functools import lru_cache

# 10⁹ bytes per second, from NVIDIA's and AMD's published specifications of each card. A name is looked for as a part of
# what the driver says, the longest first: "NVIDIA GeForce RTX 4070 Ti SUPER" is neither a 4070 nor a 4070 Ti. Where one name
# was sold with two memories, the slower one stands here.
GIGABYTES_PER_SECOND: dict[str, int] = {
    # GeForce, for desktops
    "RTX 5090": 1792, "RTX 5080": 960, "RTX 5070 Ti": 896, "RTX 5070": 672, "RTX 5060 Ti": 448, "RTX 5060": 448, "RTX 5050": 320,
    "RTX 4090 D": 1008, "RTX 4090": 1008, "RTX 4080 SUPER": 736, "RTX 4080": 717, "RTX 4070 Ti SUPER": 672, "RTX 4070 Ti": 504,
    "RTX 4070 SUPER": 504, "RTX 4070": 480, "RTX 4060 Ti": 288, "RTX 4060": 272,
    "RTX 3090 Ti": 1008, "RTX 3090": 936, "RTX 3080 Ti": 912, "RTX 3080": 760, "RTX 3070 Ti": 608, "RTX 3070": 448,
    "RTX 3060 Ti": 448, "RTX 3060": 240, "RTX 3050": 168,
    "RTX 2080 Ti": 616, "RTX 2080 SUPER": 496, "RTX 2080": 448, "RTX 2070 SUPER": 448, "RTX 2070": 448, "RTX 2060 SUPER": 448,
    "RTX 2060": 336, "GTX 1660 Ti": 288, "GTX 1660 SUPER": 336, "GTX 1660": 192, "GTX 1080 Ti": 484, "GTX 1080": 320,
    "GTX 1070 Ti": 256, "GTX 1070": 256, "GTX 1060": 192, "TITAN RTX": 672, "TITAN V": 653, "TITAN Xp": 548,
    # GeForce, for laptops
    "RTX 5090 Laptop GPU": 896, "RTX 5080 Laptop GPU": 896, "RTX 5070 Ti Laptop GPU": 672, "RTX 5070 Laptop GPU": 384,
    "RTX 5060 Laptop GPU": 384, "RTX 4090 Laptop GPU": 576, "RTX 4080 Laptop GPU": 432, "RTX 4070 Laptop GPU": 256,
    "RTX 4060 Laptop GPU": 256, "RTX 4050 Laptop GPU": 192, "RTX 3080 Ti Laptop GPU": 512, "RTX 3080 Laptop GPU": 448,
    "RTX 3070 Ti Laptop GPU": 448, "RTX 3070 Laptop GPU": 448, "RTX 3060 Laptop GPU": 336, "RTX 3050 Laptop GPU": 192,
    # workstations
    "RTX PRO 6000 Blackwell": 1792, "RTX PRO 5000 Blackwell": 1344, "RTX PRO 4500 Blackwell": 896, "RTX PRO 4000 Blackwell": 672,
    "RTX 6000 Ada": 960, "RTX 5000 Ada": 576, "RTX 4500 Ada": 432, "RTX 4000 Ada": 360, "RTX 2000 Ada": 224,
    "RTX A6000": 768, "RTX A5500": 768, "RTX A5000": 768, "RTX A4500": 640, "RTX A4000": 448, "RTX A2000": 288,
    "Quadro RTX 8000": 672, "Quadro RTX 6000": 672, "Quadro RTX 5000": 448, "Quadro RTX 4000": 416, "GB10": 273,
    # data centres
    "B200": 7700, "H200 NVL": 4800, "H200": 4800, "GH200 480GB": 4000, "GH200 144G": 4900, "H100 NVL": 3900, "H100 PCIe": 2000,
    "H100 80GB HBM3": 3350, "H100": 2000, "H800": 2000, "A100-SXM4-80GB": 2039, "A100 80GB PCIe": 1935, "A100-SXM4-40GB": 1555,
    "A100-PCIE-40GB": 1555, "A100": 1555, "A40": 696, "A30": 933, "A10G": 600, "A10": 600, "A16": 200, "A2": 200, "L40S": 864,
    "L40": 864, "L4": 300, "Tesla T4": 320, "T4": 320, "V100": 900, "P100": 732, "Tesla P40": 346, "P4": 192,
    # AMD
    "Radeon RX 9070 XT": 640, "Radeon RX 9070": 640, "Radeon RX 7900 XTX": 960, "Radeon RX 7900 XT": 800, "Radeon RX 7900 GRE": 576,
    "Radeon RX 7800 XT": 624, "Radeon RX 7700 XT": 432, "Radeon RX 7600 XT": 288, "Radeon RX 7600": 288, "Radeon RX 6950 XT": 576,
    "Radeon RX 6900 XT": 512, "Radeon RX 6800 XT": 512, "Radeon RX 6800": 512, "Radeon RX 6700 XT": 384, "Radeon PRO W7900": 864,
    "Radeon PRO W6800": 512, "MI300X": 5300, "MI250X": 1638, "MI210": 1638, "MI100": 1229,
}  # fmt: skip
_BY_LENGTH = sorted(GIGABYTES_PER_SECOND, key=len, reverse=True)


@lru_cache(maxsize=64)
def card_bandwidth(name: str) -> int | None:
    """Bytes per second of a card of that name; None for one that is not in the table. A name counts as whole words only:
    "L4" is no "L40"."""
    words = f" {name} "
    for known in _BY_LENGTH:
        at = words.find(known)
        if at > 0 and not (words[at - 1].isalnum() or words[at + len(known)].isalnum()):
            return GIGABYTES_PER_SECOND[known] * 10**9
    return None
