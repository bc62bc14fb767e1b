"""Small versions of networks that people use on sounds, with random weights."""

from __future__ import annotations

import itertools

import torch
from torch import Tensor, nn
from torch.nn import functional


class Cnn14(nn.Module):
    """PANNs' Cnn14 (doi:10.1109/TASLP.2020.3030497): pairs of 3 x 3 convolutions over (frames, bands)."""

    def __init__(self, widths: tuple[int, ...] = (4, 8, 8), n_classes: int = 5, n_bands: int = 32) -> None:
        super().__init__()
        self.bn0 = nn.BatchNorm2d(n_bands)
        pairs = zip((1, *widths), widths, strict=False)
        self.conv_block = nn.ModuleList(
            nn.ModuleDict(
                {
                    "conv1": nn.Conv2d(before, width, 3, padding=1, bias=False),
                    "conv2": nn.Conv2d(width, width, 3, padding=1, bias=False),
                    "bn1": nn.BatchNorm2d(width),
                    "bn2": nn.BatchNorm2d(width),
                }
            )
            for before, width in pairs
        )
        self.fc1 = nn.Linear(widths[-1], 16)
        self.fc_audioset = nn.Linear(16, n_classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.bn0(x.transpose(1, 3)).transpose(1, 3)
        for block in self.conv_block:
            x = functional.relu_(block["bn1"](block["conv1"](x)))
            x = functional.relu_(block["bn2"](block["conv2"](x)))
            x = functional.dropout(functional.avg_pool2d(x, 2), 0.2, training=self.training)
        x = x.mean(dim=3)
        x = x.max(dim=2).values + x.mean(dim=2)
        return torch.sigmoid(self.fc_audioset(functional.relu_(self.fc1(x))))


class Residual(nn.Module):
    """A residual block, or its pre-activation form (doi:10.1007/978-3-319-46493-0_38)."""

    def __init__(self, before: int, width: int, *, stride: int = 1, pre: bool = False) -> None:
        super().__init__()
        self.pre = pre
        self.conv1 = nn.Conv1d(before, width, 3, stride=stride, padding=1, bias=False)
        self.conv2 = nn.Conv1d(width, width, 3, padding=1, bias=False)
        self.bn1, self.bn2 = nn.BatchNorm1d(before if pre else width), nn.BatchNorm1d(width)
        same = stride == 1 and before == width
        self.downsample = None if same else nn.Conv1d(before, width, 1, stride=stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        aside = x if self.downsample is None else self.downsample(x)
        if self.pre:
            x = self.conv1(functional.relu(self.bn1(x)))
            out: Tensor = aside + self.conv2(functional.relu(self.bn2(x)))
            return out
        x = functional.relu(self.bn1(self.conv1(x)))
        return functional.relu(aside + self.bn2(self.conv2(x)))


class Res1dNet31(nn.Module):
    """PANNs' Res1dNet31 on waveforms, two blocks of it."""

    def __init__(self, n_classes: int = 5, *, pre: bool = False) -> None:
        super().__init__()
        self.conv0 = nn.Conv1d(1, 8, 11, stride=5, padding=5, bias=False)
        self.bn0 = nn.BatchNorm1d(8)
        self.layer1 = Residual(8, 8, pre=pre)
        self.layer2 = Residual(8, 12, stride=4, pre=pre)
        self.fc = nn.Linear(12, n_classes)

    def forward(self, x: Tensor) -> Tensor:
        x = functional.relu(self.bn0(self.conv0(x)))
        x = functional.max_pool1d(self.layer1(x), 4)
        x = self.layer2(x)
        out: Tensor = self.fc(x.max(dim=2).values + x.mean(dim=2))
        return out


def m_network(n_convolutions: int, n_classes: int = 5) -> nn.Module:
    """Build M5 or M11 (doi:10.1109/ICASSP.2017.7952190) in small: a long first filter, then groups of short ones."""
    stages: list[nn.Module] = [nn.Conv1d(1, 8, 80, stride=4), nn.BatchNorm1d(8), nn.ReLU(), nn.MaxPool1d(4)]
    groups = {5: (1, 1, 1), 11: (2, 2, 3, 2)}[n_convolutions]
    width = 8
    for k, n in enumerate(groups):
        for _ in range(n):
            wider = 8 * (k + 1)
            stages += [nn.Conv1d(width, wider, 3, padding=1), nn.BatchNorm1d(wider), nn.ReLU()]
            width = wider
        if k < len(groups) - 1:
            stages.append(nn.MaxPool1d(2))
    return nn.Sequential(*stages, nn.AdaptiveAvgPool1d(1), nn.Flatten(), nn.Linear(width, n_classes), nn.LogSoftmax(1))


class SincConv(nn.Module):
    """SincNet's first layer (doi:10.1109/SLT.2018.8639585): band-passes with learned edges, by a functional call."""

    def __init__(self, n_filters: int = 6, taps: int = 51, rate: int = 8_000) -> None:
        super().__init__()
        edges = torch.linspace(100, 3_000, n_filters + 1)
        self.low_hz_ = nn.Parameter(edges[:-1, None])
        self.band_hz_ = nn.Parameter(edges.diff()[:, None])
        self.register_buffer("time", (torch.arange(taps) - taps // 2)[None] / rate)
        self.register_buffer("window", torch.hamming_window(taps, periodic=False))
        self.rate = rate

    def forward(self, x: Tensor) -> Tensor:
        low, high = self.low_hz_.abs(), self.low_hz_.abs() + self.band_hz_.abs()
        passes = [2 * f / self.rate * torch.sinc(2 * f * self.time) for f in (high, low)]
        return functional.conv1d(x, ((passes[0] - passes[1]) * self.window)[:, None], padding=self.window.numel() // 2)


class SincNet(nn.Module):
    """SincNet in small."""

    def __init__(self, n_classes: int = 5) -> None:
        super().__init__()
        self.sinc = SincConv()
        self.conv = nn.Conv1d(6, 8, 5)
        self.norm = nn.LayerNorm(8)
        self.fc = nn.Linear(8, n_classes)

    def forward(self, x: Tensor) -> Tensor:
        x = functional.leaky_relu(functional.max_pool1d(self.sinc(x).abs(), 3), 0.2)
        x = functional.leaky_relu(functional.max_pool1d(self.conv(x), 3), 0.2)
        out: Tensor = self.fc(self.norm(x.mean(dim=2)))
        return out


class Crnn(nn.Module):
    """A convolutional recurrent network on log-mel spectrograms."""

    def __init__(self, n_classes: int = 5, n_bands: int = 32) -> None:
        super().__init__()
        self.conv = nn.Sequential(nn.Conv2d(1, 6, 3, padding=1), nn.BatchNorm2d(6), nn.ReLU(), nn.MaxPool2d((4, 1)))
        self.gru = nn.GRU(6 * n_bands // 4, 10, batch_first=True, bidirectional=True)
        self.fc = nn.Linear(20, n_classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x).flatten(1, 2).transpose(1, 2)
        states, _ = self.gru(x)
        out: Tensor = self.fc(states.mean(dim=1))
        return out


class Crepe(nn.Module):
    """CREPE (doi:10.1109/ICASSP.2018.8461329) in its tiny form; frames (n, 1, 1024) of mean 0 and SD 1 at 16 kHz."""

    def __init__(self) -> None:
        super().__init__()
        widths = (1, 128, 16, 16, 16, 32, 64)
        for k, (before, width) in enumerate(itertools.pairwise(widths), start=1):
            kernel, stride = ((512, 1), (4, 1)) if k == 1 else ((64, 1), (1, 1))
            self.add_module(f"conv{k}", nn.Conv2d(before, width, kernel, stride=stride))
            self.add_module(f"conv{k}_BN", nn.BatchNorm2d(width, eps=0.001))
        self.classifier = nn.Linear(256, 360)

    def forward(self, x: Tensor) -> Tensor:
        x = x[..., None]
        for k in range(1, 7):
            x = functional.pad(x, (0, 0, 254, 254) if k == 1 else (0, 0, 31, 32))
            x = self.get_submodule(f"conv{k}_BN")(functional.relu(self.get_submodule(f"conv{k}")(x)))
            x = functional.max_pool2d(x, (2, 1), (2, 1))
        return torch.sigmoid(self.classifier(x.permute(0, 2, 1, 3).reshape(-1, 256)))
