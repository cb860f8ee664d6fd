"""Mosaics in words, for the toy's language model: runs of names, and what `datasets.mosaic_questions` asks of tokens.

A name stands for a token of its kind, a subtype's name for one of its subtype; so the model learns to count names, to
find one among them and to tell which is there, and is taught nothing about any tissue.
"""

import numpy as np

from slidesieve.synthetic.language import CODES, Sample, asked

WORDS = "Which subtype is the of these there? has most tokens? How many kinds are most: 3 4 5 6 ?"
LONGEST = 160  # names; short and long contexts are as frequent, by their logarithms


def draw_mosaic(rng: np.random.Generator) -> Sample:
    """Draw 3 to 6 names, the first the most often, and ask five questions about them, or have them described."""
    m, names = int(rng.integers(3, 7)), [str(name) for name in rng.permutation(CODES.split())]
    here, absent = names[:m], names[m:]
    size = round(np.exp(rng.uniform(np.log(2 * m), np.log(LONGEST))))
    counts = np.sort(rng.multinomial(size - 2 * m, rng.dirichlet(np.ones(m))) + 1)[::-1]
    counts[0] += m  # no draw between the first and the next
    words = [word for i in rng.permutation(m) for word in [here[i]] * int(counts[i])]
    two, yes = list(absent[:2]), bool(rng.random() < 0.5)
    named = str(rng.choice(here)) if yes else absent[2]
    kind = str(rng.choice(absent[3:]))  # what the subtypes are of is said, not shown
    numbers = [str(n) for n in (3, 4, 5, 6) if n != m]
    turns = [
        ("Describe the slide.", f"most: {here[0]} . also: {' '.join(here[1:])} ."),
        asked(rng, "Which of these is there?", str(rng.choice(here)), [str(a) for a in absent[3:6]]),
        asked(rng, f"Is {named} there?", *(("yes", ["no"]) if yes else ("no", ["yes"]))),
        asked(rng, "Which has the most tokens?", here[0], [*here[1:], *absent][:3]),
        asked(rng, "How many kinds are there?", str(m), numbers),
        asked(rng, f"Which subtype is the {kind} ?", str(rng.choice(here)), two[: int(rng.integers(1, 3))]),
    ]
    return Sample(words, turns)
