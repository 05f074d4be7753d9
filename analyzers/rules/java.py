"""Java: the launcher, the class path, and what jars bring."""

from __future__ import annotations

from analyzers.finding import Reason, Severity
from analyzers.rules.rule import Rule

_F, _L, _W, _I = Severity.FATAL, Severity.LATER, Severity.WARNING, Severity.INFO

TABLE = (
    Rule(
        "java.jar-absent",
        _F,
        "The jar to be started cannot be opened",
        "The launcher opens the file behind -jar before it starts the JVM.",
        "Copy the jar to the path that the command names, readable for the user, or mend the path.",
        "R4, OpenJDK libjli java.c SelectVersion",
        Reason.RUNTIME,
    ),
    Rule(
        "java.jar-invalid",
        _F,
        "The file to be started is no jar",
        "It has no end of a zip archive, or no META-INF/MANIFEST.MF: a download that failed, or a build that was cut.",
        "Build the jar again with a manifest, and compare its size and digest before and after COPY.",
        "R4, OpenJDK libjli parse_manifest.c",
        Reason.RUNTIME,
    ),
    Rule(
        "java.no-main-class",
        _F,
        "The jar names no main class",
        "java -jar starts the class that Main-Class names in META-INF/MANIFEST.MF; library jars have none.",
        "Have the build write Main-Class (Maven: maven-jar-plugin or spring-boot-maven-plugin repackage; Gradle: jar.manifest or "
        "bootJar), or start it with -cp and the class's name.",
        "R4, OpenJDK sun.launcher.LauncherHelper",
        Reason.RUNTIME,
    ),
    Rule(
        "java.class-absent",
        _F,
        "The main class is not on the class path",
        "Every element of the class path was looked at; what is missing or closed to the user is passed over without a word.",
        "Add the jar or directory that has the class to the class path, or mend the class's name.",
        "R4, OpenJDK sun.launcher.LauncherHelper",
        Reason.RUNTIME,
    ),
    Rule(
        "java.class-too-new",
        _F,
        "The program was compiled for a newer Java than the image has",
        "A JVM of release N reads class files up to version N + 44.",
        "Run on a JRE of at least that release, or compile with --release of the one the image has.",
        "R1, R2, HotSpot classFileParser.cpp",
        Reason.RUNTIME,
    ),
    Rule(
        "java.runtime-incomplete",
        _F,
        "The Java runtime lacks a part of itself",
        "The launcher finds its own files beside itself: lib/libjava.so, lib/jvm.cfg, lib/server/libjvm.so, lib/modules.",
        "Copy the whole directory of the runtime, or have jlink make one that has only the modules needed.",
        "R6, OpenJDK libjli java_md.c",
        Reason.RUNTIME,
    ),
    Rule(
        "java.option-removed",
        _F,
        "The JVM does not know an option that it is given",
        "Options of older releases were removed, and the JVM ends at the first that it does not know.",
        "Remove the option, or add -XX:+IgnoreUnrecognizedVMOptions.",
        "HotSpot arguments.cpp",
        Reason.RUNTIME,
    ),
    Rule(
        "java.library-too-new",
        _L,
        "A jar was compiled for a newer Java than the image has",
        "Its classes fail with UnsupportedClassVersionError as soon as one of them is used.",
        "Use the release of the library for this Java, or a newer JRE.",
        "R1, R2",
    ),
    Rule(
        "java.native-library-unfit",
        _L,
        "A native library inside a jar does not fit the image",
        "It is unpacked to a temporary file and loaded when the class that needs it is first used.",
        "Use a release of the jar that brings a library for this image's C library and architecture, or another base.",
        "R6, failures 33 and 34",
    ),
    Rule(
        "java.jdk-in-image",
        _I,
        "The image has a JDK where a JRE would do",
        "Compiler, debugger and the modules to link from are needed to build the program and not to run it.",
        "Run on a JRE of the same release, or on a runtime made by jlink.",
        "R6",
    ),
)  # fmt: skip
