"""Train the bundled networks: a small text-to-image model, its autoencoder, an instruction editor and a CLIP, on emoji.

Run `python -m scoredistill.training STAGE... --preset cpu|gpu --data DIR --work DIR --out DIR`, or the same arguments
after `scoredistill prior train`.
"""
