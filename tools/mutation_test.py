"""Does each oracle bite? Break one formula at a time in a copy of the tree, run its tests, and expect them to fail.

    python benchmarks/breakages.py --out docs/results/breakages.json

Each breakage is (file, what stands there, what is put in its place, the test file that must notice, pytest's -k for the
tests of it that must). The same tests are first seen to pass on the tree as it is. Types are not checked meanwhile: a
formula's test has to notice by its numbers.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from datetime import date
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
BREAKAGES = [
    # schedules, time schedules, kernels
    ("schedule.py", "return log_alpha.exp(), ", "return (1.001 * log_alpha).exp(), ", "test_schedule.py", ""),
    ("schedule.py", "torch.lerp(table[below], table[below + 1], position - below)", "table[below]", "test_schedule.py", ""),
    ("schedule.py", "r / (1 + r))", "r / (1 + 1.01 * r))", "test_schedule.py", ""),
    ("times.py", "(1 - fraction) * math.log(self.start)", "fraction * math.log(self.start)", "test_times.py", "Bandwidth"),
    ("times.py", "index / max(steps - 1, 1)", "index / steps", "test_times.py", "Window or sqrt"),
    ("times.py", "min(max(late / self.move, 0.0), 1.0)", "max(late / self.move, 0.0)", "test_times.py", "Window"),
    ("times.py", "math.sqrt(_fraction(index, steps))", "_fraction(index, steps) ** 2", "test_times.py", "sqrt"),
    ("times.py", ".flip(0).cumsum(0).flip(0)", ".cumsum(0)", "test_times.py", "PriorWeighted"),
    ("times.py", "(t - self.m1).clamp(min=0) / self.s1", "(t - self.m1).clamp(min=0) / self.s2", "test_times.py", "PriorWeighted"),
    ("times.py", "(over**2 + under**2) / 2", "(over**2 + under**2)", "test_times.py", "PriorWeighted"),
    ("times.py", "<= (self.bandwidth_min or self.end)", "< (self.bandwidth_min or self.end)", "test_sampling.py", "least_bandwidth"),
    ("times.py", "/ self.stride + 0.5)", "/ self.stride)", "test_times.py", "Ticks"),
    ("kernels.py", ".clamp(min=FLOOR)", "", "test_kernels.py", "duplicates"),
    ("kernels.py", "u = squared / (2 * width**2)", "u = squared / width**2", "test_kernels.py", "closed_form or repulsion"),
    ("kernels.py", "math.log(n + 1)", "math.log(n + 2)", "test_kernels.py", "median_rule"),
    ("kernels.py", "(flat[i] - flat)", "(flat - flat[i])", "test_kernels.py", "repulsion"),
    ("kernels.py", "return (1 + 2 * u).rsqrt()", "return (1 + u).rsqrt()", "test_kernels.py", "closed_form"),
    ("kernels.py", "(1 + 2 * u) ** -1.5", "(1 + 2 * u) ** -0.5", "test_kernels.py", "slope"),
    # priors
    ("priors/base.py", "alpha * x_t - sigma * out) / norm", "alpha * x_t + sigma * out) / norm", "priors/test_mixture.py", "cycle"),
    ("priors/base.py", "(x_t - sigma * out) / total", "(x_t + sigma * out) / total", "priors/test_mixture.py", "cycle"),
    ("priors/mixture.py", "variance = alpha**2 * spread", "variance = alpha * spread", "priors/test_mixture.py", "mixture"),
    ("priors/mixture.py", "(delta * u[i] + variance.log())", "delta * u[i]", "priors/test_mixture.py", "mixture"),
    ("priors/mixture.py", "resp @ self.means + alpha * self._sum", "resp @ self.means + self._sum", "priors/test_mixture.py", "mixture or denoised"),
    ("priors/mixture.py", "noise * self.spread[k].sqrt()", "noise * self.spread[k]", "priors/test_mixture.py", "mixture or perturbed"),
    ("priors/mixture.py", "-torch.inf).log_softmax(-1)", "-torch.inf)", "priors/test_guidance.py", "three_dimensions"),
    ("priors/mixture.py", "here = slice(0, 1) if shared", "here = slice(0, 1) if True", "priors/test_mixture.py", "mixture or cycle"),
    ("priors/mixture.py", "self.axes[:, :, i] for i", "self.axes[:, i] for i", "priors/test_guidance.py", "three_dimensions"),
    ("priors/empirical.py", "alpha * x, alpha**2, torch", "alpha * x, alpha, torch", "priors/test_mixture.py", "empirical"),
    ("priors/guidance.py", "[(1 - scale, uncond), (scale, cond)]", "[(1 - scale, cond), (scale, uncond)]", "priors/test_mixture.py", "Guidance"),
    ("priors/guidance.py", "return coefficient * row if", "return 1.001 * coefficient * row if", "priors/test_mixture.py", "Guidance"),
    ("priors/guidance.py", "torch.where(inside, self.scale, 1.0)", "torch.where(inside, self.scale, 0.0)", "priors/test_mixture.py", "Guidance"),
    ("priors/guidance.py", "(s_i - s_t, text)", "(s_i, text)", "priors/test_guidance.py", "image_guidance"),
    ("priors/guidance.py", "nothing = {**text,", "nothing = {**cond,", "priors/test_guidance.py", "image_guidance"),
    ("priors/guidance.py", "return _Textless(self._without_text(cond))", "return self._without_text(cond)", "priors/test_guidance.py", "csd_edit"),
    ("priors/guidance.py", "(other - per_sample(along, d) * d)", "other", "priors/test_guidance.py", "perpneg"),
    ("priors/guidance.py", "norm = flat.square().sum(1)", "norm = flat.norm(dim=1)", "priors/test_guidance.py", "perpneg"),
    ("priors/guidance.py", "return base + self.scale * total", "return positive + self.scale * total", "priors/test_guidance.py", "perpneg"),
    ("priors/guidance.py", "[(a * b, inner) for", "[(b, inner) for", "priors/test_guidance.py", "guidance_of_guidance"),
    ("priors/network.py", "(s * c_in) ** 2 * z", "s * c_in * z", "priors/test_guidance.py", "preconditioning"),
    ("priors/network.py", "return (z - self._at(z, r, cond)) / r[:, None]", "return (z - self._at(z, r, cond)) / sigma[:, None]", "priors/test_network.py", "closed_form"),
    ("priors/network.py", "z = y + r[:, None] *", "z = y + r[:, None].sqrt() *", "priors/test_network.py", "closed_form"),
    ("priors/network.py", "share = 1 - min(", "share = min(", "priors/test_guidance.py", "running_average"),
    ("priors/network.py", "torch.where(dropped, -1, label)", "label", "priors/test_guidance.py", "training_sees"),
    ("priors/network.py", "weight = (r**2 + config.sigma_data**2) / (r * config.sigma_data) ** 2", "weight = (r**2 + config.sigma_data**2) / (r * config.sigma_data)", "priors/test_guidance.py", "training_sees"),
    ("priors/network.py", "config.log_std * torch.randn(len(y), generator=rng)", "config.log_std**2 * torch.randn(len(y), generator=rng)", "priors/test_guidance.py", "training_sees"),
    ("priors/network.py", "(known >= 0).to(z)", "(known >= 1).to(z)", "priors/test_network.py", "classes"),
    ("priors/network.py", "spread = float(x.std()", "spread = float(x.var()", "priors/test_network.py", "student"),
    ("priors/lora.py", 'if "lora_A" in name', "if True", "priors/pipelines/test_lora.py", "first_weights or sees_the_view"),
    ("priors/lora.py", "lora_alpha=rank", "lora_alpha=1", "priors/pipelines/test_lora.py", "b_times_a"),
    ("priors/lora.py", "nn.init.zeros_(self.view.weight)", "nn.init.ones_(self.view.weight)", "priors/pipelines/test_lora.py", "sees_the_view"),
    ("priors/lora.py", "{id(tensor): tensor for tensor in tensors}", "{}", "priors/pipelines/test_lora.py", "memory"),
    ("priors/lora.py", "grad / scale", "grad", "priors/pipelines/test_lora.py", "half_precision"),
    ("priors/pipelines/base.py", "whole, step).clamp(min=0)", "whole + 1, step + 1)", "priors/pipelines/test_load.py", "equals_the_pipeline"),
    ("priors/pipelines/base.py", "{**cond, **self.encode_text", "{**self.encode_text", "priors/pipelines/test_unets.py", "ddim_equals and InstructPix2Pix"),
    ("priors/pipelines/base.py", "x_t[i : i + size]", "x_t[:size]", "test_memory.py", "micro_batches"),
    ("priors/pipelines/stable_diffusion.py", "torch.cat([x_t, cond", "torch.cat([x_t, 0.5 * cond", "priors/pipelines/test_unets.py", "ddim_equals and InstructPix2Pix"),
    ("priors/pipelines/stable_diffusion.py", "self.codec.mode(images)", "self.codec.encode(images)", "priors/pipelines/test_unets.py", "ddim_equals and InstructPix2Pix"),
    ("priors/pipelines/stable_diffusion_xl.py", "tensor([height, width])", "tensor([width, height])", "priors/pipelines/test_unets.py", "ddim_equals and XL"),
    ("priors/pipelines/stable_diffusion_xl.py", "self.codec.encode(images) if scaled", "self.codec.mode(images) if scaled", "priors/pipelines/test_unets.py", "ddim_equals and XL"),
    ("priors/pipelines/deepfloyd.py", "[:, : x_t.shape[1]]", "[:, -x_t.shape[1] :]", "priors/pipelines/test_unets.py", "ddim_equals and DeepFloyd"),
    ("priors/pipelines/flow.py", "(height // self.patch) * (width", "height * (width", "priors/pipelines/test_flow.py", "dynamic_shift"),
    ("priors/pipelines/flow.py", "self.pipeline.scheduler.config.num_train_timesteps", "(self.pipeline.scheduler.config.num_train_timesteps - 1)", "priors/pipelines/test_flow.py", "ddim_equals"),
    ("priors/pipelines/flux.py", ".permute(0, 2, 4, 1, 3, 5)", ".permute(0, 2, 4, 3, 5, 1)", "priors/pipelines/test_flow.py", "ddim_equals"),
    ("priors/pipelines/flux.py", "coordinates(image, i)", "coordinates(image, 0)", "priors/pipelines/test_flow.py", "ddim_equals"),
    ("priors/pipelines/flux.py", "step / 1000", "step / 999", "priors/pipelines/test_flow.py", "ddim_equals"),
    ("priors/pipelines/codec.py", "(latents - shift) * scale", "latents * scale - shift", "priors/pipelines/test_codec.py", "channel"),
    ("priors/pipelines/codec.py", "self.scale / _by_channel(std)", "self.scale * _by_channel(std)", "priors/pipelines/test_codec.py", "channel"),
    # edits and pairs
    ("edits.py", "weights = images.new_tensor([0.299, 0.587, 0.114])", "weights = images.new_tensor([0.333, 0.333, 0.333])", "datasets/test_procedural_edits.py", "formulas"),
    ("edits.py", "[blue - green, red - blue, green - red]", "[green - blue, blue - red, red - green]", "datasets/test_procedural_edits.py", "hues"),
    ("edits.py", "round(4 * unit)", "round(4)", "datasets/test_procedural_edits.py", "grow"),
    ("edits.py", "2 * light - 1))", "2 * light))", "datasets/test_procedural_edits.py", "formulas"),
    ("edits.py", "(2 * sigma**2)", "(2 * sigma)", "datasets/test_procedural_edits.py", "dot"),
    ("priors/train/editor.py", "torch.where(unchanged, source, target)", "target", "training/test_editor.py", "left_out"),
    ("priors/train/editor.py", "torch.cat([known, torch.zeros_like(known)], 1)", "torch.cat([known, known], 1)", "training/test_editor.py", "widened"),
    ("priors/train/pairs.py", "target[rows] = edit(source[rows]", "target[rows] = edit(target[rows] * 0.9", "training/test_editor.py", "procedural"),
    ("priors/train/clip.py", "kinds[row] += number + 1", "kinds[row] += number", "training/test_training.py", "augmented"),
    ("priors/train/clip.py", "% BANK_STEPS == 0", "% BANK_STEPS == 1", "training/test_training.py", "bank"),
    # the ideal denoiser on images
    ("priors/empirical.py", "upper >= best - sigma", "upper >= best + sigma", "priors/test_empirical.py", ""),
    ("priors/empirical.py", "alpha * rest, alpha**2], 1)", "0 * rest, alpha**2], 1)", "priors/test_empirical.py", ""),
    ("priors/pipelines/codec.py", "encoded.latent_dist.mode()", "encoded.latent_dist.sample()", "priors/pipelines/test_load.py", "codec"),
    # samplers
    ("sampling.py", "x = alpha_next * x0 + sigma_next * noise", "x = alpha_next * x0 + sigma * noise", "test_sampling.py", "ddim_converges"),
    ("sampling.py", "variance = (eta * sigma_next) ** 2 *", "variance = eta * sigma_next**2 *", "priors/pipelines/test_load.py", "eta"),
    ("sampling.py", "times(steps).flip(0).flip(1) if", "times(steps).flip(0) if", "test_sampling.py", "retraced"),
    ("sampling.py", "x = ddim_step(prior, x, now.expand(len(x)), then.expand(len(x)), cond, eta, rng)", "x = ddim_step(prior, x, now.expand(len(x)), then.expand(len(x)), cond)", "estimators/test_methods.py", "inversion_adds"),
    ("sampling.py", "(x_t - per_sample(sigma, x_t) * eps)", "(x_t - per_sample(sigma_to, x_t) * eps)", "test_sampling.py", "retraced"),
    ("sampling.py", "fresh = ((eta * sigma) ** 2 *", "fresh = ((eta * sigma_to) ** 2 *", "test_sampling.py", "step_back"),
    ("sampling.py", "(alpha_to * sigma / (alpha * sigma_to)) ** 2)).clamp", "(alpha_to * sigma / (alpha * sigma_to)))).clamp", "test_sampling.py", "step_back"),
    ("sampling.py", "(sigma_to**2 - fresh).clamp(min=0).sqrt()", "sigma_to", "test_sampling.py", "step_back"),
    ("sampling.py", "return x + per_sample(fresh.sqrt(), x_t)", "return x + per_sample(fresh, x_t)", "test_sampling.py", "fresh_noise"),
    ("sampling.py", "for k in range(steps - 1):", "for k in range(steps):", "test_sampling.py", "flow_down"),
    ("sampling.py", "return prior.denoise(x_t, t / steps, cond)", "return prior.denoise(x_t, t, cond)", "test_sampling.py", "flow_down"),
    ("sampling.py", "(s * v / (s + v)).sqrt()", "s * v / (s + v)", "estimators/test_estimators.py", "product_denoiser"),
    ("sampling.py", "per_sample(s / (s + v), z) * z + per_sample(v / (s + v), z) * x", "per_sample(v / (s + v), z) * z + per_sample(s / (s + v), z) * x", "estimators/test_estimators.py", "product_denoiser"),
    ("sampling.py", "per_sample(ratios[k + 1] / ratios[k], x)", "per_sample((ratios[k + 1] / ratios[k]) ** 2, x)", "test_sampling.py", "product_samples"),
    ("sampling.py", "per_sample(ratios[0], x) * draw(x)", "8 * draw(x)", "test_sampling.py", "product_samples"),
    ("sampling.py", "per_sample(v_next / v, z) * (z - d)", "per_sample((v_next / v).sqrt(), z) * (z - d)", "test_sampling.py", "posterior_mean"),
    ("sampling.py", "v_next * (v - v_next) / v).sqrt()", "v - v_next).sqrt()", "test_sampling.py", "posterior_mean"),
    ("sampling.py", '"sigma2": lambda r: r.square()', '"sigma2": lambda r: r', "test_sampling.py", "kernel_of_the_paper"),
    ("sampling.py", "(2 * bandwidth.to(z.dtype) ** 2)", "bandwidth.to(z.dtype) ** 2", "test_sampling.py", "kernel_of_the_paper"),
    ("sampling.py", "z = pull(ratio[0] * draw(x), 0, 0)", "z = ratio[0] * draw(x)", "test_sampling.py", "kernel_of_the_paper"),
    ("sampling.py", "* (z - d), k, k + 1)", "* (z - d), k, k)", "test_sampling.py", "kernel_of_the_paper"),
    ("sampling.py", "if not lo <= float(grid[at]) <= hi", "if not lo <= float(grid[at])", "test_sampling.py", "kernel_of_the_paper"),
    ("sampling.py", "path.append(x_t / prior.schedule(now)[0].to(x.dtype))", "path.append(x_t)", "test_sampling.py", "from_its_anchor"),
    ("sampling.py", 'if anchor == "x" else', 'if anchor != "" else', "test_sampling.py", "from_its_anchor"),
    # where the noise comes from
    ("estimators/noise.py", "torch.stack([half, -half], 1)", "torch.stack([half, half], 1)", "estimators/test_methods.py", "antithetic"),
    ("estimators/noise.py", "draw_noise(x[:1], one[:1] if isinstance(one, list) else one).expand_as(x)", "draw_noise(x, rng)", "estimators/test_methods.py", "shared_noise"),
    ("estimators/noise.py", "(1 - self.refresh) ** 0.5 *", "(1 - self.refresh) *", "estimators/test_methods.py", "refreshed"),
    ("estimators/noise.py", "self.noise = prediction", "pass", "estimators/test_methods.py", "recycled_noise"),
    ("estimators/noise.py", 'self.noise = state.get("noise")', "self.noise = None", "estimators/test_methods.py", "kept_noise"),
    ("estimators/noise.py", "first * ((k + 1) / self.steps)", "first * (k / self.steps)", "estimators/test_methods.py", "inverted_noise"),
    ("estimators/noise.py", "torch.full_like(times[0], self.to)", "times[0]", "estimators/test_methods.py", "inverted_to_the_end"),
    ("estimators/noise.py", "cond, self.eta, rng), then\n        found = [", "cond), then\n        found = [", "estimators/test_methods.py", "inversion_adds"),
    ("estimators/noise.py", "found = [self._noise(prior, batch.x, x, now)]", "found = [self._noise(prior, x, x, now)]", "estimators/test_methods.py", "inversion_adds"),
    ("estimators/noise.py", "noise = guided.eps(", "noise = prior.eps(", "estimators/test_methods.py", "predicted_noise"),
    ("estimators/noise.py", "range(self.rounds)", "range(1)", "estimators/test_methods.py", "predicted_noise"),
    ("estimators/noise.py", "Guided(plain(prior), scale)", "Guided(prior, scale)", "estimators/test_methods.py", "takes"),
    # residuals
    ("estimators/residual.py", "grad = predicted - n_t", "grad = predicted + n_t", "estimators/test_estimators.py", "sds_has"),
    ("estimators/residual.py", "weight_at(self.weight", 'weight_at("uniform"', "estimators/test_estimators.py", "sds_has"),
    ("estimators/residual.py", "(r_t * n_t - r_s * n_s) / (r_t - r_s)", "(n_t - n_s)", "estimators/test_methods.py", "ISM"),
    ("estimators/residual.py", "n_s, n_t = self.noise(prior, batch, [s, t], rng)", "n_t, n_s = self.noise(prior, batch, [s, t], rng)", "estimators/test_methods.py", "ISM"),
    ("estimators/residual.py", 'Row(sign * (1 - scale), latent, cond="null"), Row(sign * scale, latent, cond=cond)', 'Row(sign * (1 - scale), latent, cond=cond), Row(sign * scale, latent, cond="null")', "estimators/test_methods.py", "guidance"),
    ("estimators/residual.py", "x_t = x_t + _scaled(self.shift", "x_t = x_t - _scaled(self.shift", "estimators/test_methods.py", "flowedit"),
    ("estimators/residual.py", "grad = grad + _scaled(self.anchor", "grad = grad - _scaled(self.anchor", "estimators/test_methods.py", "flowedit"),
    ("estimators/residual.py", "batch.source.expand_as(batch.x), time, noise)", "batch.source.expand_as(batch.x), time, torch.randn_like(noise))", "estimators/test_methods.py", "DDS"),
    ("estimators/residual.py", "cond = self.batch.source_cond", "cond = self.batch.cond", "estimators/test_methods.py", "DDS"),
    ("estimators/residual.py", "key = (id(cond), row.later)", "key = (id(cond), False)", "estimators/test_methods.py", "interval"),
    ("estimators/target.py", "t, self.steps, cond)", "t, self.steps + 1, cond)", "estimators/test_methods.py", "PFD or one_ODE or ODE"),
    ("estimators/target.py", "batch.x - ode_sample(", "ode_sample(", "estimators/test_methods.py", "PFD"),
    ("estimators/target.py", "with_scale(prior, self.scale, batch.cond)", "with_scale(prior, None, batch.cond)", "estimators/test_methods.py", "PFD"),
    ("estimators/averaged.py", ".mean(1)", ".sum(1)", "estimators/test_methods.py", "averaged"),
    ("estimators/averaged.py", "[g for g in rng for _ in range(n)]", "[g for _ in range(n) for g in rng]", "estimators/test_methods.py", "permuted"),
    ("estimators/averaged.py", "else rows(batch.source.expand_as(batch.x))", "else batch.source.repeat(n, 1)", "estimators/test_methods.py", "averaging"),
    # students
    ("estimators/student.py", "(prior.eps(x_t, t, cond) - seen)", "(seen - prior.eps(x_t, t, cond))", "estimators/test_methods.py", "VSD"),
    ("estimators/student.py", "(1 - self.eta) * seen + self.eta *", "self.eta * seen + (1 - self.eta) *", "estimators/test_methods.py", "blind_to_the_view"),
    ("estimators/student.py", "loss + self.gamma *", "loss - self.gamma *", "estimators/test_methods.py", "gamma_scales"),
    ("estimators/student.py", ">= VIEW_DROPOUT", "< VIEW_DROPOUT", "estimators/test_methods.py", "uniform_times"),
    ("estimators/student.py", "draw_noise(one, rng)[:, 0] / 2**0.5", "draw_noise(one, rng)[:, 0]", "estimators/test_methods.py", "uniform_times"),
    ("estimators/student.py", 'self._optimizer.load_state_dict(self._waiting["optimizer"])', "pass", "estimators/test_methods.py", "student_resumes"),
    ("estimators/student.py", "loss = (guess - noise).square().mean()", "loss = (guess - x).square().mean()", "estimators/test_methods.py", "student_learns"),
    # methods by name
    ("estimators/named.py", "    return sigma / alpha", "    return alpha / sigma", "estimators/test_methods.py", "SDI or one_ODE or sigma"),
    ("estimators/named.py", "return 1 / alpha", "return alpha", "estimators/test_methods.py", "RFDS or DVRF"),
    ("estimators/named.py", "(t - delta).clamp", "(t + delta).clamp", "estimators/test_methods.py", "ISM"),
    ("estimators/named.py", 'Row(scale), Row(-scale, cond="null"', 'Row(scale), Row(scale, cond="null"', "estimators/test_methods.py", "classifier"),
    ("estimators/named.py", "-(t >= split)", "-(t < split)", "estimators/test_methods.py", "NFSD"),
    ("estimators/named.py", 'Row(1 - scale, cond="null")', 'Row(-scale, cond="null")', "estimators/test_methods.py", "NFSD"),
    ("estimators/named.py", "Inverted(inversion_steps, 1 - scale)", "Inverted(inversion_steps, -scale)", "estimators/test_methods.py", "PFD"),
    ("estimators/named.py", "share * spread * (t - start)", "share * spread * t", "estimators/test_methods.py", "asynchronous"),
    ("estimators/named.py", "a * sigma / alpha / post", "a * sigma / post", "estimators/test_methods.py", "PDS"),
    ("estimators/named.py", "(alpha_s - a - b * alpha)", "(alpha_s - a - b)", "estimators/test_methods.py", "pds"),
    ("estimators/named.py", "shift * t / schedule(t)[0] + rate", "shift * t + rate", "estimators/test_methods.py", "flowedit"),
    ("estimators/named.py", "bandwidth = lambda_ / math.sqrt(2)", "bandwidth = lambda_ * math.sqrt(2)", "estimators/test_methods.py", "of_the_paper"),
    # mean shift and couplings
    ("estimators/mean_shift.py", "Estimate(x - y,", "Estimate(0.999 * (x - y),", "estimators/test_estimators.py", "exact_mean_shift"),
    ("estimators/mean_shift.py", "torch.cat([noise, -noise], 1)", "torch.cat([noise, noise], 1)", "estimators/test_estimators.py", "antithetic_pairs"),
    ("estimators/mean_shift.py", "paper_sample(*around, self.dt, self.anchor, self.interval)", "paper_sample(*around, self.dt)", "estimators/test_methods.py", "of_the_paper"),
    ("estimators/stein.py", "total - self._gamma * away", "total + self._gamma * away", "estimators/test_estimators.py", ""),
    ("estimators/stein.py", "kernel @ shared", "kernel.T @ shared", "estimators/test_estimators.py", ""),
    ("estimators/stein.py", "kernel.sum(1) if", "kernel.sum(0) if", "estimators/test_estimators.py", ""),
    ("estimators/collaborative.py", "- strength * push", "+ strength * push", "estimators/test_collaborative.py", "grad_is or at_rest"),
    ("estimators/collaborative.py", "(h / width).square()", "(h / width)", "estimators/test_collaborative.py", "grad_is or denoised"),
    ("estimators/collaborative.py", "h.clamp(min=kernel.scale * apart)", "h.clamp(max=kernel.scale * apart)", "estimators/test_collaborative.py", "grad_is"),
    ("estimators/collaborative.py", "distance.amin(1).median()", "distance.amin(1).mean()", "estimators/test_collaborative.py", "spacing"),
    ("estimators/collaborative.py", "weights.sum(1, keepdim=True) * pushed", "pushed", "estimators/test_collaborative.py", "grad_is"),
    ("estimators/collaborative.py", "batch.x - estimate.grad if", "batch.x + estimate.grad if", "estimators/test_collaborative.py", "denoised"),
    ("estimators/collaborative.py", "slope / (1 - slope)", "slope", "estimators/test_collaborative.py", "spread_of_a_gaussian"),
    ("estimators/decoded.py", "grad=batch.x - after", "grad=z.mean() + batch.x - after", "test_loop.py", ""),
    # generators and the loop
    ("generators/base.py", "encode_image(self.generator(views))", "encode_image(self.generator(views).detach())", "test_loop.py", ""),
    ("loop.py", "grad = x.detach() - target", "grad = estimate.grad", "test_loop.py", ""),
    ("loop.py", "g.set_state(saved)", "pass", "test_loop.py", ""),
    ("loop.py", "x.backward(grad)", "x.backward(-grad)", "test_loop.py", ""),
    # numbers about samples and gradients
    ("metrics/samples.py", "(values[(n - 1) // 2] + values[n // 2]) / 2", "values[(n - 1) // 2]", "metrics/test_point_sets.py", "nll"),
    ("metrics/samples.py", "(distance <= truth_radii).any(1)", "(distance <= sample_radii[part, None]).any(1)", "metrics/test_point_sets.py", "precision"),
    ("metrics/samples.py", "kthvalue(k + 1, 1)", "kthvalue(k, 1)", "metrics/test_point_sets.py", "precision"),
    ("metrics/samples.py", "(_kernel_sum(x, x, bandwidth) - n)", "_kernel_sum(x, x, bandwidth)", "metrics/test_point_sets.py", "mmd"),
    ("metrics/samples.py", ".div(-2)", ".neg()", "metrics/test_point_sets.py", "mmd"),
    ("metrics/samples.py", "near += int(inside.any(1).sum())", "near += int(inside.sum())", "metrics/test_point_sets.py", "mode_coverage"),
    ("metrics/samples.py", "- error / len(g))", ")", "metrics/test_point_sets.py", "efficiency"),
    ("metrics/samples.py", "/ (len(g) - 1)).item()", "/ len(g)).item()", "metrics/test_point_sets.py", "efficiency"),
    ("metrics/samples.py", "return m.square().sum().item() / along if", "return along / m.square().sum().item() if", "metrics/test_point_sets.py", "efficiency"),
    ("metrics/samples.py", "- wrong.square().sum(1)) / (n - 1)", ") / n", "metrics/test_point_sets.py", "bias"),
    # the toy laboratory
    ("tasks/toy/data.py", "means.square() + covs.diagonal(dim1=1, dim2=2)", "means.square()", "datasets/test_toy2d.py", "standard_deviation or turned"),
    ("tasks/toy/data.py", "turn @ covs @ turn.mT", "turn.mT @ covs @ turn", "datasets/test_toy2d.py", "turned or even or entropy"),
    ("tasks/toy/data.py", "fork, parts = TRUNK, WIDTH[\"fractal\"], FORK, []", "fork, parts = TRUNK, 1.05 * WIDTH[\"fractal\"], FORK, []", "datasets/test_toy2d.py", "entropy"),
    ("tasks/toy/data.py", "SHORTEN * length, THIN * width, NARROW * fork", "THIN * length, SHORTEN * width, NARROW * fork", "datasets/test_toy2d.py", "entropy or thin"),
    ("tasks/toy/data.py", "fine[1 + torch.searchsorted(length, wanted)]", "turn * wanted / length[-1]", "datasets/test_toy2d.py", "even"),
    ("tasks/toy/data.py", "log_density.quantile(mass)", "log_density.quantile(1 - mass)", "datasets/test_toy2d.py", "level"),
    ("tasks/toy/data.py", "1 - mass + 1e-9", "mass", "datasets/test_toy2d.py", "modes"),
    ("tasks/toy/landscape.py", "(field[:, 1:, 0] + field[:, :-1, 0]) / 2", "(field[:, 1:, 0] + field[:, :-1, 0])", "studies/test_toy2d_landscape.py", "order or parabola"),
    ("tasks/toy/landscape.py", "spacing * (field[1:, :, 1] + field[:-1, :, 1])", "spacing * (field[1:, :, 0] + field[:-1, :, 0])", "studies/test_toy2d_landscape.py", "parabola or curl"),
    ("tasks/toy/landscape.py", "2 * (math.pi * k_y / rows).cos()", "2 * (math.pi * k_y / columns).cos()", "studies/test_toy2d_landscape.py", "Heights"),
    ("tasks/toy/landscape.py", "p[1, 2] - p[1, 0], p[2, 1] - p[0, 1]]) / 2", "p[1, 2] - p[1, 0], p[2, 1] - p[0, 1]])", "studies/test_toy2d_landscape.py", "between_nodes"),
    ("tasks/toy/landscape.py", ".amax(1) < level", ".amin(1) < level", "studies/test_toy2d_landscape.py", "slack"),
    ("tasks/toy/landscape.py", "if heights[lower] - heights[i] > floor", "if heights[lower] > floor", "studies/test_toy2d_landscape.py", "ripples or oblique"),
    ("tasks/toy/jobs.py", "target = x - exact(name).denoise_at(x, s)", "target = exact(name).denoise_at(x, s) - x", "studies/test_toy2d.py", "true_mean_shift"),
    ("tasks/toy/jobs.py", "counted.rows / len(x) / count", "counted.rows / len(x)", "studies/test_toy2d.py", "true_mean_shift"),
    ("tasks/toy/jobs.py", "metrics.efficiency(grads, cost, target)", "metrics.efficiency(grads, cost)", "studies/test_toy2d.py", "true_mean_shift"),
    ("tasks/toy/jobs.py", "for sign in (1, -1)", "for sign in (1, 1)", "estimators/test_methods.py", "mean_of_sds"),
    ("tasks/toy/jobs.py", "0.02 + 0.96 * (k + 0.5) / times", "0.02 + 0.96 * k / times", "estimators/test_methods.py", "mean_of_sds"),
    ("tasks/toy/jobs.py", "total / (2 * times)", "total / times", "estimators/test_methods.py", "mean_of_sds"),
    ("sampling.py", "first = prior.schedule.time_of(8 * (s / 65).sqrt())", "first = prior.schedule.time_of(s.sqrt())", "test_sampling.py", "own_levels"),
    ("sampling.py", "tau2[-1] = 0", "pass", "test_sampling.py", "own_levels"),
    ("sampling.py", "(s * tau2 / (s - tau2)).sqrt()", "tau2.sqrt()", "test_sampling.py", "own_levels"),
    ("sampling.py", "(1 - fraction.to(s.dtype)) * first", "(1 - fraction.to(s.dtype)) ** 2 * first", "test_sampling.py", "own_levels"),
    ("metrics/efficientnet.py", "sides += [total // 2, total - total // 2]", "sides += [total - total // 2, total // 2]", "metrics/test_efficientnet.py", ""),
    ("metrics/efficientnet.py", "return (2 * resized - 1)", "return resized", "metrics/test_efficientnet.py", ""),
    ("metrics/efficientnet.py", "return x + out if self.adds else out", "return out", "metrics/test_efficientnet.py", ""),
    ("tasks/images/gather.py", "torch.cdist(real, real).kthvalue(min(NEIGHBORS, len(real) - 1) + 1)", "torch.cdist(real, real).kthvalue(len(real))", "studies/test_text_to_image.py", "known_sets"),
    ("tasks/images/gather.py", "frechet_distance(torch.cat(features), every)", "frechet_distance(every, every)", "studies/test_text_to_image.py", "known_sets"),
    ("tasks/images/gather.py", "if fid <= level)", "if fid < level)", "studies/test_text_to_image.py", "reaches_a_level"),
    ("tasks/images/jobs.py", "max(1, round(rows / (one.counts[\"rows\"] / len(one.images))))", "max(1, round(rows / one.counts[\"rows\"]))", "studies/test_text_to_image.py", "budgets"),
    ("tasks/images/jobs.py", "round(steps ** (k / (most - 1)))", "round(steps * k / (most - 1))", "studies/test_text_to_image.py", "snapshots"),
    ("tasks/images/ideal.py", "nearest / x[0].numel() ** 0.5", "nearest / x[0].numel()", "studies/test_text_to_image.py", "ideal_denoiser"),
    ("tasks/images/study.py", "if len(whole) < len(found):", "if not whole:", "studies/test_text_to_image.py", "breaks_down"),
    ("tasks/images/paper.py", "recall >= 2 * other", "recall >= other", "studies/test_text_to_image_report.py", "verdict or inclusive"),
    ("tasks/images/paper.py", "a[figure][\"mean\"] > b[figure][\"mean\"]", "a[figure][\"mean\"] < b[figure][\"mean\"]", "studies/test_text_to_image_report.py", "claims_hold"),
    ("tasks/parts.py", "os._exit(1)", "pass", "studies/test_text_to_image.py", "killed"),
    ("estimators/collaborative.py", "shrink = h.square() / (variance + h.square())", "shrink = h / (variance.sqrt() + h)", "estimators/test_collaborative.py", "gaussian_law"),
    ("estimators/collaborative.py", "/ max(1, len(x) - 1) / x[0].numel()", "/ len(x) / x[0].numel()", "estimators/test_collaborative.py", "gaussian_law"),
    ("tasks/images/probes.py", "/ SEEDS**0.5", "", "studies/test_text_to_image.py", "probes"),
    ("tasks/parts.py", "statistics.stdev(values)", "statistics.pstdev(values)", "studies/test_toy2d.py", "averages_over"),
    ("tasks/parts.py", 'if not (self.folder / f"{job.name}.json").is_file()', "if True", "studies/test_toy2d.py", "where_it_stopped"),
    ("tasks/toy/study.py", 'key.rpartition("-")[0] == "-".join(start)', 'key.startswith("-".join(start[:3]))', "studies/test_toy2d.py", "where_it_stopped"),
    ("tasks/parts.py", "return job.name, error", "raise", "studies/test_toy2d.py", "breaks_down"),
    ("tasks/toy/paper.py", "gap * better > 0", "gap > 0", "studies/test_toy2d.py", "verdicts"),
    ("tasks/toy/paper.py", "recall < COLLAPSED", "precision < COLLAPSED", "estimators/test_methods.py", "collapse"),
    # windows, coupling, editing
    ("layout.py", ") % self.size[1]\n        which", ").clamp(max=self.size[1] - 1)\n        which", "generators/test_windows.py", ""),
    ("layout.py", "math.ceil(last / stride) + 1)]", "last // stride + 1)]", "generators/test_windows.py", ""),
    ("layout.py", "/ (middle + 1)", "/ (middle + 2)", "generators/test_windows.py", ""),
    ("generators/windows.py", "layout.weight() * maps / covered", "layout.weight() * maps / covered.mean()", "generators/test_windows.py", ""),
    ("generators/windows.py", "values.repeat_interleave(k, 2).repeat_interleave(k, 3)", "values.repeat_interleave(k, 2).repeat_interleave(k, 3) / k**2", "generators/test_windows.py", ""),
    ("generators/windows.py", "coverage += weights * layout.coverage(kept)", "coverage += layout.coverage(kept)", "generators/test_windows.py", ""),
    ("priors/windowed.py", "total / covered.clamp", "total / covered.mean().clamp", "generators/test_windows.py", ""),
    ("estimators/stein.py", "grad + (d - shared)", "grad", "estimators/test_csd_edit.py", ""),
    ("estimators/stein.py", "here = (batch.group == name)", "here = (batch.group >= name)", "estimators/test_csd_edit.py", ""),
    ("estimators/stein.py", "estimate.x_t if self.noised else batch.x", "batch.x", "estimators/test_csd_edit.py", "paper or released"),
    ("kernels.py", 'squared.median() if self.bandwidth == "paper"', 'squared[i, j].median() if self.bandwidth == "paper"', "estimators/test_csd_edit.py", "paper or released"),
    ("tasks/editing/detail.py", "RIDGE * whole[:, None, None]", "RIDGE * eye", "tasks/test_editing_parts.py", "gain or detail"),
    ("tasks/editing/detail.py", "made + strength * torch.einsum(\"boihw,bihw->bohw\", a, lost)", "made + strength * lost", "tasks/test_editing_parts.py", "detail"),
    ("tasks/editing/groups.py", "(torch.arange(1, o + 1) / (o + 1))", "(torch.arange(1, o + 1) / o)", "tasks/test_editing_parts.py", "fade"),
    ("tasks/editing/flow.py", "weight[k] += 0.5 * seen", "weight[k] += seen", "tasks/test_editing_parts.py", "static or over_time or shared or flow"),
    ("tasks/editing/regions.py", "masks / total.clamp(min=1e-6)", "masks", "tasks/test_editing_parts.py", "overlapping_regions"),
    ("tasks/edits/study.py", "math.sqrt(n[name])", "n[name]", "studies/test_editing.py", "differences"),
    ("metrics/edits.py", "frames[k] - warp(frames[k + 1], flow)", "frames[k] - frames[k + 1]", "metrics/test_edits.py", "warp_error"),
    ("motion.py", "x[None, :] + flow[0]", "x[None, :] - flow[0]", "media/test_motion.py", ""),
]  # fmt: skip


def fails(tree: Path, test: str, select: str) -> tuple[int, str]:
    """pytest's exit code for the selected tests in the copied tree (1: some fail), and the first that fails."""
    run = subprocess.run(
        [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", str(tree / "tests" / test), "-k", select],
        capture_output=True, text=True, cwd=tree, env={**os.environ, "PYTHONPATH": str(tree / "src")},
    )  # fmt: skip
    failed = [line.split(" - ")[0].split("/")[-1] for line in run.stdout.splitlines() if line.startswith("FAILED")]
    return run.returncode, failed[0] if failed else ""


def copied(folder: str) -> Path:
    """A copy of the sources and tests, whose tests do not check types."""
    tree = Path(folder)
    for part in ("src", "tests"):
        shutil.copytree(ROOT / part, tree / part, ignore=shutil.ignore_patterns("*.safetensors", "__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tree)
    conftest = tree / "tests" / "conftest.py"
    conftest.write_text(
        conftest.read_text().replace('install_import_hook("scoredistill"', 'install_import_hook("none"')
    )
    return tree


def checked(tree: Path, breakages: list[tuple[str, ...]]) -> None:
    """SystemExit unless each breakage applies once, and all tests pass on the tree as it is."""
    for name, right, *_ in breakages:
        if (count := (tree / "src/scoredistill" / name).read_text().count(right)) != 1:
            raise SystemExit(f"{name}: {right!r} stands there {count} times, not once")
    for test in sorted({test for _, _, _, test, _ in breakages}):
        selected = [select for _, _, _, of, select in breakages if of == test]
        code, by = fails(tree, test, "" if "" in selected else " or ".join(sorted(set(selected))))
        if code:
            raise SystemExit(f"{test} does not pass on the tree as it is ({by or code})")
        print(f"passes  {test}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=ROOT / "docs/results/breakages.json")
    parser.add_argument("--only", default="", help="break only files whose name contains this, and write nothing")
    options = parser.parse_args()
    breakages = [breakage for breakage in BREAKAGES if options.only in breakage[0]]
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, cwd=ROOT
    ).stdout.strip()
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        tree = copied(folder)
        checked(tree, breakages)
        for name, right, wrong, test, select in breakages:
            path = tree / "src/scoredistill" / name
            source = path.read_text()
            path.write_text(source.replace(right, wrong))
            code, by = fails(tree, test, select)
            path.write_text(source)
            caught = code == 1
            rows.append({"file": name, "right": right, "broken": wrong, "caught": caught, "by": by})
            print(f"{'caught' if caught else 'MISSED'}  {name}: {right}  ->  {wrong}  ({by or code})", flush=True)
    report = {
        "command": "python benchmarks/breakages.py",
        "commit": commit,
        "date": str(date.today()),
        "breakages": rows,
    }
    if not options.only:
        options.out.write_text(json.dumps(report, indent=2) + "\n")
    print(f"{sum(row['caught'] for row in rows)} of {len(rows)} were noticed")
    if not all(row["caught"] for row in rows):
        raise SystemExit("some breakages were not noticed")


if __name__ == "__main__":
    main()
