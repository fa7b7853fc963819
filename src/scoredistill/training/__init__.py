"""Train the bundled prior: a small text-to-image diffusion model, its autoencoder and a CLIP, on freely licensed emoji.

Run as ``python -m scoredistill.priors.train STAGE... --preset cpu|gpu --data DIR --work DIR --out DIR``.
"""
