"""slidesieve: which of a slide's tiles to keep, and what is lost with the rest.

Words: a *slide* is cut into *tiles*; an *encoder* turns each tile into a feature; the features of a slide are its
*bag*; a *compressor* keeps or mixes k *tokens* of the bag for a language model.

Axes, one letter each: b slides, n tiles, d feature width, k kept tokens, m visual tokens, h heads, c classes,
t tile side.
    x       (n d)   features, float32 in memory, float16 on disk
    coords  (n 2)   int64 (x, y): top-left corner in level-0 pixels
    mask    (b n)   True = a real tile, False = padding
    tokens  (b m d) what the language model gets

Units are suffixes: _um micrometres, _px tile pixels, _px0 level-0 pixels, _s seconds.
`mpp` is micrometres per tile pixel, `slide_mpp` micrometres per level-0 pixel.
"""

import warnings

__version__ = "0.1.0"

# tqdm asks for notebook widgets that a rendered report cannot show
warnings.filterwarnings("ignore", message="IProgress not found")
