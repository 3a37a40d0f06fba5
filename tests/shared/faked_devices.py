"""Devices that are not here, as ``devices.this`` would describe them."""

from a3mini.train.devices import Device

# kind, memory and capability as PyTorch reports them
DEVICES = {
    "T4": Device("cuda", "Tesla T4", 15_835_660_288, (7, 5)),
    "L4": Device("cuda", "NVIDIA L4", 23_580_639_232, (8, 9)),
    "A100": Device("cuda", "NVIDIA A100-SXM4-40GB", 42_298_834_944, (8, 0)),
    "H100": Device("cuda", "NVIDIA H100 80GB HBM3", 85_017_493_504, (9, 0)),
    "MPS": Device("mps", "Apple GPU", 11_453_251_584),
    "CPU": Device("cpu", "CPU", 13_000_000_000, native_bf16=True),
    "old CPU": Device("cpu", "CPU", 13_000_000_000),
}
