"""Bare matrices (n, d), places unknown: `.npy`, and `.pt` as CLAM writes it. Nothing is unpickled."""

import numpy as np
import torch

from slidesieve.features.formats.asked import Asked, Found, check_is_of_tiles, check_no_part


def read_npy(asked: Asked) -> Found:
    check_no_part(asked)
    path = asked.path
    try:
        x = np.load(path, mmap_mode="r", allow_pickle=False)  # mapped: no more than the file holds
    except Exception as error:  # a damaged header raises anything
        remedy = "copy it again"
        if "pickle" in str(error) or "Python objects" in str(error):
            code = f'np.save("new.npy", np.load("{path.name}", allow_pickle=True).item()["feature"])'
            remedy = f"a pickled dict can run code when loaded; if you trust its source, convert it once: {code}"
        raise ValueError(f"{path}: not a plain array ({error}); {remedy}") from error
    if not isinstance(x, np.ndarray) or x.dtype.kind != "f":
        got = f"array of {x.dtype}" if isinstance(x, np.ndarray) else "an archive of arrays"
        raise ValueError(f"{path}: {got}; expected features (n, d) of floating point; write it again")
    check_is_of_tiles(asked, x.shape, {})
    return Found(np.array(x), None, {})


def read_pt(asked: Asked) -> Found:
    check_no_part(asked)
    path = asked.path
    try:
        x = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a cut or foreign pickle raises anything
        raise ValueError(
            f"{path}: not a plain tensor ({type(error).__name__}); expected features (n, d); copy it again; or, if it "
            'holds more and you trust its source, load it once with weights_only=False and torch.save(x, "new.pt")'
        ) from error
    if not isinstance(x, torch.Tensor) or not x.is_floating_point():
        got = str(x.dtype) if isinstance(x, torch.Tensor) else f"a {type(x).__name__}"
        got += f" of {', '.join(map(str, x))}" if isinstance(x, dict) else ""
        raise ValueError(f"{path}: holds {got}; expected one tensor of features (n, d); save it alone")
    size = path.stat().st_size
    if x.layout != torch.strided or x.is_meta or x.numel() * x.element_size() > size:
        raise ValueError(
            f"{path}: a tensor {tuple(x.shape)} of {x.dtype} in {size:,} bytes; expected every value of features "
            "(n, d) in the file; save it dense, on the CPU, as x.contiguous()"
        )
    check_is_of_tiles(asked, tuple(x.shape), {})
    return Found(x.detach().float().numpy(), None, {})
