"""A palette for classes that is also distinct under colour vision deficiency.

The first seven colours are those of Okabe and Ito without black, in an order that suits filled
areas. The others come from the library colorcet (tables `glasbey_bw_minc_20`, `glasbey_light`,
`glasbey_dark`, `glasbey_warm`, `glasbey_cool` and `glasbey_hv`). Each is the candidate farthest
from all previous colours, black, white and two greys; the distance is the smallest of those under
normal vision and without red, green or blue cones. tests/data/test_colours.py rebuilds the table
from the library, and states the distances.

References:
    M. Okabe, K. Ito. Color Universal Design. 2008. https://jfly.uni-koeln.de/color/
    C. Glasbey et al. Colour displays for categorical images. 2007. (The candidates.)
    G. Machado et al. A physiologically-based model for simulation of color vision deficiency. 2009.
"""

import colorsys
from collections.abc import Sequence
from typing import TypeAlias

Colour: TypeAlias = tuple[int, int, int]

_TABLE = """
0072b2 e69f00 009e73 cc79a7 56b4e9 d55e00 f0e442 653329 3a0183 005659 a9e49a 0100f8 7c6042 1be6fe
ae6dff 9d3f81 b33b01 7cb569 382d00 d4e3d0 4b31a3 5e0040 93004d c2a6c5 669c4d db03b3 396e64 dbae95
00d856 e4bfdb c395a5 503267 887751 bfff8c f9f2c1 1959ff a795c6 9e698c 7c4623 af7bd5 553a00 db7e01
774769 5d7e69 ffb6f4 c8e6f2 89dbb3 ff82ed 95622f 876bd8 d8cf00 53458b fd0097 9900c4 0087b1 59aa75
ff5f94 daffe6 11421c 520066 85562a bfd57c b85616 7c99af 8c6677 9738db 840076 e8fd70 d88f38 9e7936
609694 5d213d 694600 80305a eda5da 7242a3 365039 605d83 9c3b50 c7a3ff 7e004d 8cc8a3 ce7f58 e5ae38
6eb3aa ffcddd dbafc8 d89c89 4500c5 8990f9 a98a36 e377c2 f500c6 595793 875767 6ee956 c4c68e 90825b
7c3a75 6c004f 8956af 4dfdff aed6cf a19564 ffd063 a8efe6 97bca8 d6f0a5 ed67ff ac1a13 bcb7ff 7a2e36
a02342 6b8567 baffff c16789 666d9e cbc400 bf66b1 387e7b 674f31 00457b 876790 34574d ffb7b3 a3672a
4faada cd2947 57028f 00ff75 8b2945 4b9077 26492f 64c674 4d6eff bfedbc 004dc8 d1b1eb 5d91df 727147
b13662 54af9a 526077 871c83 0044ff bf033f 805059 c1878e bfbc4d 9ec1db 86a302 acaa59 7daf3b f9ff00
c6ffd6 a0d1e8 a33b74 e2857e cda897 476101 932864 ba1f85 da546e ff9ab5 4b6449 87000e afbc82 871528
5d0018 64465d a42721 4fb5b0 db6483 dd8cd3 82809e d6e8ff 3d6252 cdccff 4c6774 69e6c3 d06827 4d4db3
687fcb ace8db 5764a5 e299b3 b6cd72 80fb9a 93ac83 a75423 6e9c89 a30092 95fff2 fdace4 17becf ff7752
075f78 00e83b caff4f 5db54b 004e53 c49abc 79525e 0064d6 79a1ff e7e965 9acdcf 009744 5979c8 00fdcf
c383ba cfff9e 529e93 beb4be a3832f 0000dd 1726ff 058751 99acdd 6ef6af 668a87 f78544 727ea5 896056
7f0024 8abf5d 6e56ca ac7700 9c6e60 544997 72b8ff 009080 61355d 62265e 3a9cd8 364424 6b7cbd 5d373b
5901a3 61006e 05a79d f2db8a 004b00 cc9c90 b6cfaa 335769 70aacf d14867 82b6a1 798a9e 959167 ffbc78
6e8cb1 4e230c 003db3 6d904f
"""
_COLOURS: tuple[Colour, ...] = tuple(
    (int(code[:2], 16), int(code[2:4], 16), int(code[4:], 16)) for code in _TABLE.split()
)
_GOLDEN_ANGLE = 0.618034


def default_palette(classes: Sequence[str]) -> tuple[Colour, ...]:
    """Return one colour per class; a class named "background" is black.

    The first 256 are distinct under any colour vision; later ones are spread over the hues.

    Example:
        >>> default_palette(["background", "car"])
        ((0, 0, 0), (230, 159, 0))
    """
    return tuple(
        (0, 0, 0) if name.lower() == "background" else _colour(index)
        for index, name in enumerate(classes)
    )


def _colour(index: int) -> Colour:
    """Return the colour of one class, from the table or generated."""
    if index < len(_COLOURS):
        return _COLOURS[index]
    saturation, value = (0.9, 0.6, 0.75)[index % 3], (0.95, 0.75, 0.55)[index // 3 % 3]
    red, green, blue = colorsys.hsv_to_rgb(index * _GOLDEN_ANGLE % 1, saturation, value)
    return round(255 * red), round(255 * green), round(255 * blue)
