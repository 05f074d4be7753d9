"""Rows S6 and S6b of scenarios.md and all that the launcher of a Java 17 refuses before the main class runs."""

from __future__ import annotations

from collections.abc import Callable

from tests.fleet.image import FleetImage, Items, Layer, runs
from tests.fleet.layer_images import stacked
from tests.make.java import HOME, app, jar, main_class, plain_class
from tests.make.layers import file, folder, symlink

TOO_NEW = (
    "java.lang.UnsupportedClassVersionError: {} has been compiled by a more recent version of the Java Runtime (class file "
    "version {}), this version of the Java Runtime only recognizes class file versions up to 61.0"
)
MAIN_TOO_NEW = TOO_NEW.format("p/Main", "65.0")
NOT_FOUND = "Could not find or load main class "
JAR = "java -jar /app.jar"


def _runs(id: str, files: Callable[[], Items], cmd: str = JAR, rules: str = "R4", **more: object) -> FleetImage:
    def marked() -> Items:
        # Bytes would be given an execute bit.
        return {path: file(each) if isinstance(each, bytes) else each for path, each in files().items()}

    return runs(f"java_{id}", rules, "jre", marked, cmd, **more)


def _lacks(id: str, gone: str, fails: str, cmd: str = JAR) -> FleetImage:
    layers = lambda: (Layer({"app.jar": file(app())}), Layer({}, (f"{HOME}/{gone}",)))  # noqa: E731
    return stacked(f"java_without_{id}", "R6", "jre", layers, cmd, fails=fails)


CLASSES = (
    _runs("s6_jar_of_21", lambda: {"app.jar": app(65)}, rules="S6 R2", fails=MAIN_TOO_NEW),
    _runs("s6_class_of_25_in_a_directory", lambda: {"app/Plain.class": plain_class(69)}, "java -cp /app Plain", "S6 R2",
          fails=TOO_NEW.format("Plain", "69.0")),
    _runs("s6_class_of_21_in_a_jar_of_a_wildcard", lambda: {"a/a.jar": app(65), "a/b.jar": jar({"x": b""})},
          "java -cp /a/* p.Main", "S6 R2", fails=MAIN_TOO_NEW),
    _runs("s6_jar_of_17_with_preview", lambda: {"app.jar": app(61, 65535)}, rules="S6 R3",
          fails="Preview features are not enabled"),
    _runs("s6_jar_of_16_with_preview", lambda: {"app.jar": app(60, 65535)}, rules="S6 R3",
          fails="preview features that are unsupp"),
    _runs("s6_multi_release_with_a_newer_class_for_11",
          lambda: {"app.jar": jar({"p/Main.class": main_class(), "META-INF/versions/11/p/Main.class": main_class(65)},
                   Main_Class="p.Main", Multi_Release="true")}, rules="S6 R5", fails=MAIN_TOO_NEW),
    _runs("s6_newer_class_behind_class_path", lambda: {"app.jar": jar({"x": b""}, Main_Class="p.Main", Class_Path="no.jar b.jar"),
          "b.jar": app(65)}, rules="S6 R4", fails=MAIN_TOO_NEW),
    _runs("s6b_jar_of_8", lambda: {"app.jar": app()}, rules="S6b R2"),
    _runs("s6b_jar_of_17", lambda: {"app.jar": app(61)}, rules="S6b R2"),
    _runs("s6b_multi_release_with_classes_for_21",
          lambda: {"app.jar": jar({"p/Main.class": main_class(), "META-INF/versions/21/p/Main.class": main_class(65)},
                   Main_Class="p.Main", Multi_Release="true")}, rules="S6b R5"),
    _runs("s6b_versions_without_multi_release",
          lambda: {"app.jar": jar({"p/Main.class": main_class(), "META-INF/versions/11/p/Main.class": main_class(65)},
                   Main_Class="p.Main")}, rules="S6b R5"),
    _runs("s6b_newer_class_that_comes_second", lambda: {"a/p/Main.class": main_class(), "b.jar": app(65)},
          "java -cp /a:/b.jar p.Main", "S6b R4"),
    _runs("s6b_preview_enabled", lambda: {"app.jar": app(61, 65535)}, "java --enable-preview -jar /app.jar", "S6b R3"),
)  # fmt: skip

