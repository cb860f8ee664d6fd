"""The toy cohort: small pyramidal slides with procedural H&E tissue, whose evidence tiles are known.

Read in this order: `classes` (what can be on a slide) -> `fields`, `marks` (toroidal noise, cells) ->
`tissues`, `findings`, `grades`, `decoys` (one texture a class) -> `atlas` (all textures, packed) ->
`plans` (what is where on a slide) -> `drawing` (plan -> pixels) -> `pyramids` (pixels -> TIFF) ->
`tables` (manifest, questions, captions, truth) -> `cohort` (the whole folder).

Imported by notebooks and tests only. Nothing here resembles a diagnosis: the textures are stylised, the class
names are labels that a language model can read.
"""
