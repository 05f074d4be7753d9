"""The host profile: facts that are not in the image and on which the verdict depends (loader.md section 0)."""

from __future__ import annotations

import msgspec


class HostProfile(msgspec.Struct, frozen=True):
    """The runtime, kernel and CPU an image is judged for. The defaults are decisions.md 12."""

    engine: str = "docker"
    engine_version: tuple[int, int] = (26, 1)
    runc_version: tuple[int, int] = (1, 1)
    kernel: tuple[int, int] = (5, 10)
    page_size: int = 4096
    x86_level: int = 3
    """x86-64 micro-architecture level of the CPU: 1 to 4."""
    ia32: bool = True
    """Whether an x86-64 kernel runs i386 programs."""
    aarch32: bool = False
    """Whether an arm64 host runs 32-bit arm programs."""
    emulated: tuple[str, ...] = ()
    """OCI architectures run through binfmt_misc with the F flag (K22)."""
    host_architecture: str = ""
    """OCI architecture of the host; empty means the platform of the image."""
    dac_override: bool = True
    """Whether the runtime gives CAP_DAC_OVERRIDE to the first exec, as Docker does by default (C13)."""

    @property
    def bare_parents(self) -> bool:
        """Whether directories that a layer implies and does not list lose the owner and mode of the layers below: so Docker's
        overlay2 driver has it, and not containerd, in which Docker keeps images since 29.
        """
        return self.engine == "docker" and self.engine_version < (29, 0)

    @property
    def exec_failure_exit(self) -> int:
        """Exit status of a container whose execve failed (C15): 1 before runc 1.2, 255 since."""
        return 1 if self.runc_version < (1, 2) else 255

    def __str__(self) -> str:
        """One line for people and for the report's key."""
        engine = f"{self.engine} {self.engine_version[0]}.{self.engine_version[1]}"
        parts = [
            engine,
            f"runc {self.runc_version[0]}.{self.runc_version[1]}",
            f"kernel {self.kernel[0]}.{self.kernel[1]}",
            f"{self.page_size} byte pages",
            f"x86-64-v{self.x86_level}",
        ]
        if not self.ia32:
            parts.append("no ia32")
        if self.aarch32:
            parts.append("aarch32")
        if self.emulated:
            parts.append("emulates " + ",".join(self.emulated))
        if self.host_architecture:
            parts.append("on " + self.host_architecture)
        if not self.dac_override:
            parts.append("all capabilities dropped")
        return ", ".join(parts)


DEFAULT_PROFILE = HostProfile()