LAUNCHER = (
    _runs("jar_absent", lambda: {"app/app-1.0.jar": app()}, fails="Error: Unable to access jarfile /app.jar"),
    _runs("jar_with_a_star", lambda: {"app/app-1.0.jar": app()}, "java -jar /app/*.jar",
          fails="Unable to access jarfile /app/*.jar"),
    _runs("jar_closed_to_the_user", lambda: {"app.jar": file(app(), 0o600)}, user="1000", fails="Unable to access jarfile"),
    _runs("jar_that_is_a_directory", lambda: {"app.jar": folder()}, fails="Error: Invalid or corrupt jarfile /app.jar"),
    _runs("jar_that_is_empty", lambda: {"app.jar": file(b"")}, fails="Invalid or corrupt jarfile"),
    _runs("jar_that_is_a_page", lambda: {"app.jar": file(b"<html>404 Not Found</html>\n")}, fails="Invalid or corrupt jarfile"),
    _runs("jar_that_was_cut", lambda: {"app.jar": file(app()[:-30])}, fails="Invalid or corrupt jarfile"),
    _runs("jar_without_manifest", lambda: {"app.jar": jar({"p/Main.class": main_class()})}, fails="Invalid or corrupt jarfile"),
    _runs("jar_without_main_class", lambda: {"app.jar": jar({"p/Main.class": main_class()}, Created_By="x")},
          fails="no main manifest attribute, in /app.jar"),
    _runs("jar_whose_main_class_is_absent", lambda: {"app.jar": app(Main_Class="p.Gone")}, fails=NOT_FOUND + "p.Gone"),
    _runs("jar_behind_a_script", lambda: {"app.jar": b"#!/bin/sh\nexit 3\n" + app()}),
    _runs("jar_by_a_link_in_the_working_directory", lambda: {"srv/app.jar": symlink("a.jar"), "srv/a.jar": app()},
          "java -jar app.jar", working_dir="/srv"),
    _runs("jar_behind_options", lambda: {"app.jar": app()},
          "java -Dx=y -Xmx64m --add-opens java.base/java.lang=ALL-UNNAMED -jar /app.jar"),
    _runs("class_absent", lambda: {"app/q/Main.class": main_class()}, "java -cp /app:/no.jar p.Main", fails=NOT_FOUND + "p.Main"),
    _runs("class_absent_without_class_path", lambda: {"app/Plain.class": plain_class()}, "java Plain", fails=NOT_FOUND + "Plain"),
    _runs("class_in_the_working_directory", lambda: {"app/Plain.class": plain_class()}, "java Plain", working_dir="/app"),
    _runs("class_by_the_environment", lambda: {"app/Plain.class": plain_class()}, "java Plain", env=("CLASSPATH=/app",)),
    _runs("class_with_slashes", lambda: {"app.jar": app()}, "java -classpath /app.jar p/Main"),
    _runs("class_in_a_closed_directory", lambda: {"app": folder(0o700), "app/Plain.class": plain_class()}, "java -cp /app Plain",
          user="1000", fails=NOT_FOUND + "Plain"),
    _runs("options_of_the_environment", lambda: {"x": "x"}, "java -cp / p.Main",
          env=("JDK_JAVA_OPTIONS=-Da=b", "JAVA_TOOL_OPTIONS=-Dc=d"),
          fails="NOTE: Picked up JDK_JAVA_OPTIONS: -Da=b\nPicked up JAVA_TOOL_OPTIONS: -Dc=d\nError: " + NOT_FOUND),
    _runs("option_removed", lambda: {"app.jar": app()}, "java -XX:+UseConcMarkSweepGC -jar /app.jar",
          fails="Unrecognized VM option 'UseConcMarkSweepGC'\nError: Could not create"),
    _runs("option_removed_of_the_environment", lambda: {"app.jar": app()}, JAR, env=("JAVA_TOOL_OPTIONS=-XX:MaxPermSize=64m",),
          fails="Unrecognized VM option 'MaxPermSize=64m'"),
    _runs("option_removed_and_ignored", lambda: {"app.jar": app()},
          "java -XX:+IgnoreUnrecognizedVMOptions -XX:+UseParNewGC -jar /app.jar"),
)  # fmt: skip

RUNTIME = (
    _lacks("libjava", "lib/libjava.so", "Error: could not find libjava.so\nError: Could not find Java SE Runtime Environment."),
    _lacks("jvm_cfg", "lib/jvm.cfg", f"Error: could not open `/{HOME}/lib/jvm.cfg'"),
    _lacks("libjvm", "lib/server", f"Error: missing `server' JVM at `/{HOME}/lib/server/libjvm.so'."),
    _lacks("modules_and_jar", "lib/modules", "Unable to access jarfile /no.jar", "java -jar /no.jar"),
    _lacks("its_launcher", "bin/java", 'exec: "java": executable file not found in $PATH'),
)

IMAGES = (*CLASSES, *LAUNCHER, *RUNTIME)
