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
        example="Error: Unable to access jarfile /app.jar",
        evidence="Entrypoint and Cmd; paths and modes of the merged layers",
    ),
    Rule(
        "java.jar-invalid",
        _F,
        "The file to be started is no jar",
        "It has no end of a zip archive, or no META-INF/MANIFEST.MF: a download that failed, or a build that was cut.",
        "Build the jar again with a manifest, and compare its size and digest before and after COPY.",
        "R4, OpenJDK libjli parse_manifest.c",
        Reason.RUNTIME,
        example="Error: Invalid or corrupt jarfile /app.jar",
        evidence="end and central directory of the jar",
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
        example="no main manifest attribute, in /app.jar",
        evidence="META-INF/MANIFEST.MF of the jar",
    ),
    Rule(
        "java.class-absent",
        _F,
        "The main class is not on the class path",
        "Every element of the class path was looked at; what is missing or closed to the user is passed over without a word.",
        "Add the jar or directory that has the class to the class path, or mend the class's name.",
        "R4, OpenJDK sun.launcher.LauncherHelper",
        Reason.RUNTIME,
        example="Error: Could not find or load main class com.example.App",
        evidence="class path; central directories of its jars, class files in its directories",
    ),
    Rule(
        "java.class-too-new",
        _F,
        "The program was compiled for a newer Java than the image has",
        "A JVM of release N reads class files up to version N + 44.",
        "Run on a JRE of at least that release, or compile with --release of the one the image has.",
        "R1, R2, HotSpot classFileParser.cpp",
        Reason.RUNTIME,
        example="java.lang.UnsupportedClassVersionError: com/example/App has been compiled by a more recent version "
        "of the Java Runtime (class file version 65.0), this version of the Java Runtime only recognizes "
        "class file versions up to 61.0",
        evidence="first eight bytes of the class; JAVA_VERSION in the runtime's `release` file",
    ),
    Rule(
        "java.runtime-incomplete",
        _F,
        "The Java runtime lacks a part of itself",
        "The launcher finds its own files beside itself: lib/libjava.so, lib/jvm.cfg, lib/server/libjvm.so, lib/modules.",
        "Copy the whole directory of the runtime, or have jlink make one that has only the modules needed.",
        "R6, OpenJDK libjli java_md.c",
        Reason.RUNTIME,
        example="Error: could not find libjava.so",
        evidence="paths of the merged layers below the runtime's home",
    ),
    Rule(
        "java.libjvm-unloadable",
        _F,
        "The Java runtime lacks a library",
        "The launcher loads libjvm.so by dlopen: what that file needs is not seen in the launcher's own list.",
        "Install the package that has the library, or use a base image that has the runtime.",
        "R6, OpenJDK libjli java_md.c LoadJavaVM",
        Reason.LIBRARY_ABSENT,
        example="Error: failed /opt/java/lib/server/libjvm.so, because libstdc++.so.6: cannot open shared object "
        "file: No such file or directory",
        evidence="DT_NEEDED of libjvm.so and of what it needs; paths of the merged layers",
    ),
    Rule(
        "java.option-removed",
        _F,
        "The JVM does not know an option that it is given",
        "Options of older releases were removed, and the JVM ends at the first that it does not know.",
        "Remove the option, or add -XX:+IgnoreUnrecognizedVMOptions.",
        "HotSpot arguments.cpp",
        Reason.RUNTIME,
        example="Unrecognized VM option 'UseConcMarkSweepGC'",
        evidence="Entrypoint, Cmd, JAVA_TOOL_OPTIONS and JDK_JAVA_OPTIONS; the runtime's `release` file",
    ),
    Rule(
        "java.library-too-new",
        _L,
        "A jar was compiled for a newer Java than the image has",
        "Its classes fail with UnsupportedClassVersionError as soon as one of them is used.",
        "Use the release of the library for this Java, or a newer JRE.",
        "R1, R2",
        example="a.jar is for Java 21 (class file version 65.0), and the image has Java 17, which reads up to 61.0",
        evidence="class files of every jar, versioned directories left out; the runtime's `release` file",
    ),
    Rule(
        "java.native-library-unfit",
        _L,
        "A native library inside a jar does not fit the image",
        "It is unpacked to a temporary file and loaded when the class that needs it is first used.",
        "Use a release of the jar that brings a library for this image's C library and architecture, or another base.",
        "R6, failures 33 and 34",
        example="java.lang.UnsatisfiedLinkError: /tmp/libsnappyjava.so: Error loading shared library "
        "ld-linux-x86-64.so.2: No such file or directory (needed by /tmp/libsnappyjava.so)",
        evidence="ELF headers of the libraries inside all jars; libraries of the merged layers",
    ),
    Rule(
        "java.jdk-in-image",
        _I,
        "The image has a JDK where a JRE would do",
        "Compiler, debugger and the modules to link from are needed to build the program and not to run it.",
        "Run on a JRE of the same release, or on a runtime made by jlink.",
        "R6",
        example="86.6 MB of the JDK 17.0.15 of Debian in /usr/lib/jvm/java-17-openjdk-amd64 are for compiling and linking",
        evidence="the runtime's `release` file, bin/javac and jmods; sizes",
    ),
)  # fmt: skip
