"""Images whose first program is a shell, a script or a wrapper, and whose real one comes later or never."""

from __future__ import annotations

from typing import NamedTuple

from analyzers.facts import Kind
from tests.fleet import programs
from tests.fleet.image import base_tar
from tests.make import roots
from tests.make.images import Image
from tests.make.layers import Item, file, folder, program, symlink, tar_of

SH, BASH = "#!/bin/sh\n", "#!/bin/bash\n"


class ScriptImage(NamedTuple):
    """One image. `text` is /entrypoint; `app` is the program that says hello, for whichever C library the base has."""

    id: str
    base: str
    text: str = ""
    cmd: tuple[str, ...] = ()
    files: dict[str, Item] = {}
    entrypoint: tuple[str, ...] | None = ("/entrypoint",)
    tools: tuple[str, ...] = ()
    """Programs of this machine that are added."""
    env: tuple[str, ...] | None = None
    user: str | None = None
    working_dir: str | None = None
    app: bool = True

    def image(self) -> Image:
        """Raises elves.ToolAbsent."""
        items: dict[str, Item] = {**self.files}
        if self.text:
            items["entrypoint"] = Item(Kind.FILE, self.text.encode(), 0o755)
        if self.app:
            items["usr/local/bin/app"] = program(programs.hello("-static"))
        for path in self.tools:
            items.update(roots.machine(path))
        return Image(
            layers=(base_tar(self.base), tar_of(items)),
            entrypoint=self.entrypoint,
            cmd=self.cmd or None,
            env=self.env,
            user=self.user,
            working_dir=self.working_dir,
        )


def script(text: str, mode: int = 0o755) -> Item:
    return file(text, mode)


def _i(id: str, base: str, text: str = "", *cmd: str, **more: object) -> ScriptImage:
    return ScriptImage(id, base, text, cmd, **more)  # type: ignore[arg-type]


DEBIAN, ALPINE, BUSYBOX = "debian", "alpine", "busybox"
_REDIS = """set -e
# first arg is `-f` or `--some-option`
# or first arg is `something.conf`
if [ "${1#-}" != "$1" ] || [ "${1%.conf}" != "$1" ]; then
	set -- app "$@"
fi
# allow the container to be started with `--user`
if [ "$1" = 'app' -a "$(id -u)" = '0' ]; then
	exec gosu app "$0" "$@"
fi
exec "$@"
"""
_PARTS = """for f in /docker-entrypoint.d/*; do
    case "$f" in
        *.sh)
            if [ -x "$f" ]; then
                "$f"
            else
                . "$f"
            fi
            ;;
        *) ;;
    esac
done
exec "$@"
"""
_THREE = (("dash", DEBIAN, SH), ("bash", DEBIAN, BASH), ("ash", ALPINE, SH), ("ash_1_35", BUSYBOX, SH))


def _of_every_shell() -> list[ScriptImage]:
    """What shells say in their own words each."""
    texts = {
        "exec_nothing": 'exec nope "$@"\n',
        "last_command_absent": "true\nnope\n",
        "exec_arguments": 'set -eu\nexec "$@"\n',
        "goes_on_without": "nope\nexec app\n",
        "ends_without": "set -e\nif true; then\n  nope\nfi\nexec app\n",
        "path_absent": "exec /opt/nope --x\n",
        "not_executable": "exec /data\n",
        "interpreter_absent": "/odd\n",
        "sourced_absent": ". /nope.sh\nexec app\n",
        "function_fails": "start() {\n  nope\n}\nset -e\nstart\n",
        "asks_first": "if command -v nope >/dev/null; then exec nope; fi\nexec app\n",
        "directory_absent": "set -e\ncd /nope\nexec app\n",
        "gives_a_way_out": "nope || exec app\n",
        "parts": _PARTS,
        "in_a_subshell": "x=$(nope)\nexec app\n",
        "silenced": "nope 2>/dev/null\nexec app\n",
    }
    more: dict[str, Item] = {
        "data": file("x"),
        "odd": script("#!/nope\n"),
        "docker-entrypoint.d/10-one.sh": script(SH + "true\n"),
        "docker-entrypoint.d/20-two.sh": script("nope\n", 0o644),
    }
    images = []
    for name, base, line in _THREE:
        for id, text in texts.items():
            if base == BUSYBOX and id not in ("exec_nothing", "last_command_absent", "sourced_absent", "parts"):
                continue
            cmd = ("missing", "-x") if id == "exec_arguments" else ("app",)
            images.append(_i(f"{name}_{id}", base, line + text, *cmd, files=more))
    return images


