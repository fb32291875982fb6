"""The same training step in eager PyTorch, written from the published equations; `benchmarks.step_vs_torch` starts it.

ResNet-18 encoder, U-Net decoder, pose network on frame pairs, bilinear synthesis by `grid_sample`, SSIM by average
pooling, minimum reprojection, auto-mask and smoothness at four scales, Adam. The unwarped views' error is computed once
for all scales, as in ours.
"""

import argparse
import itertools
from collections.abc import Callable

import torch
from torch import nn
from torch.nn import functional

from benchmarks.step_inputs import (
    LEARNING_RATE,
    MAX_DEPTH,
    MIN_DEPTH,
    SCALES,
    SMOOTHNESS,
    SSIM_SHARE,
    draw,
    worker,
)


class Block(nn.Module):
    """Residual block of two 3x3 convolutions."""

    def __init__(self, inputs: int, width: int, stride: int):
        super().__init__()
        self.conv1, self.norm1 = nn.Conv2d(inputs, width, 3, stride, 1, bias=False), nn.BatchNorm2d(width)
        self.conv2, self.norm2 = nn.Conv2d(width, width, 3, 1, 1, bias=False), nn.BatchNorm2d(width)
        self.shortcut = nn.Identity()
        if inputs != width:
            self.shortcut = nn.Sequential(nn.Conv2d(inputs, width, 1, stride, bias=False), nn.BatchNorm2d(width))

    def forward(self, x):
        y = functional.relu(self.norm1(self.conv1(x)), inplace=True)
        return functional.relu(self.norm2(self.conv2(y)) + self.shortcut(x), inplace=True)


class Encoder(nn.Module):
    """ResNet-18 over `views` stacked images: features at strides 2 to 32."""

    def __init__(self, views: int = 1):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3 * views, 64, 7, 2, 3, bias=False), nn.BatchNorm2d(64), nn.ReLU(True))
        widths = (64, 64, 128, 256, 512)
        self.stages = nn.ModuleList(
            nn.Sequential(Block(before, width, 1 if i == 0 else 2), Block(width, width, 1))
            for i, (before, width) in enumerate(itertools.pairwise(widths))
        )

    def forward(self, image):
        features = [self.stem((image - 0.45) / 0.225)]
        x = functional.max_pool2d(features[0], 3, 2, 1)
        for stage in self.stages:
            x = stage(x)
            features.append(x)
        return features


class Conv(nn.Sequential):
    def __init__(self, inputs: int, width: int):
        super().__init__(nn.ReflectionPad2d(1), nn.Conv2d(inputs, width, 3))


class DepthNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.encoder, widths, skips = Encoder(), (16, 32, 64, 128, 256), (0, 64, 64, 128, 256)
        inputs = (*widths[1:], 512)
        self.up = nn.ModuleList(Conv(inputs[k], widths[k]) for k in range(5))
        self.merge = nn.ModuleList(Conv(widths[k] + skips[k], widths[k]) for k in range(5))
        self.heads = nn.ModuleList(Conv(widths[k], 1) for k in range(SCALES))

    def forward(self, image):
        features, disparities = self.encoder(image), []
        x = features[-1]
        for level in reversed(range(5)):
            x = functional.interpolate(functional.elu(self.up[level](x), inplace=True), scale_factor=2, mode="nearest")
            if level > 0:
                x = torch.cat([x, features[level - 1]], 1)
            x = functional.elu(self.merge[level](x), inplace=True)
            if level < SCALES:
                disparities.append(torch.sigmoid(self.heads[level](x))[:, 0])
        return disparities[::-1]


class PoseNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.encoder = Encoder(views=2)
        self.head = nn.Sequential(
            *(nn.Conv2d(512, 256, 1), nn.ReLU(True), nn.Conv2d(256, 256, 3, 1, 1), nn.ReLU(True)),
            *(nn.Conv2d(256, 256, 3, 1, 1), nn.ReLU(True), nn.Conv2d(256, 6, 1)),
        )

    def forward(self, first, second):
        return 0.01 * self.head(self.encoder(torch.cat([first, second], 1))[-1]).mean((2, 3))


def motion(vector):
    """Rodrigues' formula: axis-angle and translation to rotation and translation."""
    axis, translation = vector[:, :3], vector[:, 3:]
    angle = axis.norm(dim=1)[:, None, None].clamp_min(1e-8)
    x, y, z = axis.unbind(1)
    zero = torch.zeros_like(x)
    cross = torch.stack([zero, -z, y, z, zero, -x, -y, x, zero], 1).reshape(-1, 3, 3)
    eye = torch.eye(3, device=vector.device)
    return eye + torch.sin(angle) / angle * cross + (1 - torch.cos(angle)) / angle**2 * cross @ cross, translation


def inverse(rotation, translation):
    return rotation.mT, -(rotation.mT @ translation[:, :, None])[:, :, 0]


