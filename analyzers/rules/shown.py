"""What a finding of each rule looks like, and what in the image it is seen by: for `enoent rules` and docs/rules.md.

A rule may also say both in its own row; what stands there wins.
"""

from __future__ import annotations

from typing import NamedTuple


class Shown(NamedTuple):
    """`example` is a message as a report has it; `evidence` names the parts of the image that decide."""

    example: str
    evidence: str


_LAYER_TAR = "members of the layer's tar"
_PASSWD = "User of the config; /etc/passwd and /etc/group of the merged layers"
_INTERP = "PT_INTERP of the program; paths of the merged layers"
_SCRIPT = "commands of the script and of what it runs; PATH of the config; paths of the merged layers"
_WRAPPED = "arguments of the wrapper; PATH of the config; paths of the merged layers"
_HEALTH = "Healthcheck of the config; paths of the merged layers"
_SEARCH = "DT_NEEDED, run paths, ld.so.cache or musl's path file, environment, paths of the merged layers"

SHOWN: dict[str, Shown] = {
    "config.no-command": Shown("no command specified", "Entrypoint and Cmd of the config"),
    "config.environment": Shown("error during container init: invalid environment variable: =x", "Env of the config"),
    "config.arguments-refused": Shown("exec /app: argument list too long", "Entrypoint, Cmd and Env of the config"),
    "config.working-dir-relative": Shown("Cwd must be an absolute path", "WorkingDir of the config"),
    "config.working-dir-unusable": Shown(
        "Cannot mkdir: /app is not a directory", "WorkingDir of the config; kinds of the paths in its way"
    ),
    "config.mismatch": Shown("The config contradicts the image: os linux, manifest says windows", "config and manifest"),
    "user.not-found": Shown("unable to find user nonroot: no matching entries in passwd file", _PASSWD),
    "user.group-not-found": Shown("unable to find group staff2: no matching entries in group file", _PASSWD),
    "user.out-of-range": Shown("unable to setup user: uids and gids must be in range 0-2147483647", "User of the config"),
    "user.files-unusable": Shown("openat etc/passwd: too many levels of symbolic links", "kinds of /etc/passwd and /etc/group"),
    "path.not-found": Shown(
        'exec: "server": executable file not found in $PATH',
        "first word of the command; PATH of the config; paths of the merged layers",
    ),
    "path.absent": Shown(
        'exec: "/app/server": stat /app/server: no such file or directory',
        "first word of the command; paths of the merged layers",
    ),
    "path.shell-absent": Shown(
        'exec: "/bin/sh": stat /bin/sh: no such file or directory',
        "Entrypoint or Cmd in shell form; no /bin/sh in the merged layers",
    ),
    "path.relative-element": Shown(
        'exec: "app": cannot run executable found relative to current directory', "PATH of the config; paths of the merged layers"
    ),
    "path.loop": Shown('exec: "/app": stat /app: too many levels of symbolic links', "targets of the symbolic links"),
    "path.directory-closed": Shown(
        'exec: "/opt/app/run": stat /opt/app/run: permission denied', "modes and owners of the directories; User of the config"
    ),
    "path.is-directory": Shown('exec: "/app": is a directory', "kind of the path"),
    "path.not-executable": Shown('exec: "/entrypoint.sh": permission denied', "mode of the file"),
    "file.capabilities-not-granted": Shown("exec /usr/bin/ping: operation not permitted", "security.capability of the file"),
    "script.no-interpreter-line": Shown("exec /entrypoint.sh: exec format error", "first bytes of the file"),
    "script.bad-interpreter-line": Shown("exec /entrypoint.sh: exec format error", "first 256 bytes of the file"),
    "script.crlf": Shown("exec /entrypoint.sh: no such file or directory", "carriage return at the end of the #! line"),
    "script.interpreter-absent": Shown("exec /entrypoint.sh: no such file or directory", "#! line; paths of the merged layers"),
    "script.interpreter-unusable": Shown("exec /entrypoint.sh: permission denied", "#! line; kind and mode of the interpreter"),
    "script.interpreter-is-text": Shown("exec /entrypoint.sh: exec format error", "#! line; first bytes of the interpreter"),
    "script.too-deep": Shown("exec /a: too many levels of symbolic links", "#! lines of the scripts"),
    "script.env-target-absent": Shown(
        "env: 'bash\\r': No such file or directory", "#! line; PATH of the config; paths of the merged layers"
    ),
    "script.closed-to-user": Shown(
        "/bin/sh: 0: cannot open /entrypoint.sh: Permission denied", "mode and owner of the script; User of the config"
    ),
    "script.absent": Shown(
        "/bin/sh: 0: cannot open /start.sh: No such file", "arguments of the shell; paths of the merged layers"
    ),
    "elf.wrong-architecture": Shown("exec /app: exec format error", "e_machine and class of the program; platform of the config"),
    "elf.malformed": Shown("exec /app: exec format error", "ELF header of the program"),
    "elf.bad-interp": Shown("exec /app: exec format error", "PT_INTERP of the program"),
    "elf.cannot-be-mapped": Shown("exec /app: invalid argument", "PT_LOAD headers and length of the program"),
    "elf.interpreter-absent": Shown("exec /app: no such file or directory", _INTERP),
    "elf.glibc-program-on-musl": Shown("exec /app: no such file or directory", _INTERP),
    "elf.musl-program-on-glibc": Shown("exec /app: no such file or directory", _INTERP),
    "elf.no-loader": Shown("exec /app: no such file or directory", _INTERP),
    "elf.interpreter-other-architecture": Shown("exec /app: no such file or directory", _INTERP),
    "elf.interpreter-elsewhere": Shown("exec /app: no such file or directory", _INTERP),
    "elf.interpreter-foreign-prefix": Shown("exec /app: no such file or directory", _INTERP),
    "elf.interpreter-unusable": Shown("exec /app: permission denied", "PT_INTERP; kind, mode and ELF header of the loader"),
    "load.library-absent": Shown(
        "/app: error while loading shared libraries: libdl.so.2: cannot open shared object file: No such file or directory",
        _SEARCH,
    ),
    "load.version-not-found": Shown(
        "/app: /lib/x86_64-linux-gnu/libc.so.6: version `GLIBC_2.38' not found (required by /app)",
        "DT_VERNEED of the object; DT_VERDEF of the library that is found",
    ),
    "load.symbol-not-found": Shown(
        "Error relocating /app: fcntl64: symbol not found", "undefined symbols and relocations; exports of all that is loaded"
    ),
    "load.wrong-architecture": Shown(
        "/app: error while loading shared libraries: libx.so: wrong ELF class: ELFCLASS32",
        "ELF header of the library that is found",
    ),
    "load.closed-to-user": Shown(
        "/app: error while loading shared libraries: libx.so: cannot open shared object file: Permission denied",
        "mode and owner of the library; User of the config",
    ),
    "load.refused": Shown(
        "/app: error while loading shared libraries: libx.so: cannot enable executable stack as shared object requires: "
        "Invalid argument",
        "what the loader checks of each object it maps",
    ),
    "load.cpu-level": Shown("/app: CPU ISA level is lower than required", "GNU property notes of the objects; the host profile"),
    "load.mixed-libc": Shown(
        "/app: error while loading shared libraries: libm.so.6: undefined symbol: __libc_x, version GLIBC_PRIVATE",
        "GLIBC_PRIVATE and release strings of the loader, libc.so.6 and its siblings",
    ),
    "load.crash": Shown("the process dies while it is loaded", "lengths and headers of the objects that are mapped"),
    "load.later-symbol": Shown(
        "undefined when first called: pcre2_match_8", "undefined functions bound lazily; exports of all that is loaded"
    ),
    "load.depends-on-cpu": Shown("Fatal glibc error: CPU does not support x86-64-v2", "GNU property notes of the objects"),
    "load.warning": Shown(
        "ERROR: ld.so: object 'libx.so' from LD_PRELOAD cannot be preloaded (cannot open shared object file): ignored.",
        "/etc/ld.so.preload, LD_PRELOAD of the config, version definitions",
    ),
    "layer.symlinked-parent": Shown(
        "A layer puts files under a symbolic link of a lower layer: lib is a link to usr/lib", _LAYER_TAR
    ),
    "layer.opaque-root": Shown("A layer asks to hide all that lies below it", "a whiteout named .wh..wh..opq at the root"),
    "layer.path-escape": Shown("A layer names paths above the root", _LAYER_TAR),
    "layer.duplicate-entry": Shown("A layer lists a path twice", _LAYER_TAR),
    "layer.ambiguous-name": Shown("A layer names one file in two ways", "PAX and GNU headers of the layer's tar"),
    "layer.global-pax": Shown("A layer has a global header that tools read differently", "global PAX headers of the layer's tar"),
    "layer.trailing-data": Shown("A layer has bytes after its end", "bytes behind the end of the tar"),
    "layer.dangling-hardlink": Shown("A hard link leads to nothing", _LAYER_TAR),
    "layer.media-type-mismatch": Shown(
        "A layer is compressed otherwise than it says: labelled gzip, is zstd", "first bytes and media type of the layer"
    ),
    "layer.odd": Shown("expansion ratio: 1048576 bytes become 1073741824", "what the reader noted of the layer"),
    "size.hidden-bytes": Shown("41.2 MB of this layer are hidden by later ones", "sizes and whiteouts of all layers"),
    "size.cache": Shown("19.9 MB: package lists of apt", "paths and sizes of the merged layers"),
    "size.build-tools": Shown("142.7 MB: GCC", "paths and sizes of the merged layers"),
    "size.headers": Shown("12.1 MB: C headers", "paths and sizes of the merged layers"),
    "size.static-libraries": Shown("8.4 MB: static libraries", "paths and sizes of the merged layers"),
    "size.version-control": Shown("30.5 MB: the history of a git repository", "paths and sizes of the merged layers"),
    "size.duplicate-files": Shown(
        "The same content stands at 2 paths; one would spare 24.3 MB", "content digests of the visible files"
    ),
    "image.not-wholly-read": Shown(
        "Not everything of the image was seen: layer 2: /opt/big: elf-too-large", "what the readers could not read"
    ),
    "shell.command-absent": Shown("/entrypoint.sh: 3: migrate: not found", _SCRIPT),
    "shell.command-not-executable": Shown("/entrypoint.sh: 3: /app: Permission denied", _SCRIPT),
    "shell.file-absent": Shown("/entrypoint.sh: 2: .: cannot open /etc/defaults: No such file", _SCRIPT),
    "shell.directory-absent": Shown("/entrypoint.sh: 2: cd: can't cd to /srv/app", _SCRIPT),
    "shell.wants-absent-command": Shown("/entrypoint.sh line 4: /entrypoint.sh: 4: curl: not found", _SCRIPT),
    "shell.gives-up": Shown("/entrypoint.sh ends with status 1 at line 7", _SCRIPT),
    "shell.may-fail": Shown("/entrypoint.sh line 9: /entrypoint.sh: 9: psql: not found", _SCRIPT),
    "wrapper.command-absent": Shown("[FATAL tini (7)] exec server failed: No such file or directory", _WRAPPED),
    "wrapper.command-not-executable": Shown("[FATAL tini (7)] exec /app failed: Permission denied", _WRAPPED),
    "wrapper.user-absent": Shown(
        'error: failed switching to "app": unable to find user app: no matching entries in passwd file',
        "arguments of the wrapper; /etc/passwd and /etc/group",
    ),
    "wrapper.user-not-permitted": Shown(
        'error: failed switching to "app": operation not permitted', "arguments of the wrapper; User of the config"
    ),
    "health.command-absent": Shown("curl: not found", _HEALTH),
    "health.fails": Shown('exec: "/check": permission denied', _HEALTH),
    "supervisor.command-unusable": Shown(
        "program:web: can't find command '/usr/bin/gunicorn'",
        "supervisord's configuration files; PATH; paths of the merged layers",
    ),
    "load.host-library": Shown("libcuda.so.1 is not in the image: the host's driver brings it", _SEARCH),
    "load.dlopen-required-absent": Shown(
        "libsystemd.so.0 is required and not in the image", f".note.dlopen of the start chain; {_SEARCH}"
    ),
    "load.dlopen-absent": Shown(
        "libbpf.so.1 is suggested for bpf and not in the image", f".note.dlopen of the start chain; {_SEARCH}"
    ),
    "health.shell-absent": Shown("/bin/sh: no such file or directory", _HEALTH),
    "size.unstripped": Shown("18.3 MB: debug information and symbols", "section and program headers of ELF files"),
}