def _texts_of_commands() -> list[ScriptImage]:
    """The shell form of CMD and ENTRYPOINT."""
    texts = {
        "absent": "nope --x",
        "exec": "exec nope",
        "good": "app",
        "second": "true && nope",
        "first_line": "true\nnope",
        "env": "X=1 app",
    }
    images = []
    for name, base, _ in _THREE[:3]:
        shell = "/bin/bash" if name == "bash" else "/bin/sh"
        images += [_i(f"{name}_c_{id}", base, "", shell, "-c", text, entrypoint=None) for id, text in texts.items()]
    return images


TINI, DUMB, GOSU, CATATONIT = "usr/bin/tini", "usr/bin/dumb-init", "usr/sbin/gosu", "usr/bin/catatonit"
COREUTILS = ("usr/bin/nice", "usr/bin/nohup", "usr/bin/timeout")
SETPRIV = ("usr/bin/setpriv", "usr/lib/x86_64-linux-gnu/libcap-ng.so.0")


def _wrappers() -> list[ScriptImage]:
    images = []
    kinds: dict[str, tuple[str, tuple[str, ...]]] = {
        "tini": ("tini --", (TINI,)),
        "tini_g": ("tini -g -e 143 --", (TINI,)),
        "dumb_init": ("dumb-init -c", (DUMB,)),
        "catatonit": ("catatonit --", (CATATONIT,)),
        "gosu": ("gosu app", (GOSU,)),
        "nice": ("nice -n 5", COREUTILS),
        "nohup": ("nohup", COREUTILS),
        "timeout": ("timeout -k 5 60", COREUTILS),
        "setpriv": ("setpriv --reuid=1000 --regid=1000 --clear-groups", SETPRIV),
    }
    for name, (words, tools) in kinds.items():
        for id, command in (("good", "app"), ("absent", "nope"), ("closed", "/data"), ("script", "/run.sh")):
            files = {"data": file("x"), "run.sh": script(SH + "exec nothing\n")}
            images.append(_i(f"{name}_{id}", DEBIAN, "", command, files=files, tools=tools, entrypoint=tuple(words.split())))
    images += [
        _i(f"busybox_{name}_{id}", ALPINE, "", command, entrypoint=tuple(words.split()), files=links)
        for name, words in (("nice", "nice"), ("timeout", "timeout 60"), ("nohup", "nohup"))
        for id, command in (("good", "app"), ("absent", "nope"))
        for links in ({f"bin/{name}": symlink("busybox")},)
    ]
    return images