class Loss:
    def __init__(self, camera: tuple[float, float, float, float], height: int, width: int, device: str):
        fx, fy, cx, cy = camera
        y, x = torch.meshgrid(torch.arange(height) * 1.0, torch.arange(width) * 1.0, indexing="ij")
        self.rays = torch.stack([(x - cx) / fx, (y - cy) / fy, torch.ones_like(x)]).reshape(3, -1).to(device)
        self.matrix = torch.tensor([[fx, 0, cx], [0, fy, cy], [0, 0, 1]], device=device)
        self.size, self.last = (height, width), torch.tensor([width - 1, height - 1], device=device)[:, None]

    def synthesise(self, source, depth, rotation, translation):
        points = rotation @ (depth.flatten(1)[:, None] * self.rays) + translation[:, :, None]
        pixels = self.matrix @ points
        grid = 2 * (pixels[:, :2] / (pixels[:, 2:] + 1e-7)) / self.last - 1
        grid = grid.reshape(-1, 2, *self.size).permute(0, 2, 3, 1)
        return functional.grid_sample(source, grid, padding_mode="border", align_corners=True)

    @staticmethod
    def error(target, view):
        a, b = (functional.pad(image, (1, 1, 1, 1), mode="reflect") for image in (target, view))
        mean = lambda image: functional.avg_pool2d(image, 3, 1)  # noqa: E731
        mean_a, mean_b = mean(a), mean(b)
        var_a, var_b, cov = mean(a * a) - mean_a**2, mean(b * b) - mean_b**2, mean(a * b) - mean_a * mean_b
        above = (2 * mean_a * mean_b + 0.01**2) * (2 * cov + 0.03**2)
        below = (mean_a**2 + mean_b**2 + 0.01**2) * (var_a + var_b + 0.03**2)
        dissimilarity = ((1 - above / below) / 2).clamp(0, 1)
        return (SSIM_SHARE * dissimilarity + (1 - SSIM_SHARE) * (target - view).abs()).mean(1, keepdim=True)

    @staticmethod
    def smoothness(disparity, image):
        disparity = disparity[:, None] / (disparity.mean((1, 2))[:, None, None, None] + 1e-7)
        edges_x = (image[..., 1:] - image[..., :-1]).abs().mean(1, keepdim=True)
        edges_y = (image[..., 1:, :] - image[..., :-1, :]).abs().mean(1, keepdim=True)
        along_x = (disparity[..., 1:] - disparity[..., :-1]).abs() * torch.exp(-edges_x)
        along_y = (disparity[..., 1:, :] - disparity[..., :-1, :]).abs() * torch.exp(-edges_y)
        return along_x.mean() + along_y.mean()

    def __call__(self, disparities, motions, target, sources):
        still = torch.cat([self.error(target, source) for source in sources], 1).amin(1)
        still = still + 1e-5 * torch.randn_like(still)
        total = 0.0
        for scale, disparity in enumerate(disparities):
            full = functional.interpolate(disparity[:, None], self.size, mode="bilinear", align_corners=False)[:, 0]
            depth = 1 / (1 / MAX_DEPTH + (1 / MIN_DEPTH - 1 / MAX_DEPTH) * full)
            views = (self.synthesise(s, depth, *m) for s, m in zip(sources, motions, strict=True))
            errors = torch.cat([self.error(target, view) for view in views], 1).amin(1)
            guide = functional.interpolate(target, disparity.shape[1:], mode="area")
            smooth = self.smoothness(disparity, guide)
            total = total + torch.minimum(errors, still).mean() + SMOOTHNESS * smooth / 2**scale
        return total / len(disparities)


def tensors(options: argparse.Namespace):
    inputs, device = draw(options.batch, options.height, options.width), options.device
    images = [torch.from_numpy(image).movedim(-1, 1).contiguous().to(device) for image in inputs.images]
    disparities = [torch.from_numpy(d).to(device).requires_grad_() for d in inputs.disparities]
    vectors = [torch.from_numpy(v).to(device).requires_grad_() for v in inputs.vectors]
    return images, disparities, vectors, Loss(inputs.camera, options.height, options.width, device)


def loss_part(options: argparse.Namespace) -> Callable[[], torch.Tensor]:
    (target, *sources), disparities, vectors, loss_fn = tensors(options)

    def run() -> torch.Tensor:
        loss = loss_fn(disparities, [motion(vector) for vector in vectors], target, sources)
        torch.autograd.grad(loss, [*disparities, *vectors])
        return loss.detach()

    return run


def inference_part(options: argparse.Namespace) -> Callable[[], torch.Tensor]:
    options.batch = 1
    (image, *_), *_ = tensors(options)
    network = DepthNet().eval().to(options.device)

    @torch.inference_mode()
    def run() -> torch.Tensor:
        return network(image)[0].mean()

    return run


def step_part(options: argparse.Namespace) -> Callable[[], torch.Tensor]:
    (target, previous, following), _, _, loss_fn = tensors(options)
    depth_net, pose_net = DepthNet().to(options.device), PoseNet().to(options.device)
    parameters = [*depth_net.parameters(), *pose_net.parameters()]
    optimizer = torch.optim.Adam(parameters, LEARNING_RATE, fused=options.compile)
    half = torch.autocast(options.device, torch.bfloat16, enabled=options.dtype == "bfloat16")

    def forward() -> torch.Tensor:
        with half:
            vectors = pose_net(torch.cat([previous, target]), torch.cat([target, following]))
            disparities = depth_net(target)
        from_previous, to_next = vectors.float().split(target.shape[0])
        motions = [inverse(*motion(from_previous)), motion(to_next)]
        return loss_fn([d.float() for d in disparities], motions, target, [previous, following])

    if options.compile:
        forward = torch.compile(forward)

    def run() -> torch.Tensor:
        loss = forward()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss.detach()

    return run


if __name__ == "__main__":
    worker(lambda options: {"loss": loss_part, "inference": inference_part, "step": step_part}[options.part](options))
