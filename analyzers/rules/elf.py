"""The program as the kernel sees it, and its loader."""

from __future__ import annotations

from analyzers.finding import Reason, Severity
from analyzers.rules.rule import Rule

_F = Severity.FATAL

TABLE = (
    Rule(
        "elf.wrong-architecture",
        _F,
        "The program is for another machine",
        "The kernel takes only its own machine's programs, and those of its 32 bit sibling where it has one.",
        "Build for the image's platform, or label the image with the platform it is for.",
        "K12, K20",
        Reason.ARCHITECTURE,
    ),
    Rule(
        "elf.malformed",
        _F,
        "The program's headers are refused",
        "The kernel checks type, program header size and count, and that the table lies within the file.",
        "Build or copy the file again: it is damaged, or no program.",
        "K12",
    ),
    Rule(
        "elf.bad-interp",
        _F,
        "The program's PT_INTERP is refused",
        "It must be 2 to 4096 bytes, within the file, and end in a NUL.",
        "Link the program again.",
        "K14",
    ),
    Rule(
        "elf.cannot-be-mapped",
        _F,
        "The kernel cannot map the program",
        "Its segments contradict each other, lie beyond the end of the file, or it is a library with no entry point.",
        "Build or copy the file again: it is truncated, or no program.",
        "K17, K18",
    ),
    Rule(
        "elf.interpreter-absent",
        _F,
        "The program's loader is not in the image",
        "The program is dynamically linked. The kernel reports its missing loader as if the program were missing.",
        "Use a base image that has this loader, or link the program statically.",
        "K15",
        Reason.INTERPRETER_ABSENT,
    ),
    Rule(
        "elf.glibc-program-on-musl",
        _F,
        "A glibc program in a musl image",
        "The program was linked against glibc; the image has musl's loader, which is another file at another path.",
        "Build in an image of the same family, link statically, or use a base with glibc.",
        "K15, A1",
        Reason.INTERPRETER_ABSENT,
    ),
    Rule(
        "elf.musl-program-on-glibc",
        _F,
        "A musl program in a glibc image",
        "The program was linked against musl; the image has glibc's loader, which is another file at another path.",
        "Build in an image of the same family, or link statically.",
        "K15, A1",
        Reason.INTERPRETER_ABSENT,
    ),
    Rule(
        "elf.no-loader",
        _F,
        "A dynamic program in an image without any loader",
        "Nothing in the image can load shared libraries: it was made for static programs only.",
        "Link the program statically, or use a base with the libc it was linked against.",
        "K15",
        Reason.INTERPRETER_ABSENT,
    ),
    Rule(
        "elf.interpreter-other-architecture",
        _F,
        "The image's loader is for another machine",
        "The program wants the loader of its own machine; the image has only another machine's.",
        "Build the program for the machine of the base image, or the other way round.",
        "K15, A1",
        Reason.ARCHITECTURE,
    ),
    Rule(
        "elf.interpreter-elsewhere",
        _F,
        "The program's loader stands at another path",
        "PT_INTERP is a fixed path; the same loader lies elsewhere in the image.",
        "Link the program with the path of this image, patchelf --set-interpreter, or add a symbolic link.",
        "K14, K15",
        Reason.INTERPRETER_ABSENT,
    ),
    Rule(
        "elf.interpreter-foreign-prefix",
        _F,
        "The program's loader is in a prefix that the image does not have",
        "It was built by a package manager that keeps its own loader (Nix, Guix, Homebrew), which was not copied along.",
        "Copy the whole closure, or patchelf --set-interpreter to the image's own loader.",
        "K15, A2",
        Reason.INTERPRETER_ABSENT,
    ),
    Rule(
        "elf.interpreter-unusable",
        _F,
        "The program's loader cannot be used",
        "It is not executable, no ELF file, or for another machine.",
        "Restore the loader from the base image's package.",
        "K15, K16, K17",
        Reason.INTERPRETER_ABSENT,
    ),
)  # fmt: skip