IMAGES = (
    *_of_every_shell(),
    *_texts_of_commands(),
    *_wrappers(),
    _i("redis", DEBIAN, SH + _REDIS, "app", tools=(GOSU,)),
    _i("redis_options", DEBIAN, SH + _REDIS, "--appendonly", "yes", tools=(GOSU,)),
    _i("redis_without_gosu", DEBIAN, SH + _REDIS, "app"),
    _i("redis_of_a_user", DEBIAN, SH + _REDIS, "app", user="1000"),
    _i("gosu_nobody_known", DEBIAN, SH + "exec gosu nobody-knows app\n", tools=(GOSU,)),
    _i("gosu_no_group", DEBIAN, SH + "exec gosu app:nobody-knows app\n", tools=(GOSU,)),
    _i("gosu_not_root", DEBIAN, SH + "exec gosu app app\n", tools=(GOSU,), user="nobody"),
    _i("closed_to_the_user", DEBIAN, SH + "exec gosu app /opt/app\n", tools=(GOSU,),
       files={"opt": folder(0o700), "opt/app": script(SH + "exec app\n")}),
    _i("tini_then_script", DEBIAN, SH + 'exec "$@"\n', "lost", tools=(TINI,), entrypoint=("tini", "--", "/entrypoint")),
    _i("script_then_tini", DEBIAN, SH + 'exec tini -- "$@"\n', "app", tools=(TINI,)),
    _i("bash_arrays", DEBIAN, BASH + 'args=(app "$@")\nif [[ "${1:-}" == -* ]]; then args=(nope); fi\nexec "${args[@]}"\n', "-x"),
    _i("bash_braces", DEBIAN, BASH + 'set -euo pipefail\n: "${HOME:?}"\ncase "${1:-}" in -*) exec app "$@";; esac\nexec "$@"\n',
       "-x"),
    _i("bashism_in_dash", DEBIAN, SH + 'if [[ "$1" == app ]]; then\n  exec app\nfi\nexec "$@"\n', "app"),
    _i("source_in_dash", DEBIAN, SH + "set -e\nsource /env.sh\nexec app\n", files={"env.sh": file("X=1\n")}),
    _i("sourced", DEBIAN, SH + '. /env.sh\nexec "$RUNS" "$@"\n', files={"env.sh": file("RUNS=app\nexport RUNS\n")}),
    _i("env_of_the_image", DEBIAN, SH + 'exec "${SERVER:-nope}"\n', env=("SERVER=app", "PATH=/usr/local/bin:/usr/bin:/bin")),
    _i("path_of_the_script", DEBIAN, SH + "PATH=/opt/bin\nexport PATH\nexec tool\n",
       files={"opt/bin/tool": script("#!/usr/local/bin/app\n")}),
    _i("path_lost", DEBIAN, SH + "PATH=/opt/bin\nexec app\n"),
    _i("here", DEBIAN, SH + 'cd "$(dirname "$0")"\nexec ./opt/run\n', files={"opt/run": script(SH + "exec app\n")},
       tools=("usr/bin/dirname",)),
    _i("work_dir", DEBIAN, SH + "exec ./run\n", files={"srv/run": script(SH + "exec app\n")}, working_dir="/srv"),
    _i("unforeseen_both_good", DEBIAN, SH + 'if [ "$(head -c1 /proc/version)" = L ]; then exec app; else exec app -x; fi\n'),
    _i("unforeseen_both_bad", DEBIAN, SH + 'if [ "$(head -c1 /proc/version)" = L ]; then exec nope; else exec nope; fi\n'),
    _i("made_on_the_way", DEBIAN, SH + "cat /usr/local/bin/app >/made\nchmod +x /made\nexec /made\n", tools=("usr/bin/chmod",)),
    _i("env_s", DEBIAN, "#!/usr/bin/env -S bash -e\nnope\nexec app\n"),
    _i("env_s_quoted_command", DEBIAN, "#!/usr/bin/env -S 'bash' -c \"exec app\"\n"),
    _i("env_s_quotes", DEBIAN, "#!/usr/bin/env -S 'nope here' \"x\"\n"),
    _i("env_s_escape", DEBIAN, "#!/usr/bin/env -S nope\\_here\n"),
    _i("env_s_variable", DEBIAN, "#!/usr/bin/env -S X=1 ${TOOL} -e\nexec app\n",
       env=("TOOL=bash", "PATH=/usr/local/bin:/usr/bin:/bin")),
    _i("env_unset", DEBIAN, "#!/usr/bin/env -S -u X -i nope\n"),
    _i("env_assigns", DEBIAN, "", "env", "PATH=/nope", "app", entrypoint=None),
    _i("env_ignores", DEBIAN, "", "env", "-i", "PATH=/usr/local/bin", "app", entrypoint=None),
    _i("exec_of_text", DEBIAN, SH + "exec /usr/local/bin/tool\n", files={"usr/local/bin/tool": script("exec app\n")}),
    _i("no_command_given", DEBIAN, SH + 'exec "$@"\n'),
)  # fmt: skip
