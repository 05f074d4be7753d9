"""The `java` launcher and the first steps of its JVM, up to the moment the main class is there.

Mirrors OpenJDK `libjli/java.c` and `sun.launcher.LauncherHelper` of releases 8 to 25, with their lines and exit statuses. What
cannot be known from the image (agents, class loaders of one's own, archives that were not read) is not claimed (R4-R6, R43).
"""

from __future__ import annotations

from typing import NamedTuple

from analyzers.facts import Kind
from analyzers.finding import Attempt, Step, show
from analyzers.handover.class_path import ClassPath, FoundClass, Search
from analyzers.handover.java_command import JavaCommand, read_command
from analyzers.handover.place import Refusal, Surroundings
from analyzers.jar_facts import JarFacts
from analyzers.jvm import Jvm, find_jvm, release_of
from analyzers.kernel import Execution
from analyzers.rootfs import Node, Resolution
from analyzers.trail import attempt, show_path

_NO_VM = (b"Error: Could not create the Java Virtual Machine.", b"Error: A fatal exception has occurred. Program will exit.")
# Options that JDK 17 refuses, tried there one by one; what was removed never came back.
_REMOVED_SINCE = 17
_REMOVED = frozenset(
    b"MaxPermSize PermSize UseConcMarkSweepGC UseParNewGC CMSParallelRemarkEnabled CMSInitiatingOccupancyFraction "
    b"UseCMSInitiatingOccupancyOnly CMSClassUnloadingEnabled CMSScavengeBeforeRemark CMSIncrementalMode "
    b"CMSPermGenSweepingEnabled PrintGCDateStamps PrintGCTimeStamps PrintGCApplicationStoppedTime "
    b"PrintTenuringDistribution PrintHeapAtGC PrintGCCause PrintReferenceGC UseGCLogFileRotation NumberOfGCLogFiles "
    b"GCLogFileSize UseCGroupMemoryLimitForHeap AggressiveOpts UseFastAccessorMethods TraceClassLoading "
    b"G1PrintHeapRegions UseStringCache UseCompressedStrings".split()
)
_REMOVED_WORDS = frozenset((b"-d64", b"-d32", b"-Xincgc"))
# Packages of the JDK's own modules, whose classes the application's loader finds without any class path.
_OWN_PACKAGES = (b"java/", b"javax/", b"jdk/", b"sun/", b"com/sun/", b"org/ietf/", b"org/w3c/", b"org/xml/", b"netscape/")
_SPRING = b"org/springframework/boot/loader/"
_SPRING_CLASSES = (b"BOOT-INF/classes/", b"WEB-INF/classes/")
_PREVIEW = 65535
_MINORS_SINCE = 17
"""The first release whose words for odd minor versions were tried."""
_PREVIEW_MAJOR = 56


def start_java(place: Surroundings, executed: Execution, family: str) -> Refusal | None:
    """What the launcher refuses; None when it starts the main class, or when that cannot be told."""
    program = executed.program
    jvm = None if program is None else find_jvm(place.rootfs, program.path)
    if program is None or jvm is None:
        return None

    def read_file(path: bytes) -> bytes | None:
        found = place.rootfs.resolve(path, cwd=place.cwd, creds=executed.creds).node
        return None if found is None else place.rootfs.text(found)

    command = read_command(executed.argv, place.env, jvm.release, read_file)
    return None if command is None else _Launch(place, executed, jvm, command).run()


class _Jar(NamedTuple):
    """The file behind -jar."""

    facts: JarFacts | None
    found: Resolution


