"""Images that a real `docker build` makes of a Dockerfile: their layers are what BuildKit and overlayfs leave, not ours."""

from __future__ import annotations

from collections.abc import Callable

from tests.fleet.image import FleetImage, Items, Layer
from tests.fleet.libraries import A, B, needs, one
from tests.fleet.programs import go_net, hello, rust
from tests.make.elves import runpath
from tests.make.layers import file, program
from tests.make.roots import machine

TRIPLET = "x86_64-linux-gnu"
NOT_THERE = "cannot open shared object file: No such file or directory"


def built(id: str, rules: str, base: str, dockerfile: str, context: Callable[[], Items] = dict, **more: object) -> FleetImage:
    """`dockerfile` without indentation; FROM base takes the base."""
    lines = "\n".join(line.strip() for line in dockerfile.strip().splitlines()) + "\n"
    values: dict[str, object] = {
        "id": id, "rules": tuple(rules.split()), "base": base, "layers": lambda: (Layer(context()),), "dockerfile": lines,
    }  # fmt: skip
    return FleetImage(**(values | more))  # type: ignore[arg-type]


def tools() -> Items:
    """ldconfig and a static busybox for what RUN does."""
    return {**machine("sbin/ldconfig"), "busybox": program(machine("bin/busybox")["bin/busybox"].content)}


def with_library(**more: bytes) -> Items:
    return {"app": program(needs(A)), A: program(one(A)), **{name: program(each) for name, each in more.items()}, **tools()}


TOOLS = "COPY busybox /tools/busybox\nCOPY sbin/ldconfig /tools/ldconfig"
IMAGES = (
    built("built_static_on_scratch", "K18", "", "FROM scratch\nCOPY --chmod=755 app /app\nCMD [\"/app\"]",
          lambda: {"app": program(hello("-static"))}),
    built("built_multi_stage_without_the_library", "G18", "debian", f"""
        FROM base AS build
        COPY app {A} /src/
        FROM base
        COPY --from=build /src/app /app
        CMD ["/app"]""", with_library, fails=f"{A}: {NOT_THERE}"),
    built("built_library_copied_but_no_ldconfig", "G3", "debian", f"""
        FROM base
        COPY {A} /usr/local/lib/
        COPY app /app
        CMD ["/app"]""", with_library, fails=f"{A}: {NOT_THERE}"),
    built("built_library_copied_and_ldconfig_run", "G35", "debian", f"""
        FROM base
        {TOOLS}
        COPY {A} /usr/local/lib/
        RUN /tools/ldconfig
        COPY app /app
        CMD ["/app"]""", with_library, good=True),
    built("built_library_removed_after_ldconfig", "G37", "debian", f"""
        FROM base
        {TOOLS}
        COPY {A} /usr/local/lib/
        RUN /tools/ldconfig && /tools/busybox rm /usr/local/lib/{A}
        COPY app /app
        CMD ["/app"]""", with_library, fails=f"{A}: {NOT_THERE}"),
    built("built_libraries_cleaned_away", "G18", "debian", f"""
        FROM base
        {TOOLS}
        COPY app /app
        RUN /tools/busybox rm -rf /usr/lib/{TRIPLET}/libgcc_s.so.1 /usr/lib/{TRIPLET}/libdl*
        CMD ["/app"]""", lambda: {"app": program(rust()), **tools()}, fails="libgcc_s.so.1: cannot open shared object file"),
    built("built_directory_made_anew", "G18", "debian", f"""
        FROM base
        {TOOLS}
        ENV LD_LIBRARY_PATH=/opt/lib
        COPY {A} /opt/lib/
        COPY app /app
        RUN /tools/busybox rm -rf /opt/lib && /tools/busybox mkdir /opt/lib && echo x > /opt/lib/{B}
        CMD ["/app"]""", with_library, fails=f"{A}: {NOT_THERE}"),
    built("built_directory_moved_behind_a_link", "G10", "debian", f"""
        FROM base
        {TOOLS}
        COPY {A} /opt/lib/
        COPY app /app
        ENV LD_LIBRARY_PATH=/opt/now
        RUN /tools/busybox mv /opt/lib /opt/lib-1 && /tools/busybox ln -s lib-1 /opt/now
        CMD ["/app"]""", with_library, good=True),
    built("built_shell_form_on_scratch", "C4", "", "FROM scratch\nCOPY app /app\nCMD /app",
          lambda: {"app": program(hello("-static"))},
          fails='exec: "/bin/sh": stat /bin/sh: no such file or directory'),
    built("built_exec_form_that_is_no_json_on_scratch", "C4", "", "FROM scratch\nCOPY app /app\nCMD ['/app']",
          lambda: {"app": program(hello("-static"))}, fails='exec: "/bin/sh": stat /bin/sh: no such file or directory'),
    built("built_shell_form_on_debian", "C4", "debian", "FROM base\nCOPY app /app\nCMD /app", lambda: {"app": program(hello())},
          good=True),
    built("built_mode_lost", "C12", "debian", "FROM base\nCOPY --chmod=644 app /app\nENTRYPOINT [\"/app\"]",
          lambda: {"app": program(hello())}, fails='exec: "/app": permission denied'),
    built("built_user_of_another_stage", "C21", "busybox-glibc", """
        FROM base AS build
        RUN echo web:x:7:7::/: >> /etc/passwd
        FROM base
        COPY app /app
        USER web
        CMD ["/app"]""", lambda: {"app": program(hello())}, fails="unable to find user web"),
    built("built_working_dir_and_relative_entrypoint", "C11 C16 C17", "debian", """
        FROM base
        WORKDIR srv
        WORKDIR app
        COPY app .
        ENTRYPOINT ["./app"]""", lambda: {"app": program(hello())}, good=True),
    built("built_set_uid_for_a_user", "G22 K23", "debian", f"""
        FROM base
        {TOOLS}
        COPY {A} /a/
        COPY app /app
        RUN /tools/busybox chmod 4755 /app
        ENV LD_LIBRARY_PATH=/a
        USER app
        CMD ["/app"]""", with_library, fails=f"{A}: {NOT_THERE}"),
    built("built_chowned_and_closed", "C13 G33", "debian", f"""
        FROM base
        COPY --chown=app:app {A} /a/
        COPY --chmod=700 app /app
        ENV LD_LIBRARY_PATH=/a
        USER 65534
        CMD ["/app"]""", with_library),
    built("built_go_on_scratch", "S1 K15", "", "FROM scratch\nCOPY app /app\nENTRYPOINT [\"/app\"]",
          lambda: {"app": program(go_net())},
          fails="exec /app: no such file or directory"),
    built("built_script_with_crlf", "K8", "debian", "FROM base\nCOPY app /usr/local/bin/\nENTRYPOINT [\"app\"]",
          lambda: {"app": program(b"#!/bin/sh\r\necho hello\r\n")}, fails="exec /usr/local/bin/app: no such file or directory"),
    built("built_by_the_classic_builder", "G10", "debian", f"""
        FROM base
        COPY {A} /a/{A}
        COPY app /app
        CMD ["/app"]""", lambda: {"app": program(needs(A, flags=runpath("/a"))), A: file(one(A))}, builder="classic", good=True),
    built("built_by_the_classic_builder_with_a_deletion", "G18", "debian", f"""
        FROM base
        {TOOLS}
        COPY {A} /a/{A}
        COPY app /app
        RUN ["/tools/busybox", "rm", "/a/{A}"]
        CMD ["/app"]""", lambda: {**with_library(), "app": program(needs(A, flags=runpath("/a")))}, builder="classic",
        fails=f"{A}: {NOT_THERE}"),
)  # fmt: skip
