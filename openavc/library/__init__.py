"""A library of joint embeddings, searched by sound or by picture (LanceDB).

One row is one moment: a vector of length 1, so that scalar products are cosine similarities, with its source and its
time in seconds. A library holds the vectors of one model. `index` adds results, `search` finds the moments nearest to a
picture or a sound, and `page` shows them.
"""
