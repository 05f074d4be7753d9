"""Libraries that images need and must not have: the host's driver comes with them when a container starts.

The list is that of NVIDIA's container toolkit (libnvidia-container, src/nvc_info.c), which mounts the driver's libraries into
containers that ask for a GPU, and names them to the container's ld.so.cache. It does nothing for musl. Libraries that Mesa
brings too (libGL.so.1, libEGL.so.1) are not in it: an image has its own.
"""

from __future__ import annotations

import re

DRIVER = "NVIDIA container toolkit"

_NVIDIA = (
    "allocator api cbl cfg compiler egl-gbm egl-wayland egl-xcb egl-xlib eglcore encode fatbinaryloader fbc glcore glsi "
    "glvkspirv gpucomp ifr ml ngx nscq nvvm opencl opticalflow pkcs11 pkcs11-openssl3 present ptxjitcompiler rtcore sandboxutils "
    "tls vulkan-producer wayland-client"
).replace(" ", "|")
_NAME = re.compile(
    rf"lib(?:cuda|cudadebugger|nvcuvid|nvoptix|dxcore|vdpau_nvidia|(?:GLX|EGL|GLESv1_CM|GLESv2)_nvidia|nvidia-(?:{_NVIDIA}))"
    r"\.so(?:\.\d+)*".encode()
)
_MEANT = (b"/compat/", b"/stubs/", b"cuda-compat")
"""Places of CUDA's own packages: for newer CUDA on older drivers, and for linking."""


def brought_by_host(name: bytes) -> bool:
    """Whether a library of that name, without directories, is the host's to bring."""
    return _NAME.fullmatch(name) is not None


def in_the_way(path: bytes) -> bool:
    """Whether a driver's library at this path of the image stands in the way of the host's."""
    return not any(place in b"/" + path for place in _MEANT)


def assumption(name: str) -> str:
    """The words of a report that relies on it."""
    return f"{name} is brought by the host's driver ({DRIVER})."
