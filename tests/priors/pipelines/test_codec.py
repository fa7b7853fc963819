"""Images to latents and back: windows give what the whole image gives, in bounded memory."""

import pytest
import torch
from diffusers import AsymmetricAutoencoderKL, AutoencoderKL, AutoencoderTiny
from torch.autograd.graph import saved_tensors_hooks

from scoredistill import load_prior
from scoredistill.priors.pipelines.codec import Codec
from scoredistill.priors.pipelines.tiled_autoencoder import spans


def kl(attention=True, quant=True):
    torch.manual_seed(0)
    vae = AutoencoderKL(
        block_out_channels=(8, 16, 16), down_block_types=("DownEncoderBlock2D",) * 3, layers_per_block=2,
        up_block_types=("UpDecoderBlock2D",) * 3, latent_channels=4, norm_num_groups=4, scaling_factor=0.5,
        mid_block_add_attention=attention, use_quant_conv=quant, use_post_quant_conv=quant,
    )  # fmt: skip
    return Codec(vae.requires_grad_(False).eval(), 4)


def tiny():
    torch.manual_seed(0)
    vae = AutoencoderTiny(
        encoder_block_out_channels=(8, 8, 8), decoder_block_out_channels=(8, 8, 8), num_encoder_blocks=(1, 1, 2),
        num_decoder_blocks=(2, 1, 1),
    )  # fmt: skip
    return Codec(vae.requires_grad_(False).eval(), 4)


CODECS = {
    "bundled": lambda: load_prior("emoji").codec,
    "attention": kl,
    "plain": lambda: kl(attention=False, quant=False),
    "tiny": tiny,
}


def image(height, width, n=1):
    """Blobs of many sizes, bright on the left and dark on the right, so that no two windows have the same moments."""
    g = torch.Generator().manual_seed(1)
    layers = [
        torch.nn.functional.interpolate(torch.rand(n, 3, k, k, generator=g), (height, width), mode="bilinear")
        for k in (3, 7, 20, 60)
    ]
    return (sum(layers) / 4 * torch.linspace(1.2, 0.3, width)).clamp(0, 1)


def encoded(codec, x, cotangent=None):
    """Latents of x and the gradient of <latents, cotangent>; a smooth cotangent, on which moments have a say."""
    x = x.clone().requires_grad_()
    z = codec.encode(x)
    (grad,) = torch.autograd.grad(z, x, z.detach() if cotangent is None else cotangent)
    return z.detach(), grad


@pytest.mark.parametrize("name", CODECS)
def test_windows_give_the_latents_the_gradient_and_the_image_of_the_whole(name):
    codec, x = CODECS[name](), image(72, 116)
    z, grad = encoded(codec, x)
    with torch.no_grad():
        back = codec.decode(z)
    codec.window = 52
    z_w, grad_w = encoded(codec, x, z)
    with torch.no_grad():
        back_w = codec.decode(z)
    assert (z_w - z).abs().max() < 1e-4 * z.std()
    assert (grad_w - grad).abs().max() < 1e-4 * grad.abs().max()
    assert (back_w - back).abs().max() < 1e-4


def test_plain_tiles_would_not():
    codec, x = kl(attention=False), image(72, 144)
    tiles = torch.cat([codec.encode(part) for part in x.split(72, 3)], 3)
    whole = codec.encode(x)
    assert (tiles - whole)[..., 2:-2, 2:-2].abs().mean() > 0.02 * whole.std()


def test_a_decoder_is_differentiable_in_windows():
    codec, z = kl(), 0.5 * torch.randn(1, 4, 20, 31, generator=torch.Generator().manual_seed(2))
    grads = []
    for window in (None, 72):
        codec.window, leaf = window, z.clone().requires_grad_()
        grads.append(torch.autograd.grad(codec.decode(leaf).square().mean(), leaf)[0])
    assert (grads[1] - grads[0]).abs().max() < 1e-4 * grads[0].abs().max()


@pytest.mark.parametrize("name", CODECS)
def test_an_image_that_fits_passes_as_without_windows(name):
    codec, x = CODECS[name](), image(72, 64, 2)
    z, back = codec.encode(x), codec.decode(codec.encode(x))
    codec.window = 72
    assert torch.equal(codec.encode(x), z)
    assert torch.equal(codec.decode(z), back)


def test_images_of_a_batch_do_not_touch_each_other():
    codec, x = kl(), image(60, 100, 2)
    codec.window = 72
    assert torch.equal(codec.encode(x)[1:], codec.encode(x[1:]))


