"""Scenes as generators: the base class, radiance fields (`nerf`) and Gaussian splats (`splats`)."""