class _Launch:
    """One run of the launcher."""

    def __init__(self, place: Surroundings, executed: Execution, jvm: Jvm, command: JavaCommand) -> None:
        self.place = place
        self.executed = executed
        self.jvm = jvm
        self.command = command
        self.by = "" if executed.program is None else show_path(executed.program.path)

    def run(self) -> Refusal | None:
        command = self.command
        jar: _Jar | None = None
        if command.jar:
            jar = self._open_jar()
            refused = self._refuse_jar(jar)
            if refused is not None:
                return refused
        refused = self._refuse_runtime() or self._refuse_options()
        if refused is not None or command.changes_classes:
            return refused
        if jar is None:
            return self._judge_class(command.main_class, command.class_path)
        return self._start_jar(jar)

    # -- the jar --

    def _open_jar(self) -> _Jar:
        rootfs = self.place.rootfs
        found = rootfs.resolve(self.command.jar, cwd=self.place.cwd, creds=self.executed.creds)
        node = found.node
        known = node is not None and node.entry.kind == Kind.FILE and not rootfs.unread(node)
        return _Jar(rootfs.jar(node) if node is not None and known else None, found)

    def _refuse_jar(self, jar: _Jar) -> Refusal | None:
        """JLI_ParseManifest, before there is any JVM."""
        found, name = jar.found, self.command.jar
        node, rootfs = found.node, self.place.rootfs
        if found.unknown:
            return None
        closed = node is not None and not rootfs.may_read(node, self.executed.creds)
        if node is None or closed:
            line = b"Error: Unable to access jarfile " + name
            why = (
                f"{show_path(found.path)} is closed to the user." if closed or found.error == "EACCES" else self._other_jars(name)
            )
            return self._refuse_file(line, "java.jar-absent", found, why)
        why = self._why_no_jar(node, jar.facts)
        if not why:
            return None
        return self._refuse_file(b"Error: Invalid or corrupt jarfile " + name, "java.jar-invalid", found, why)

    def _why_no_jar(self, node: Node, facts: JarFacts | None) -> str:
        """Why the launcher finds no manifest in it; empty where it may find one."""
        if node.entry.kind == Kind.DIRECTORY:
            return "It is a directory."
        if node.entry.size == 0:
            return "It is empty."
        if facts is not None and facts.absent_end:
            return "It has no end of an archive: it was cut short, or is something else."
        if facts is not None and not (facts.manifest or facts.odd_manifest or facts.defects):
            return "It has no META-INF/MANIFEST.MF."
        return ""

    def _other_jars(self, name: bytes) -> str:
        base = name.rpartition(b"/")[2]
        other = next(self.place.rootfs.named(base), None)
        if other is not None:
            return f"A file of that name lies at {show_path(other.path)}."
        if any(byte in name for byte in b"*$"):
            return "The name has a character that only a shell would replace, and none is there."
        return f"No file of the image is named {show(base)}."

    def _start_jar(self, jar: _Jar) -> Refusal | None:
        facts = jar.facts
        if facts is None or facts.odd_manifest or facts.defects:
            return None
        if facts.main_class is None:
            line = b"no main manifest attribute, in " + self.command.jar
            why = "Its META-INF/MANIFEST.MF has no Main-Class."
            return self._refuse_file(line, "java.no-main-class", jar.found, why, self._begun(line))
        refused = self._judge_class(facts.main_class, b"", [self.command.jar])
        launcher = facts.main_class.replace(b".", b"/")
        if refused is not None or not launcher.startswith(_SPRING) or not facts.start_class:
            return refused
        return self._judge_start_class(jar, facts)

    def _judge_start_class(self, jar: _Jar, facts: JarFacts) -> Refusal | None:
        """Spring Boot's launcher loads Start-Class from inside the jar; the stack below its line is that launcher's."""
        name = facts.start_class.replace(b".", b"/")
        versions = facts.versions()
        found = next((versions[prefix + name] for prefix in _SPRING_CLASSES if prefix + name in versions), None)
        if found is None or jar.found.node is None:
            return None
        words = self._unsupported(name, *found)
        if words is None:
            return None
        line = b'Exception in thread "main" ' + words
        where = FoundClass(jar.found.node, self.command.jar, *found)
        return self._too_new(facts.start_class, where, self._begun(line), line, ())

    # -- the runtime --

    def _has(self, path: bytes) -> bool | None:
        """Whether the runtime has this file; None when a layer may hide it."""
        found = self.place.rootfs.resolve(b"/" + self.jvm.home + b"/" + path, creds=self.executed.creds)
        return None if found.unknown else found.node is not None

    def _refuse_runtime(self) -> Refusal | None:
        home = b"/" + self.jvm.home
        if self.jvm.release < 9 or self.jvm.openj9:
            return None
        if self._has(b"lib/libjava.so") is False and self._has(b"jre/lib/libjava.so") is False:
            more = b"Error: Could not find Java SE Runtime Environment."
            return self._refuse_lack("lib/libjava.so", b"Error: could not find libjava.so", more, exit_code=2)
        if self._has(b"lib/jvm.cfg") is False:
            return self._refuse_lack("lib/jvm.cfg", b"Error: could not open `" + home + b"/lib/jvm.cfg'", exit_code=1)
        others = (b"client", b"minimal", b"zero")
        if self._has(b"lib/server/libjvm.so") is False and all(self._has(b"lib/%s/libjvm.so" % kind) is False for kind in others):
            line = b"Error: missing `server' JVM at `" + home + b"/lib/server/libjvm.so'."
            more = b"Please install or use the JRE or JDK that contains these missing components."
            return self._refuse_lack("lib/server/libjvm.so", line, more, exit_code=4)
        if self._has(b"lib/modules") is False and self._has(b"modules/java.base") is False:
            more = b"Failed setting boot class path."
            begun = (*self.command.picked_up, b"Error occurred during initialization of VM")
            refused = self._refuse_lack("lib/modules", *begun, more, exit_code=1)
            return refused._replace(message=more)
        return None

    def _refuse_options(self) -> Refusal | None:
        options = self.command.options
        if self.jvm.release < _REMOVED_SINCE or self.jvm.openj9 or b"-XX:+IgnoreUnrecognizedVMOptions" in options:
            return None
        for option in options:
            name = option.removeprefix(b"-XX:")
            if option in _REMOVED_WORDS:
                line = b"Unrecognized option: " + option
            elif name != option and name.lstrip(b"+-").partition(b"=")[0] in _REMOVED:
                line = b"Unrecognized VM option '" + name.lstrip(b"+-") + b"'"
            else:
                continue
            why = f"{show(option)} was removed before Java {self.jvm.release}."
            lines = self._begun(line, *_NO_VM)
            return Refusal(lines, 1, "java.option-removed", self.jvm.home, option, message=line, why=why)
        return None

    # -- the main class --

    def _judge_class(self, written: bytes, class_path: bytes, elements: list[bytes] | None = None) -> Refusal | None:
        place = self.place
        shown = written.replace(b"/", b".")
        name = shown.replace(b".", b"/")
        if not name or name.startswith(_OWN_PACKAGES) or name.startswith(b"/"):
            return None
        looking = ClassPath(place.rootfs, place.cwd, self.executed.creds, self.jvm.release)
        search = looking.find(class_path, name) if elements is None else looking.look(elements, name)
        if search.unknown:
            return None
        if search.found is None:
            return self._absent(shown, search)
        if b"*" in class_path and search.found.element not in class_path.split(b":"):
            return self._judge_wildcard(shown, name, search.found, looking, class_path)
        return self._judge_version(shown, name, search.found, search.attempts)

    def _judge_wildcard(
        self, shown: bytes, name: bytes, found: FoundClass, looking: ClassPath, class_path: bytes
    ) -> Refusal | None:
        """The jars of a directory come in no certain order: the class must be in one of them alone."""
        others = [each for each in looking.elements(class_path) if each != found.element]
        again = looking.look(others, name)
        return self._judge_version(shown, name, found, ()) if again.found is None and not again.unknown else None

    def _absent(self, shown: bytes, search: Search) -> Refusal:
        lines: tuple[bytes, ...] = (
            b"Error: Could not find or load main class " + shown,
            b"Caused by: java.lang.ClassNotFoundException: " + shown,
        )
        step = Step("class", show(shown), self.by, ok=False, attempts=search.attempts)
        kept = lines[: 2 if self.jvm.release >= 9 else 1]
        why = self._nearly(shown)
        return Refusal(self._begun(*kept), 1, "java.class-absent", b"", shown, (step,), message=lines[0], why=why)

    def _nearly(self, shown: bytes) -> str:
        """Where a class of that simple name lies instead."""
        simple = shown.rpartition(b".")[2]
        for facts in self.place.rootfs.layers:
            for path in facts.classes:
                if path.endswith(b"/" + simple + b".class") and self.place.rootfs.resolve(b"/" + path).node is not None:
                    return f"A class of that name lies at {show_path(path)}."
        return "No element of the class path has it."

    def _judge_version(self, shown: bytes, name: bytes, found: FoundClass, attempts: tuple[Attempt, ...]) -> Refusal | None:
        words = self._unsupported(name, found.major, found.minor)
        if words is None:
            return None
        if self.jvm.release >= 11:
            first = b"Error: LinkageError occurred while loading main class " + shown
            return self._too_new(shown, found, self._begun(first, b"\t" + words), words, attempts)
        first = b"Error: A JNI error has occurred, please check your installation and try again"
        second = b'Exception in thread "main" ' + words
        return self._too_new(shown, found, self._begun(first, second), second, attempts)

    def _unsupported(self, name: bytes, major: int, minor: int) -> bytes | None:
        """The words of the exception for a class file of this version; None for one that the JVM reads."""
        newest = self.jvm.newest_class
        error = b"java.lang.UnsupportedClassVersionError: "
        if major > newest:
            if self.jvm.openj9:
                says = b"JVMCFRE199E bad major version %d.%d of class=%s, the maximum supported major version is %d.0; offset=6"
                return error + says % (major, minor, name, newest)
            says = (
                b"%s has been compiled by a more recent version of the Java Runtime (class file version %d.%d), "
                b"this version of the Java Runtime only recognizes class file versions up to %d.0"
            )
            return error + says % (name, major, minor, newest)
        if self.jvm.release < _MINORS_SINCE or self.jvm.openj9 or major < _PREVIEW_MAJOR or minor != _PREVIEW:
            return None
        if major == newest:
            if b"--enable-preview" in self.command.options:
                return None
            says = b"Preview features are not enabled for %s (class file version %d.%d). Try running with '--enable-preview'"
            return error + says % (name, major, minor)
        says = (
            b"%s (class file version %d.%d) was compiled with preview features that are unsupported. "
            b"This version of the Java Runtime only recognizes preview features for class file version %d.%d"
        )
        return error + says % (name, major, minor, newest, _PREVIEW)

    def _too_new(
        self, shown: bytes, found: FoundClass, lines: tuple[bytes, ...], message: bytes, attempts: tuple[Attempt, ...]
    ) -> Refusal:
        jvm, wanted = self.jvm, release_of(found.major)
        home = show_path(jvm.home)
        why = (
            f"{show(shown)} in {show_path(found.node.path)} has class-file version {found.major}.{found.minor} ({wanted}); the "
            f"{jvm.words} in {home} reads up to {jvm.newest_class}.0."
        )
        if found.minor == _PREVIEW:
            remedies: tuple[str, ...] = ("Compile without --enable-preview, or run that very release with it.",)
        else:
            remedies = (f"Use a base with a JRE of {wanted} or later.", f"Or compile with --release {jvm.release}.")
        steps = (
            Step("runtime", f"java {jvm.version}", self.by, path=home, layer=self.place.rootfs.layer_of(jvm.node)),
            Step("class", show(shown), self.by, path=show_path(found.node.path), ok=False, attempts=attempts),
        )
        cause = "java.class-too-new"
        return Refusal(lines, 1, cause, found.node.path, shown, steps, message=message, why=why, remedies=remedies)

    # -- words --

    def _begun(self, *lines: bytes) -> tuple[bytes, ...]:
        """Lines of a JVM that runs, behind what it and its launcher say first."""
        return (*self.command.notes, *self.command.picked_up, *lines)

    def _refuse_file(
        self, line: bytes, cause: str, found: Resolution, why: str, lines: tuple[bytes, ...] | None = None
    ) -> Refusal:
        """`lines` where the JVM runs already."""
        tried = attempt(self.place.rootfs, "path", self.command.jar, found)
        step = Step("jar", show(self.command.jar), self.by, ok=False, attempts=(tried,))
        said = (*self.command.notes, line) if lines is None else lines
        return Refusal(said, 1, cause, found.path, self.command.jar, (step,), message=line, why=why)

    def _refuse_lack(self, lacking: str, *lines: bytes, exit_code: int) -> Refusal:
        """The launcher misses a file of its own runtime; the first line says it."""
        home = show_path(self.jvm.home)
        steps = (Step("runtime", f"{home}/{lacking}", self.by, ok=False),)
        said = (*self.command.notes, *lines)
        cause, why = "java.runtime-incomplete", f"{home}/{lacking} is not there."
        return Refusal(said, exit_code, cause, self.jvm.home, lacking.encode(), steps, message=lines[0], why=why)