def test_no_layer_at_the_resolution_of_images_sees_more_than_a_window():
    codec, x = kl(), image(200, 200).requires_grad_()
    codec.window = 72
    sizes = {"encode": [], "decode": []}
    codec.vae.encoder.conv_in.register_forward_hook(lambda _, args, __: sizes["encode"].append(args[0].shape))
    codec.vae.decoder.conv_out.register_forward_hook(lambda _, args, __: sizes["decode"].append(args[0].shape))
    codec.encode(x).sum().backward()
    codec.decode(torch.zeros(1, 4, 50, 50))
    for seen in sizes.values():
        assert len(seen) > 9
        assert {len(shape) for shape in seen} == {4}
        assert max(max(shape[2:]) for shape in seen) <= 72
        assert {shape[0] for shape in seen} == {1}


def saved_bytes(codec, x):
    """Memory that waits for the backward pass, distinct storages."""
    storages = {}

    def pack(tensor):
        storages[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with saved_tensors_hooks(pack, lambda tensor: tensor):
        kept = codec.encode(x.clone().requires_grad_())
    assert kept.requires_grad
    return sum(storages.values())


def test_windows_save_memory_for_the_backward_pass():
    codec, x = kl(), image(160, 160)
    whole = saved_bytes(codec, x)
    codec.window = 72
    assert saved_bytes(codec, x) < 0.1 * whole


@pytest.mark.parametrize("name", CODECS)
def test_checkpointing_changes_memory_and_nothing_else(name):
    codec, x = CODECS[name](), image(64, 64)
    z, grad = encoded(codec, x)
    before = saved_bytes(codec, x)
    codec.checkpoint()
    z_c, grad_c = encoded(codec, x)
    assert (z_c - z).abs().max() < 1e-6
    assert (grad_c - grad).abs().max() < 1e-6 * grad.abs().max()
    assert saved_bytes(codec, x) < 0.5 * before


def test_windows_of_a_network_in_bfloat16():
    codec, x = kl(), image(60, 140)
    full = codec.encode(x)
    codec.vae.to(torch.bfloat16)
    whole = codec.encode(x)
    codec.window = 72
    windowed = codec.encode(x)
    assert windowed.dtype == torch.float32
    assert (windowed - full).abs().mean() < 1.5 * (whole - full).abs().mean()


@pytest.mark.parametrize(("window", "margin"), [(9, 4), (12, 3), (16, 1), (5, 0)])
def test_spans_cover_every_length_once(window, margin):
    for length in range(1, 70):
        cover = spans(length, window, margin)
        assert [i for s in cover for i in range(s.low, s.high)] == list(range(length))
        for s in cover:
            assert 0 <= s.start <= s.low < s.high <= s.stop <= length
            assert s.stop - s.start == cover[0].stop <= window
            assert s.low - s.start >= margin or s.start == 0
            assert s.stop - s.high >= margin or s.stop == length


def test_impossible_windows_are_refused_before_work():
    codec = kl()
    with pytest.raises(ValueError, match="multiples of 4 pixels and at least 36, not 70"):
        codec.window = 70
    with pytest.raises(ValueError, match="at least 36, not 32"):
        codec.window = 32
    codec.window = 36
    with pytest.raises(ValueError, match="multiples of 4 pixels"):
        load_prior("emoji", window=33)
    other = Codec(
        AsymmetricAutoencoderKL(norm_num_groups=4, down_block_out_channels=(8,), up_block_out_channels=(8,)), 1
    )
    with pytest.raises(ValueError, match="plain AutoencoderKL"):
        other.window = 64


def test_latents_may_be_shifted_and_scaled_by_channel():
    codec, x = kl(), image(16, 16)
    mode = codec.mode(x)
    codec.vae.register_to_config(latents_mean=[0.1, -0.2, 0.3, 0.0], latents_std=[1.0, 2.0, 0.5, 4.0])
    other = Codec(codec.vae, 4)
    latents = other.encode(x)
    for channel, (mean, std) in enumerate(zip([0.1, -0.2, 0.3, 0.0], [1.0, 2.0, 0.5, 4.0], strict=True)):
        assert (latents[:, channel] - (mode[:, channel] - mean) * 0.5 / std).abs().max() < 1e-6
    assert (other.decode(latents) - codec.decode(mode * 0.5)).abs().max() < 1e-5


def test_only_autoencoders_that_overflow_are_put_in_float32():
    half = lambda **options: Codec(kl().vae.half(), 4, **options)
    assert half().vae.dtype == torch.float16
    assert half(upcast=True).vae.dtype == torch.float32
    safe = kl().vae.half()
    safe.register_to_config(force_upcast=False)
    assert Codec(safe, 4, upcast=True).vae.dtype == torch.float16
