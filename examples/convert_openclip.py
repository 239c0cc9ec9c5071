"""Convert an OpenCLIP checkpoint's pickled weights, once: python convert_openclip.py open_clip_pytorch_model.bin"""

import sys
from pathlib import Path

import safetensors.torch
import torch

pickled = Path(sys.argv[1])
weights = torch.load(pickled, map_location="cpu", weights_only=True)  # refuses whatever is no tensor
weights = weights.get("state_dict", weights)  # as training leaves them
safetensors.torch.save_file(
    {name.removeprefix("module."): tensor.clone().contiguous() for name, tensor in weights.items()},
    pickled.with_name("open_clip_model.safetensors"),
)
